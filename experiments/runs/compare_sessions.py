"""Compares heads on streams of classes: experiments/compare_sessions.py."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.command_line.runtime import BAD_INPUT, one_line_errors
from experiments.output.results import read_json, refuse_other
from experiments.output.text import format_estimate
from experiments.runs.comparisons import Comparison, Options, begin, make_head, ready_params
from experiments.runs.features import embedded_once
from experiments.runs.wrap_up import command_line, say_not_finite
from metakit.components.specs import Component
from metakit.episodes.class_incremental import Sessions, class_incremental
from metakit.estimates import compare, estimate
from metakit.evaluation import evaluate
from metakit.evaluation.sessions import judge_sessions
from metakit.files import with_ending, write_text
from metakit.keys import roots
from metakit.lock import lock_file

TRAINING = 'head_steps', 'head_tasks_per_step'  # records of earlier versions do not have them
DEFINING = 'split', 'seed', 'episodes', *TRAINING
AT_END = 'accuracy', 'base', 'novel', 'harmonic'


def compare_sessions(options: Options, sizes: Sessions) -> None:
  """Measures all heads, and writes a record."""
  with one_line_errors(*BAD_INPUT):
    begun = begin(options, DEFINING)
    path = with_ending(begun.path, '.json')
    tested = {'task': str(begun.features.tests[0]), 'sizes': sizes._asdict()}
    setting = begun.setting | tested
    check_stored(path, setting, begun.heads)
    cells = compare_all(begun, sizes, options)
    lock_file(path)
    check_stored(path, setting, begun.heads)  # what another process has written meanwhile
    record = {'cells': cells, **setting, 'command': command_line()}
    write_text(path, json.dumps(record, indent=2) + '\n')


def check_stored(path: Path, setting: dict[str, Any], heads: list[Component]) -> None:
  """Raises ValueError if a record of another setting or of other heads is stored."""
  if path.exists():
    stored = read_json(path)
    known = {n: value for n, value in setting.items() if n in stored or n not in TRAINING}
    names = {'heads': [each['head'] for each in stored['cells']]}
    refuse_other(
      path, stored | names, known | {'heads': [h.brief() for h in heads]}, remedy='--name'
    )


def compare_all(begun: Comparison, sizes: Sessions, options: Options) -> list[dict[str, Any]]:
  """Returns the cell of each head: estimates after each session, and of the forgetting.

  Raises:
    ValueError: for several tasks, one without classes, or too few classes or examples.
  """
  features = begun.features
  if len(features.tests) > 1:
    raise ValueError('--test_task may be given once: streams are of the classes of one task')
  sources = embedded_once(features)
  tested = features.make_task(features.tests[0])
  trained, train = features.make_task(features.train), sources(features.train, 'train')
  if tested.table is None or not tested.objective.classifies:
    raise ValueError(f'{features.tests[0].name} has no classes to make sessions of')
  plan = class_incremental(tested.table(options.split), sizes).plan
  test = sources(features.tests[0], options.split).replace(plan=plan)
  cells: list[dict[str, Any]] = []
  first: Mapping[str, Any] = {}
  for head in begun.heads:
    learner = make_head(head, tested, sizes.total_ways)
    params = ready_params(head, trained, train, options=options)
    values = evaluate(
      learner,
      tested.objective,
      params,
      source=test,
      root=getattr(roots(options.seed), options.split),
      episodes=options.episodes,
      parallel=options.parallel,
      judge=judge_sessions(sizes),
      warn=False,
    )
    say_not_finite(values)
    first = first or values
    cells.append(cell(head.brief(), values, first, streaming=learner.extend is not None))
  return cells


def cell(
  head: str, values: Mapping[str, Any], first: Mapping[str, Any], *, streaming: bool
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
