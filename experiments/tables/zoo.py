"""metakit/zoo/README.md: the cards of the trained learners that come with metakit."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors

from experiments.output.text import format_duration, format_estimate
from experiments.tables.pages import markdown_table

FOLDER = Path('metakit/zoo')
PAGE = FOLDER / 'README.md'
HEAD = """# Trained learners

Written by `python -m experiments.tables` from the headers of the files. Each was trained by its
command from this repository. `metakit.load('NAME')` loads one.
"""


def texts(root: Path) -> dict[Path, str]:
  """Returns what the page should say; nothing where the zoo is empty.

  Raises:
    OSError: if a file cannot be read.
  """
  files = sorted((root / FOLDER).glob('*.safetensors'))
  if not files:
    return {}
  cards = {path: header(path) for path in files}
  total = sum(path.stat().st_size for path in files)
  size = f'All files together have {total / 2**20:.2f} MB.\n'
  return {PAGE: '\n'.join([HEAD, size, *(section(path, *cards[path]) for path in files)])}


def header(path: Path) -> tuple[Mapping[str, Any], int]:
  """Returns what a file says of its learner, and how many numbers it holds."""
  with safetensors.safe_open(path, 'numpy') as file:
    said = json.loads(file.metadata()['metakit'])
    return said, sum(file.get_tensor(name).size for name in file.keys())  # noqa: SIM118


def section(path: Path, said: Mapping[str, Any], numbers: int) -> str:
  """Returns the card of a learner."""
  card, parts = said['card'], said['made_of']
  brief = lambda spec: spec.partition(':')[0]
  score = format_estimate(card['metric'], card['mean'], card['ci95'])
  episodes = f'{card["episodes"]:,} test episodes, {card["protocol"]}'
  versions = card['versions']
  rows = {
    'learner': f'{brief(parts["learner"])} on {brief(parts["network"])}, {numbers:,} numbers',
    'inputs': ' x '.join(map(str, said['inputs']['shape'])) + f' {said["inputs"]["dtype"]}',
    'score': f'{card["metric"]} {score} on {episodes}',
    'test task': f'`{card["task"]}`',
    'trained by': f'`{card["command"]}`',
    **({'begun with': f'`{card["start"]}`'} if 'start' in card else {}),
    **({'tested by': f'`{card["tested by"]}`'} if 'tested by' in card else {}),
    'trained in': f'{format_duration(card["train_seconds"])} on {card["device"]}, jax '
    f'{versions["jax"]}, metakit {versions["metakit"]}, seed {card["seed"]}',
    'data': f'{card["data"]}; licence: {card["licence"]}',
    'sha256': f'`{hashlib.sha256(path.read_bytes()).hexdigest()}`',
  }
  return f'## {path.stem}\n\n{markdown_table(["", ""], rows.items())}\n'
