"""Shows the runs in several workdirs side by side: experiments/compare_workdirs.py."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.command_line.runtime import BAD_INPUT, one_line_errors
from experiments.output.metrics_log import read_metrics
from experiments.output.report_of_runs import Difference, RunShown, render_runs
from experiments.output.results import read_results
from experiments.output.text import format_baselines, format_estimate
from metakit.estimates import IDENTITY, compare
from metakit.files import check_writable, write_text


class Options(NamedTuple):
  """The flags of the command, by their names."""

  workdir: list[str]
  name: str
  output: str


def compare_workdirs(options: Options) -> None:
  """Writes a page of several runs, and prints their results and differences."""
  with one_line_errors(*BAD_INPUT):
    if len(options.workdir) < 2:
      raise ValueError(f'--workdir={options.workdir[0]} alone: give --workdir once for each run')
    folders, output = [Path(each) for each in options.workdir], Path(options.output)
    check_writable([output])
    suffix = f'-{options.name}' if options.name else ''
    runs = [read_run(folder, suffix, name) for folder, name in names_of(folders).items()]
    found = [
      difference(folders, suffix, runs, first=first, second=second)
      for first in range(len(runs))
      for second in range(first)
    ]
    write_text(output, render_runs(runs, found))
    print_runs(runs, found)
    print(f'report: {output}')


def names_of(folders: list[Path]) -> dict[Path, str]:
  """Returns what each run is called: the name of its folder or, if two have one, the whole path.

  Raises:
    ValueError: if a folder is given twice.
  """
  names = Counter(folder.absolute().name for folder in folders)
  if len(set(folders)) < len(folders):
    raise ValueError('--workdir names one folder twice; give each run once')
  once = lambda folder: names[folder.absolute().name] == 1
  return {each: each.absolute().name if once(each) else str(each) for each in folders}


def read_run(folder: Path, suffix: str, name: str) -> RunShown:
  """Reads the results and the metrics of a run.

  Raises:
    OSError: naming a file that is missing or cannot be read.
    ValueError: naming a file that is damaged.
  """
  return RunShown(name, read_results(folder / f'results{suffix}.json'), read_metrics(folder))


def difference(
  folders: list[Path], suffix: str, runs: list[RunShown], *, first: int, second: int
) -> Difference:
  """Returns by how much the metric of a run exceeds that of another, paired by episode.

  Episodes that only one of them was tested on are left out.
  """
  names = runs[first].name, runs[second].name
  metric, other = (runs[number].record['metric'] for number in (first, second))
  if metric != other:
    return Difference(*names, metric, None, f'one has {metric}, the other {other}')
  try:
    arrays = [episodes_of(folders[number], suffix) for number in (first, second)]
    few = min(len(each[metric]) for each in arrays)
    ours, theirs = ({**each, metric: each[metric][:few]} for each in arrays)
    return Difference(*names, metric, compare(ours, theirs, metric), '')
  except (OSError, KeyError, ValueError) as error:
    why = ' '.join(str(error).split())
    other = 'they saw other episodes: another task, split, seed or data'
    return Difference(*names, metric, None, other if 'other episodes' in why else why)


def episodes_of(folder: Path, suffix: str) -> dict[str, np.ndarray]:
  """Reads the metrics of every test episode.

  Raises:
    ValueError: if the file does not say which episodes they are, or is damaged.
    OSError: if there is none.
  """
  path = folder / f'episodes{suffix}.npz'
  with np.load(path, allow_pickle=False) as file:
    arrays = dict(file)
  if IDENTITY not in arrays:
    raise ValueError(f'{path} is of an earlier version and does not say which episodes it is of')
  return arrays


def print_runs(runs: list[RunShown], found: list[Difference]) -> None:
  """Prints the results, and the differences that could be measured."""
  for run in runs:
    r = run.record
    print(f'{run.name}: {r["metric"]} {format_estimate(r["metric"], r["mean"], r["ci95"])}')
    for line in format_baselines(r['baselines']) if 'baselines' in r else ():
      print(f'  {line}')
  for each in found:
    if each.estimate:
      said = format_estimate(each.metric, each.estimate.mean, each.estimate.ci95)
      print(f'{each.first} - {each.second}: {said} in {each.estimate.episodes} episodes')
    else:
      print(f'{each.first} - {each.second}: not compared, {each.why}')
