"""Where the real data for tests lies."""

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get('METAKIT_DATA') or Path(__file__).parents[3] / 'shared' / 'data')


def real_data(*parts: str) -> Path:
  """Returns the folder or file below the data folder; skips the test where it is absent."""
  path = DATA.joinpath(*parts)
  if not path.exists():
    pytest.skip(f'{path} is absent; set METAKIT_DATA to the folder that holds {"/".join(parts)}')
  return path
