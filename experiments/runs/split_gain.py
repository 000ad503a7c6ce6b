"""Splits a gain in two, of episodic training and of adaptation: experiments/split_gain.py."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.command_line.runtime import BAD_INPUT, one_line_errors
from experiments.output.gains import AFTER, BEFORE, ORDINARY, mean_over, shares
from experiments.output.machine import describe_device, versions
from experiments.output.text import format_estimate
from experiments.runs.evaluate import restore, same_learner
from experiments.runs.evaluation import Tested, per_episode, prepare
from experiments.runs.setup import make_setup
from experiments.runs.workdir import read_specs
from experiments.runs.wrap_up import command_line
from metakit.components.descent_learners import BY_DESCENT
from metakit.components.specs import name_in
from metakit.files import check_writable, write_text
from metakit.keys import task_key


class Options(NamedTuple):
  """The flags of the command, by their names."""

  ordinary: str
  episodic: str
  episodes: int
  output: str
  data_dir: str | None
  table_budget_gib: float


def split_gain(options: Options) -> None:
  """Tests both learners, and writes and prints the parts of the gain."""
  with one_line_errors(*BAD_INPUT):
    check_writable([Path(options.output)])
    tested, specs = learners_of(options)
  metric = tested[AFTER].task.metric
  scores = {n: per_episode(each, options.episodes)[metric] for n, each in tested.items()}
  groups = domains_of(tested[AFTER], options.episodes)
  means = {name: mean_over(values, groups) for name, values in scores.items()}
  gains = shares(scores, groups)
  record = {
    'metric': metric,
    'scores': {name: each._asdict() for name, each in means.items()},
    'gains': {name: each._asdict() for name, each in gains.items()},
    'episodes': options.episodes,
    'domains': len(np.unique(groups)),
    'task': specs[AFTER]['test_task'],
    'learners': {name: each['learner'] for name, each in specs.items()},
    'seed': specs[AFTER]['seed'],
    'device': describe_device(),
    'versions': versions(),
    'command': command_line(),
  }
  write_text(Path(options.output), json.dumps(record, indent=2) + '\n')
  for name, each in (means | {f'gain of {name}': gain for name, gain in gains.items()}).items():
    print(f'{name}: {format_estimate(metric, each.mean, each.ci95)}')
  print(f'record: {options.output}')


def learners_of(options: Options) -> tuple[dict[str, Tested], dict[str, dict[str, Any]]]:
  """Returns the learners that are tested, and their specs, by the names of the parts.

  Raises:
    OSError, ValueError: see `ready`; or if the runs are tested on other episodes.
  """
  tested, specs = {}, {}
  for name, folder, steps in (
    (ORDINARY, options.ordinary, None),
    (BEFORE, options.episodic, 0),
    (AFTER, options.episodic, None),
  ):
    tested[name], specs[name] = ready(options, Path(folder), steps)
  one, other = specs[ORDINARY], specs[AFTER]
  for what in ('test_task', 'seed'):
    if one[what] != other[what]:
      raise ValueError(
        f'{what} is {one[what]} of {options.ordinary} and {other[what]} of {options.episodic}; '
        'compare runs that are tested on the same episodes'
      )
  return tested, specs


def ready(options: Options, workdir: Path, steps: int | None) -> tuple[Tested, dict[str, Any]]:
  """Returns the learner of a workdir with so many inner steps, and its specs.

  Raises:
    OSError, ValueError: if there is no such run, or its learner takes no inner steps.
  """
  specs = read_specs(workdir)
  if steps is not None:
    name = name_in(specs['learner'])
    if name not in BY_DESCENT:
      raise ValueError(
        f'{workdir} trained {name}, which takes no inner steps; give a run of a learner by '
        'descent, such as maml'
      )
    specs['learner'] = same_learner(specs['learner'], f'{name}:test_steps={steps}')
  setup = make_setup(specs, options.data_dir, options.table_budget_gib)
  _, state = restore(setup, specs, workdir)
  tested = prepare(setup, state.params, setup.test_task, split='test', seed=specs['seed'])
  return tested, specs


def domains_of(tested: Tested, episodes: int) -> np.ndarray:
  """Returns [episodes] the domain of each test episode; its own number where it has none."""
  key = lambda number: task_key(tested.root, 0, number)
  info = tested.source.plan(key(0)).info
  if not isinstance(info, dict) or 'domain' not in info:
    return np.arange(episodes)
  of = jax.jit(jax.vmap(lambda number: tested.source.plan(key(number)).info['domain'].argmax()))
  return np.asarray(of(jnp.arange(episodes)))
