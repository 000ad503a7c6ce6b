"""Puts a trained learner into the zoo: experiments/publish.py."""

import dataclasses
import re
from typing import NamedTuple

from experiments.command_line.runtime import BAD_INPUT, one_line_errors
from metakit import zoo
from metakit.trained import load, save

MOST_BYTES = 8 << 20  # of all files in the zoo: they are in the wheel


class Options(NamedTuple):
  """The flags, by their names."""

  workdir: str
  name: str
  data: str
  licence: str


def publish(options: Options) -> None:
  """Writes metakit/zoo/NAME.safetensors."""
  with one_line_errors(*BAD_INPUT):
    if not re.fullmatch(r'[a-z0-9]+(-[a-z0-9]+)+', options.name):
      raise ValueError(f'--name={options.name}: use words of a-z and 0-9 joined by -')
    trained = load(options.workdir)
    card = {**trained.card, 'data': options.data, 'licence': options.licence}
    if 'mean' not in card:
      raise ValueError(f'{options.workdir} has no score: its training has not ended; let it end')
    path = zoo.path_of(options.name)
    save(path, dataclasses.replace(trained, card=card))
    others = sum(zoo.path_of(name).stat().st_size for name in zoo.names())
    if others > MOST_BYTES:
      path.unlink()
      raise ValueError(f'the zoo would have {others:,} bytes, more than {MOST_BYTES:,}')
    print(f'{path}: {path.stat().st_size:,} bytes; now python -m experiments.tables')
