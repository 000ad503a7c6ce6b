"""Strategies on a stream of tasks: experiments/stream.py."""

import inspect
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.command_line.runtime import BAD_INPUT, one_line_errors
from experiments.components.streams import (
  STRATEGIES,
  STRATEGY_SUPPLIED,
  STREAM_SUPPLIED,
  STREAMS,
)
from experiments.output.machine import describe_device, versions
from experiments.output.results import read_json, write_results
from experiments.output.stream_figure import draw
from experiments.runs.wrap_up import command_line
from metakit.checkpoint import checkpoints
from metakit.components.learners import NETWORK_SUPPLIED, NETWORKS
from metakit.components.specs import Component, build, parse
from metakit.fingerprint import fingerprint_of_params
from metakit.keys import roots
from metakit.models import Model
from metakit.streams import Log, Strategy, Stream, Tuning, run_stream
from metakit.workdir import CHECKPOINTS, DATA, own_workdir

RECORD, FIGURE = 'stream.json', 'stream.svg'


class Options(NamedTuple):
  """The flags of the command, by their names."""

  workdir: str | None
  stream: str
  strategy: list[str]
  network: str
  rates: list[str]
  trial_steps: list[str]
  batch: int
  seed: int
  data_dir: str | None


class Trial(NamedTuple):
  """A strategy at a budget.

  Attributes:
    strategy: its spec.
    steps: gradient steps of a trial; None for a strategy that needs no training.
  """

  strategy: str
  steps: int | None


def stream(options: Options) -> None:
  """Runs what is not done yet, and writes the record and the figure after each event."""
  with one_line_errors(*BAD_INPUT):
    if not options.workdir:
      raise ValueError('--workdir is missing; give the folder of the results')
    trials = list(trials_of(options))
    network, model = read_network(options.network)
    component = parse('stream', STREAMS, options.stream, supplied=STREAM_SUPPLIED)
    events = build(component, data_dir=options.data_dir)
    strategies = {each: make_strategy(each, events, model, options=options) for each in trials}
    setting = {'stream': str(component), 'network': str(network), 'seed': options.seed}
    setting |= {'rates': positive('rates', options.rates), 'batch': options.batch}
    data = {'stream': fingerprint_of_params([event[1:4] for event in events.events])}
    folder = own_workdir(options.workdir, setting | {DATA: data}, named=lambda n: f'--{n}').folder
    cells = stored(folder / RECORD)
    setting |= {'device': describe_device(), 'versions': versions(), 'command': command_line()}

    def keep(trial: Trial, log: Log) -> None:
      cells[trial] = cell(trial, events, log)
      write_results(folder / RECORD, {'cells': [*cells.values()], **setting})

    def on_event(trial: Trial, log: Log) -> None:
      keep(trial, log)
      say(cells[trial])

    for trial, strategy in strategies.items():
      with checkpoints(folder / CHECKPOINTS / folder_name(trial)) as saved:
        root, told = roots(options.seed).learner, partial(on_event, trial)
        keep(trial, run_stream(strategy, events, root, saved=saved, on_event=told))
    draw([*cells.values()], folder / FIGURE, title=component.brief())


def read_network(spec: str) -> tuple[Component, Model]:
  """Returns the network of a spec.

  Raises:
    ValueError: for an unknown one, or one that does not read single examples.
  """
  network = parse('network', NETWORKS, spec, supplied=NETWORK_SUPPLIED)
  returned = inspect.signature(network.factory).return_annotation
  if returned not in (Model, inspect.Signature.empty):
    raise ValueError(f'network {network.name} does not read single examples; use mlp or conv4')
  return network, build(network, num_outputs=None)


def stored(path: Path) -> dict[Trial, dict[str, Any]]:
  """Returns the cells of a record; none, if there is no record yet."""
  cells = read_json(path)['cells'] if path.exists() else []
  return {Trial(each['strategy'], each['trial_steps']): each for each in cells}


def trials_of(options: Options) -> Iterator[Trial]:
  """Yields each strategy at each budget.

  Raises:
    ValueError: for an unknown strategy, or a budget that is no positive number.
  """
  budgets = [int(steps) for steps in positive('trial_steps', options.trial_steps)]
  for spec in options.strategy:
    strategy = component_of(spec)
    for steps in budgets if trains(strategy) else [None]:
      yield Trial(strategy.brief(), steps)


def folder_name(trial: Trial) -> str:
  """Returns the name of the folder of a strategy's checkpoints.

  >>> folder_name(Trial('dynamic_knn:neighbours=3', 200))
  'dynamic_knn_neighbours=3_200'
  """
  return re.sub(r'[^\w.=-]+', '_', f'{trial.strategy} {trial.steps or ""}'.strip())


def component_of(spec: str) -> Component:
  """Reads the spec of a strategy."""
  return parse('strategy', STRATEGIES, spec, supplied=STRATEGY_SUPPLIED)


def trains(strategy: Component) -> bool:
  """Tells whether a strategy trains the network."""
  return 'tuning' in inspect.signature(strategy.factory).parameters


def positive(flag: str, texts: list[str]) -> list[float]:
  """Reads the values of a flag of positive numbers.

  Raises:
    ValueError: unless all are.

  >>> positive('rates', ['0.1', '1'])
  [0.1, 1.0]
  """
  try:
    values = [float(text) for text in texts]
  except ValueError:
    values = []
  if not values or not min(values) > 0 or max(values) == float('inf'):
    raise ValueError(f'--{flag}={",".join(texts)} is no list of positive numbers')
  return values


def make_strategy(trial: Trial, events: Stream, model: Model, *, options: Options) -> Strategy:
  """Makes a strategy for a stream."""
  rates = tuple(positive('rates', options.rates))
  tuning = Tuning(rates, trial.steps or 1, options.batch)
  strategy = component_of(trial.strategy)
  return build(strategy, embedding=model, outputs=events.outputs, tuning=tuning)


def cell(trial: Trial, events: Stream, log: Log) -> dict[str, Any]:
  """Returns what the record says of a strategy so far: a list for each measure, by event."""
  done = int(log.done)
  names = [event.name for event in events.events[:done]]
  measured = {name: values[:done] for name, values in log._asdict().items() if name != 'done'}
  known = {'strategy': trial.strategy, 'trial_steps': trial.steps, 'events': names}
  known['kinds'] = [event.objective.kind for event in events.events[:done]]
  return known | {name: values.tolist() for name, values in measured.items()}


def say(cell: dict[str, Any]) -> None:
  """Prints a line of the event that is just over."""
  flops = np.add(cell['train_flops'], cell['predict_flops'])
  start = cell['start'][-1]
  begun = f', from {cell["events"][start]}' if start >= 0 else ''
  steps = '' if cell['trial_steps'] is None else f' ({cell["trial_steps"]} steps)'
  print(
    f'{cell["strategy"]}{steps}: {cell["events"][-1]}: error {cell["error"][-1]:.3f}, mean so far '
    f'{np.mean(cell["error"]):.3f}; {flops[-1] / 1e9:.3g} GFLOP, in all {flops.sum() / 1e9:.3g}'
    f'{begun}',
    flush=True,
  )
