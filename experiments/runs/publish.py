"""Puts a trained learner into the zoo: experiments/publish.py."""

import dataclasses
import json
import re
from pathlib import Path
from typing import NamedTuple

from experiments.command_line.runtime import BAD_INPUT, one_line_errors
from metakit import zoo
from metakit.trained import Trained, load, save

MOST_BYTES = 8 << 20  # of all files in the zoo: they are in the wheel


class Options(NamedTuple):
  """The flags, by their names."""

  workdir: str
  name: str
  data: str
  licence: str
  test: str = ''
  half: bool = False


def publish(options: Options) -> None:
  """Writes metakit/zoo/NAME.safetensors."""
  with one_line_errors(*BAD_INPUT):
    if not re.fullmatch(r'[a-z0-9]+(-[a-z0-9]+)+', options.name):
      raise ValueError(f'--name={options.name}: use words of a-z and 0-9 joined by -')
    trained = load(options.workdir)
    if options.test:
      trained = as_tested(trained, Path(options.workdir), options.test)
    card = {**trained.card, 'data': options.data, 'licence': options.licence}
    if 'mean' not in card:
      raise ValueError(f'{options.workdir} has no score: its training has not ended; let it end')
    path = zoo.path_of(options.name)
    save(path, dataclasses.replace(trained, card=card), half=options.half)
    others = sum(zoo.path_of(name).stat().st_size for name in zoo.names())
    if others > MOST_BYTES:
      path.unlink()
      raise ValueError(f'the zoo would have {others:,} bytes, more than {MOST_BYTES:,}')
    print(f'{path}: {path.stat().st_size:,} bytes; now python -m experiments.tables')


def as_tested(trained: Trained, workdir: Path, name: str) -> Trained:
  """Returns a learner with the arguments and the score of another test of its workdir.

  Args:
    trained: the learner as it was trained.
    workdir: its folder.
    name: that of the test (experiments.evaluate --name).

  Raises:
    ValueError: if there is no such test.
  """
  path = workdir / f'results-{name}.json'
  if not path.exists():
    raise ValueError(f'{path} is missing; run experiments.evaluate --name={name} first')
  record = json.loads(path.read_text(encoding='utf-8'))
  assert trained.made_of is not None  # that of a workdir is known
  parts = trained.made_of._replace(learner=record['learner'])
  card = {key: record.get(key, value) for key, value in trained.card.items() if key != 'command'}
  card |= {'command': trained.card['command'], 'tested by': record['command']}
  return dataclasses.replace(trained, make=parts.make, made_of=parts, card=card)
