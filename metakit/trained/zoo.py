"""Trained learners that come with metakit, each a .safetensors file with a card in its header."""

from pathlib import Path

FOLDER = Path(__file__).parents[1] / 'zoo'
ENDING = '.safetensors'


def names() -> list[str]:
  """Returns the names that metakit.load knows."""
  return sorted(path.stem for path in FOLDER.glob(f'*{ENDING}'))


def path_of(name: str) -> Path:
  """Returns the file of a trained learner."""
  return FOLDER / f'{name}{ENDING}'
