"""Runs a suite and says what it measured: experiments/benchmark.py."""

import importlib
import inspect
import json
import os
import pkgutil
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.benchmarks import suites
from experiments.benchmarks.packages import versions_of_peers
from experiments.benchmarks.suite import Suite
from experiments.benchmarks.timing import Case, time_cases
from experiments.command_line.runtime import BAD_INPUT, one_line_errors
from experiments.output.machine import describe_device, versions
from experiments.output.results import read_json, refuse_other
from experiments.runs.wrap_up import command_line
from metakit.files import write_text

Row = dict[str, Any]


class Options(NamedTuple):
  """The flags of the command, by their names."""

  suite: str
  repeats: int
  output: str | None
  against: str | None
  tasks: int
  examples: int
  features: int
  width: int
  depth: int
  inner_steps: list[str]
  dtype: str | None


def _found() -> dict[str, Suite]:
  """Returns the suites by their names, from the modules of experiments/benchmarks/suites."""
  modules = pkgutil.iter_modules(suites.__path__, f'{suites.__name__}.')
  named = [importlib.import_module(module.name).SUITES for module in modules]
  return {name: each[name] for each in named for name in each}


SUITES = dict(sorted(_found().items()))
TOLERATED = 1.1  # a case may take so many times the time and memory of before


def benchmark(options: Options) -> None:
  """Times the cases of a suite; prints, stores and compares them."""
  jax.config.update('jax_enable_compilation_cache', False)  # since compilation is timed
  output, against = options.output and Path(options.output), options.against
  with one_line_errors(*BAD_INPUT):
    if output:
      check_output(output, command_line())
    stored = read_json(against).get('rows', []) if against else []
    suite = SUITES[options.suite]
    rows = time_cases(cases_of(suite, options), options.repeats)
    record: dict[str, Any] = {'suite': options.suite, 'command': command_line()}
    record |= {'device': describe_device(), 'versions': versions() | versions_of_peers()}
    record |= {'threads': threads(), 'repeats': options.repeats, 'rows': rows}
    for row in rows:
      print(line(row))
    if output:
      write_text(output, json.dumps(record, indent=2) + '\n')
      suite.draw(rows, output.with_suffix('.svg'), options.suite)
    if against and (worse := slower(rows, stored)):
      raise ValueError(f'slower than in {against}: {"; ".join(worse)}')


def cases_of(suite: Suite, options: Options) -> list[Case]:
  """Returns the cases of a suite, made with the flags that it takes."""
  given = options._asdict() | {'inner_steps': [int(number) for number in options.inner_steps]}
  return suite.cases(**{name: given[name] for name in inspect.signature(suite.cases).parameters})


def check_output(path: Path, command: str) -> None:
  """Raises ValueError if a file is there and holds what another command has measured."""
  if path.exists():
    stored = measured(read_json(path).get('command', ''))
    refuse_other(path, {'command': stored}, {'command': measured(command)}, remedy='--output')


def measured(command: str) -> set[str]:
  """Returns the arguments of a command that say what is measured.

  >>> sorted(measured('python -m experiments.benchmark --suite=plans --output=plans.json'))
  ['--suite=plans']
  """
  elsewhere = '--output=', '--against=', '--repeats='
  arguments = shlex.split(command)[3:]
  return {argument for argument in arguments if not argument.startswith(elsewhere)}


def threads() -> int:
  """Returns the processors that this process may use: all forms take as many threads."""
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def slower(rows: Sequence[Row], stored: Sequence[Row]) -> list[str]:
  """Returns the cases of metakit that need over a tenth more time or memory than before.

  Times depend on the machine and its load, so ratios are compared. They are ratios to the times of
  cases that are not metakit, if both records have such cases, and otherwise to the median of all
  cases. The latter cannot show that all became slower. Memory is compared as it is.

  Raises:
    ValueError: if no case is in both.
  """
  now, before = ({row['name']: row for row in each} for each in (rows, stored))
  both = [name for name in now if name in before]
  if not both:
    raise ValueError('no case is in both; compare with a record of the same suite')
  grown = lambda what: _growth(what, [(name, now[name], before[name]) for name in both])
  took = grown('milliseconds')
  peers = [name for name in took if now[name].get('peer')]
  usual = float(np.median([took[name] for name in peers or took])) if took else 1.0
  beside = 'what is not metakit' if peers else 'the other cases'
  worse = [
    f'{name}: takes {growth / usual:.3g} times as long, beside {beside}'
    for name, growth in took.items()
    if name not in peers and growth > TOLERATED * usual
  ]
  return worse + [
    f'{name}: takes {growth:.3g} times as much memory'
    for name, growth in grown('temporary_mib').items()
    if name not in peers and growth > TOLERATED
  ]


def _growth(what: str, cases: Sequence[tuple[str, Row, Row]]) -> dict[str, float]:
  """Returns how many times as large a number is as before, for cases where both are known."""
  number = lambda row: float(np.ravel(row.get(what) or 0)[0])
  known = [(name, number(now), number(before)) for name, now, before in cases]
  return {name: one / other for name, one, other in known if one and other}


def line(row: Row) -> str:
  """Returns what is printed of a case."""
  text = f'{row["name"]:38} {row["temporary_mib"]:9.1f} MiB'
  if 'size' in row:
    return f'{text}  of {row["size"]:,}, {row["gflop"]:,} GFLOP (computed)'
  if row['milliseconds'] is None:
    return f'{text}  not run: too large'
  text += f' {row["milliseconds"][0]:9.3f} ms'
  if row['per_second']:
    text += f' {row["per_second"]:12,} {row["unit"]}/s'
  if row['gflops_per_second'] is not None:
    text += f' {row["gflops_per_second"]:9.1f} GFLOP/s'
  if row['share_of_peak'] is not None:
    text += f' {100 * row["share_of_peak"]:.1f}% of peak'
  if row.get('share_of_bandwidth') is not None:
    text += f' {100 * row["share_of_bandwidth"]:.1f}% of memory bandwidth'
  if row['compile_seconds'] is not None:
    text += f' compiled in {row["compile_seconds"]:.1f} s'
  if 'ratio' in row:
    text += f'  {row["ratio"][0]:.3g} x as fast as {row["baseline"]}'
  if 'agreement' in row:
    text += f', {100 * row["agreement"]:.4g}% the same answers'
  return text
