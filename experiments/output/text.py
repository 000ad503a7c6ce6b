"""How results are written for people. It needs no JAX, as reports do not."""

import math
from collections.abc import Mapping
from typing import Any

LARGE = 1e6  # from here on numbers are written with exponents


def is_fraction(metric: str) -> bool:
  """Says whether a metric is a fraction, which people read in percent."""
  return 'accuracy' in metric


def format_closeness(closeness: Mapping[str, Any]) -> str:
  """Says how far a learner is from the Bayes predictor.

  Args:
    closeness: a record's 'beside_bayes'. Differences of predictions are in units of the error
      before any example; in a regression that is the variance of y.

  >>> closeness = {'ratio': 1.25, 'ratio_after': 3, 'difference': 0.002, 'difference_after': 4}
  >>> format_closeness(closeness)
  'at most 1.250 x the Bayes error (after 3), predictions within 0.0020 (after 4)'
  >>> format_closeness({'difference': 0.002, 'difference_after': 4, 'unit': 'nats'})
  'at most 0.0020 nats above the exact posterior (after 4)'
  """
  after = closeness['difference_after']
  if closeness.get('unit') == 'nats':
    return f'at most {closeness["difference"]:.4f} nats above the exact posterior (after {after})'
  apart = f'predictions within {closeness["difference"]:.4f} (after {after})'
  if closeness['ratio'] is None:
    return apart
  ratio = f'at most {closeness["ratio"]:.3f} x the Bayes error (after {closeness["ratio_after"]})'
  return f'{ratio}, {apart}'


def format_densities(densities: Mapping[str, Any]) -> dict[str, str]:
  """Says how good predicted densities are, by what was measured.

  Args:
    densities: those of a record (experiments.runs.density_scores).

  >>> half = {'mean': 0.48, 'ci95': 0.01}
  >>> format_densities({'nats': {'mean': 1.25, 'ci95': 0.1}, 'coverage': {'50%': half}})
  {'nats a target': '1.25 ± 0.10', 'targets in intervals of 50%': '48.00 ± 1.00%'}
  """
  said = {
    'nats': 'nats a target',
    'gap': 'nats below the exact posterior',
    'crps': 'CRPS',
    'squared_error': 'squared error of the mean',
    'ece': 'calibration error',
  }
  show = lambda metric, value: format_estimate(metric, value['mean'], value['ci95'])
  rows = {said[name]: show(name, densities[name]) for name in said if name in densities}
  for level, value in densities['coverage'].items():
    rows[f'targets in intervals of {level}'] = show('accuracy', value)
  return rows


def format_difficulty(logarithm: float) -> str:
  """Returns a difficulty in bits, of its decimal logarithm.

  >>> format_difficulty(9.6)
  '10^9.6 bits'
  """
  return f'10^{logarithm:.1f} bits'


LEVELS = {
  'instances': 'new examples of training classes',
  'classes': 'new classes of training groups',
  'families': 'classes of new groups',
}


def format_levels(metric: str, levels: Mapping[str, Any]) -> dict[str, str]:
  """Says how well a learner generalises, by what is new to it.

  Args:
    metric: the headline metric.
    levels: those of a record (experiments.runs.levels).

  >>> format_levels('accuracy', {'families': {'mean': 0.48, 'ci95': 0.01}})
  {'classes of new groups': '48.00 ± 1.00%'}
  """
  show = lambda value: format_estimate(metric, value['mean'], value['ci95'])
  return {LEVELS[level]: show(value) for level, value in levels.items()}


def format_onset(record: Mapping[str, Any]) -> str:
  """Says by which step ('onset_step' of a record) a model began to learn from the examples it
  reads.

  >>> format_onset({'onset_step': 1200, 'steps': 5000})
  'learns in context by step 1,200'
  >>> format_onset({'onset_step': None, 'steps': 5000})
  'no learning in context in 5,000 steps'
  """
  if record['onset_step'] is None:
    return f'no learning in context in {record["steps"]:,} steps'
  return f'learns in context by step {record["onset_step"]:,}'


def format_estimate(metric: str, mean: float | None, ci95: float | None = None) -> str:
  """Returns 'mean ± ci95', in percent for accuracies, with as many digits as the interval warrants.

  The interval is left out if it is None, or infinite, as that of a single episode.

  >>> format_estimate('accuracy', 0.98424, 0.00131), format_estimate('loss', 0.61234, 0.0213)
  ('98.42 ± 0.13%', '0.612 ± 0.021')
  >>> format_estimate('loss', 123456789.0, 4321098.0)
  '1.2e+08 ± 4.3e+06'
  """
  if mean is None or not math.isfinite(mean):
    return 'not finite'
  if ci95 is not None and not math.isfinite(ci95):
    ci95 = None
  if is_fraction(metric):
    interval = '' if ci95 is None else f' ± {100 * ci95:.2f}'
    return f'{100 * mean:.2f}{interval}%'
  if not ci95:
    return f'{mean:.4g}'
  if abs(mean) >= LARGE:
    return f'{mean:.2g} ± {ci95:.2g}'
  decimals = min(max(1 - math.floor(math.log10(ci95)), 0), 8)  # two digits of the interval
  return f'{mean:.{decimals}f} ± {ci95:.{decimals}f}'


def format_duration(seconds: float | None) -> str:
  """Returns a duration for people.

  >>> [format_duration(seconds) for seconds in (4.26, 95, 2460, 7530, None)]
  ['4.3 s', '95 s', '41 min', '2 h 06 min', '-']
  """
  if seconds is None:
    return '-'
  if seconds < 120:
    return f'{seconds:.1f} s' if seconds < 10 else f'{seconds:.0f} s'
  minutes = round(seconds / 60)
  return f'{minutes} min' if minutes < 120 else f'{minutes // 60} h {minutes % 60:02} min'


NO_BETTER = {'guessing': 'guessing', 'untrained': 'the same network untrained'}


def format_baselines(baselines: Mapping[str, Any]) -> list[str]:
  """Says which baselines a learner is no better than: the gain is not above its 95% interval.

  Args:
    baselines: those of a record (experiments.runs.learned.beside_baselines).

  >>> guessing = {'how': 'zero', 'mean': 4.5, 'gain': 0.1, 'ci95': 0.2, 'episodes': 200}
  >>> format_baselines({'metric': 'loss', 'guessing': guessing})
  ['loss 4.4 is no better than guessing zero, 4.5: better by 0.10 ± 0.20 in 200 episodes']
  """
  metric, lines = baselines['metric'], []
  for name, said in NO_BETTER.items():
    other = baselines.get(name)
    if other is None or is_better(other):
      continue
    theirs, gain = (math.nan if other[key] is None else other[key] for key in ('mean', 'gain'))
    ours = theirs + gain if is_fraction(metric) else theirs - gain
    how = f'{said} {other["how"]}' if 'how' in other else said
    lines.append(
      f'{metric} {format_estimate(metric, ours)} is no better than {how}, '
      f'{format_estimate(metric, theirs)}: better by '
      f'{format_estimate(metric, other["gain"], other["ci95"])} '
      f'in {other["episodes"]} episodes'
    )
  return lines


def is_better(baseline: Mapping[str, Any]) -> bool:
  """Says whether a gain is above its interval, or cannot be told, since one episode has none."""
  gain, ci95 = (baseline[name] for name in ('gain', 'ci95'))
  if gain is None or not math.isfinite(gain):
    return False
  return ci95 is None or not math.isfinite(ci95) or gain > ci95
