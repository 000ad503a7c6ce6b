"""Every test sees eight CPU devices, and every warning is an error (pyproject.toml)."""

import os
from pathlib import Path

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
if 'xla_force_host_platform_device_count' not in os.environ.get('XLA_FLAGS', ''):
  os.environ['XLA_FLAGS'] = (
    os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=8'
  ).strip()

import jax
import pytest

jax.config.update('jax_numpy_rank_promotion', 'allow')

DATA = Path(os.environ.get('METAKIT_DATA') or Path(__file__).parents[2] / 'shared' / 'data')


@pytest.fixture(scope='session')
def data_dir() -> Path:
  """The folder of real data; the test is skipped where there is none."""
  if not DATA.is_dir():
    pytest.skip(f'no real data at {DATA}; set METAKIT_DATA to its folder')
  return DATA
