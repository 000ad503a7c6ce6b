"""Trained learners that come with metakit; `metakit.load(name)` loads one.

Each is a .safetensors file, whose header has a card: the command that trained it, device, seconds,
data and their licence, and the score with its interval. README.md shows all cards.
"""

import json
from pathlib import Path
from typing import Any

import safetensors

__all__ = ['card', 'names', 'path_of']

FOLDER = Path(__file__).parent
ENDING = '.safetensors'
HEADER = 'metakit'


def names() -> list[str]:
  """Returns the names that metakit.load knows.

  >>> 'sinusoid-maml' in names()
  True
  """
  return sorted(path.stem for path in FOLDER.glob(f'*{ENDING}'))


def path_of(name: str) -> Path:
  """Returns the file of a trained learner.

  >>> path_of('sinusoid-maml').name
  'sinusoid-maml.safetensors'
  """
  return FOLDER / f'{name}{ENDING}'


def card(name: str) -> dict[str, Any]:
  """Returns what is known of a trained learner: command, score, data, licence, ...

  Raises:
    ValueError: for an unknown name.

  >>> card('sinusoid-maml')['metric']
  'loss'
  """
  if name not in names():
    raise ValueError(f'{name!r} is not in the zoo; known: {", ".join(names())}')
  with safetensors.safe_open(path_of(name), 'numpy') as file:
    return json.loads(file.metadata()[HEADER])['card']
