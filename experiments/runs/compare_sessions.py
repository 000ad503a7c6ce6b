"""Compares heads on streams of classes: experiments/compare_sessions.py."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import flags

from experiments.command_line.flags import SIZES
from experiments.command_line.runtime import BAD_INPUT, one_line_errors
from experiments.components.specs import Component
from experiments.output.results import (
  describe_device,
  format_estimate,
  read_json,
  refuse_other,
  versions,
  with_ending,
  write_text,
)
from experiments.runs.features import (
  Features,
  checksums,
  chosen_heads,
  embedded_once,
  features_of_flags,
  make_head,
  make_task,
  ready_params,
)
from experiments.runs.lock import lock_file
from experiments.runs.wrap_up import command_line
from metakit.episodes.class_incremental import Sessions, class_incremental
from metakit.estimates import compare, estimate
from metakit.evaluation import evaluate
from metakit.evaluation.sessions import judge_sessions
from metakit.keys import roots

FLAGS = flags.FLAGS
AT_END = 'accuracy', 'base', 'novel', 'harmonic'


def main() -> None:
  with one_line_errors(*BAD_INPUT):
    numbers: dict[str, Any] = {field: FLAGS[name].value for name, (field, _) in SIZES.items()}
    sizes = Sessions(**numbers)
    features = features_of_flags()
    heads, path = chosen_heads(), with_ending(Path(FLAGS.workdir) / FLAGS.name, '.json')
    setting = {'split': FLAGS.split, 'seed': FLAGS.seed, **features.description}
    setting |= {'task': str(features.tests[0]), 'sizes': sizes._asdict()}
    setting |= {'episodes': FLAGS.episodes, 'device': describe_device(), 'versions': versions()}
    setting['data'] = checksums(features, FLAGS.split)
    check_stored(path, setting, heads)
    cells = compare_all(heads, features, sizes)
    lock_file(path)
    check_stored(path, setting, heads)  # what another process has written meanwhile
    record = {'cells': cells, **setting, 'command': command_line()}
    write_text(path, json.dumps(record, indent=2) + '\n')


def check_stored(path: Path, setting: dict[str, Any], heads: list[Component]) -> None:
  """Raises ValueError if a record of another setting or of other heads is stored."""
  if path.exists():
    stored = read_json(path)
    names = {'heads': [each['head'] for each in stored['cells']]}
    refuse_other(path, stored | names, setting | {'heads': [h.brief() for h in heads]}, '--name')


def compare_all(
  heads: list[Component], features: Features, sizes: Sessions
) -> list[dict[str, Any]]:
  """Returns the cell of each head: estimates after each session, and of the forgetting.

  Raises:
    ValueError: for several tasks, one without classes, or too few classes or examples.
  """
  if len(features.tests) > 1:
    raise ValueError('--test_task may be given once: streams are of the classes of one task')
  sources = embedded_once(features.embed)
  tested = make_task(features.tests[0])
  trained, train = make_task(features.train), sources(features.train, 'train')
  if tested.table is None:
    raise ValueError(f'{features.tests[0].name} has no classes to make sessions of')
  plan = class_incremental(tested.table(FLAGS.split), sizes).plan
  test = sources(features.tests[0], FLAGS.split).replace(plan=plan)
  cells: list[dict[str, Any]] = []
  first: Mapping[str, Any] = {}
  for head in heads:
    learner, params = make_head(head, tested, sizes.total_ways), ready_params(head, trained, train)
    values = evaluate(
      learner,
      tested.objective,
      params,
      source=test,
      root=getattr(roots(FLAGS.seed), FLAGS.split),
      episodes=FLAGS.episodes,
      parallel=FLAGS.parallel,
      judge=judge_sessions(sizes),
    )
    first = first or values
    cells.append(cell(head.brief(), learner.extend is not None, values, first))
  return cells


def cell(
  head: str, streaming: bool, values: Mapping[str, Any], first: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns the record of a head, and prints it."""
  known: dict[str, Any] = {'head': head, 'streaming': streaming}
  known |= {name: list(map(estimated, values[name].T)) for name in AT_END}
  known['forgetting'] = estimated(values['forgetting'])
  apart = compare(values['accuracy'][:, -1], first['accuracy'][:, -1])
  known['difference'] = [apart.mean, apart.ci95]
  shown = ', '.join(f'{name} {percent(known[name][-1])}' for name in AT_END)
  print(f'{head}: at the end {shown}, forgetting {percent(known["forgetting"])}')
  return known


def estimated(values: Any) -> list[float] | None:
  """Returns mean and 95% interval; None if undefined, as on new classes before there are any."""
  mean, ci95, _ = estimate(values)
  return None if mean != mean else [mean, ci95]


def percent(value: list[float] | None) -> str:
  return '-' if value is None else format_estimate('accuracy', *value)
