"""report.html: the results of a run on one page, which needs neither a network nor a script."""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from experiments.output import report_figures
from experiments.output.answers import Answers
from experiments.output.page import (
  command,
  details,
  escaped,
  escaped_cell,
  figure,
  page,
  section,
  table,
)
from experiments.output.report_episode import EpisodePicture as EpisodePicture
from experiments.output.report_episode import episode_section
from experiments.output.report_figures import AdaptationPoint as AdaptationPoint
from experiments.output.report_test import (
  calibration_section,
  classes_section,
  episodes_section,
)
from experiments.output.text import (
  format_baselines,
  format_densities,
  format_difficulty,
  format_duration,
  format_estimate,
  format_levels,
  is_fraction,
)


class Report(NamedTuple):
  """What a report says.

  Attributes:
    title: the headline of the page.
    command: what to type to get this run.
    records: results as experiments.output.results.result_record makes them; the first is the
      headline.
    metrics: lines as experiments.output.metrics_log.read_metrics returns them.
    adaptation: test performance against the amount of adaptation; may be empty.
    adaptation_episodes: over how many test episodes; not said if None.
    adaptation_label: 'support examples a class', 'inner steps', ...
    adaptation_metric: what it is measured by; that of the first record by default.
    reference: the Bayes predictor's curve on the same episodes; may be empty.
    pair: two quantities that should be equal, (names, values [2, points]), or None.
    values: [episodes], the first record's metric of every test episode; or None.
    answers: the predicted classes of some test episodes, or None.
    episode: one test episode, or None.
    settings: every component with its arguments, defaults filled in, as a spec string or a dict.
  """

  title: str
  command: str
  records: Sequence[Mapping[str, Any]]
  metrics: Sequence[Mapping[str, Any]] = ()
  adaptation: Sequence[AdaptationPoint] = ()
  adaptation_episodes: int | None = None
  adaptation_label: str = 'support examples a class'
  adaptation_metric: str | None = None
  reference: Sequence[AdaptationPoint] = ()
  pair: tuple[tuple[str, str], np.ndarray] | None = None
  values: np.ndarray | None = None
  answers: Answers | None = None
  episode: EpisodePicture | None = None
  settings: Mapping[str, Any] = MappingProxyType({})


def render(report: Report) -> str:
  """Returns the report as HTML that needs no other file and no script; all text is escaped."""
  sections = [
    _headline(report),
    section('Levels of generalisation', _levels(report)),
    section('Learning curve', _learning(report)),
    section('Adaptation', _adaptation(report)),
    section('What should be equal', _pair(*report.pair) if report.pair else ''),
    section('Episodes', _episodes(report)),
    section('Classes', classes_section(report.answers) if report.answers else ''),
    section('Densities', _densities(report)),
    section('Calibration', calibration_section(report.answers) if report.answers else ''),
    section('One test episode', episode_section(report.episode) if report.episode else ''),
    section('Settings', _settings(report.settings)),
    section('Run it again', _reproduce(report)),
  ]
  return page(report.title, ''.join(sections))


def _headline(report: Report) -> str:
  title = f'<h1>{escaped(report.title)}</h1>'
  if not report.records:
    return f'<header>{title}<p>No test result.</p></header>\n'
  first, rest = report.records[0], report.records[1:]
  mean, _, interval = _estimate(first).partition(' ± ')
  if interval:
    mean += '%' * interval.endswith('%')
    interval = f' <span class="interval">± {escaped(interval)}</span>'
  others = ''
  if rest:
    rows = [(r['task'], r['learner'], r['protocol'], _estimate(r), _count(r)) for r in rest]
    heads = ('task', 'learner', 'protocol', 'mean ± 95% interval', 'episodes')
    others = '<h2>Further results</h2>' + table(heads, rows, 'Further results')
  return (
    f'<header>{title}<p class="result">{escaped(mean)}{interval}</p>'
    f'<p>{escaped(_meaning(first))}</p>{_warnings(first)}{_facts(first)}</header>{others}\n'
  )


def _warnings(record: Mapping[str, Any]) -> str:
  """Returns what is wrong with a result: the learner is no better than guessing, say."""
  said = format_baselines(record['baselines']) if 'baselines' in record else []
  return ''.join(f'<p class="warning">{escaped(line[0].upper() + line[1:])}.</p>' for line in said)


def _levels(report: Report) -> str:
  record = report.records[0] if report.records else {}
  levels = record.get('levels')
  if not levels:
    return ''
  number = lambda names: names['number'] if isinstance(names, Mapping) else len(names)
  sizes = [f'{number(level["classes"]):,}' for level in levels.values()]
  scores = format_levels(record['metric'], levels)
  rows = [(said, size, each) for (said, each), size in zip(scores.items(), sizes, strict=True)]
  note = f'<p class="note">What is new in a test, {_count(record)} episodes each.</p>'
  heads = ('level', 'classes', f'{record["metric"]}, mean ± 95% interval')
  return note + table(heads, rows, 'Levels of generalisation', numbers=True)


def _densities(report: Report) -> str:
  measured = report.records[0].get('density') if report.records else None
  if not measured:
    return ''
  rows = list(format_densities(measured).items())
  note = '<p class="note">How sure the learner is, and how right, on the test episodes.</p>'
  return note + table(('measure', 'mean ± 95% interval'), rows, 'Densities', numbers=True)


def _episodes(report: Report) -> str:
  if report.values is None or not report.records:
    return ''
  return episodes_section(report.values, report.records[0]['metric'])


def _estimate(record: Mapping[str, Any]) -> str:
  return format_estimate(record['metric'], record['mean'], record['ci95'])


def _count(record: Mapping[str, Any]) -> str:
  return f'{record["episodes"]:,}'


def _meaning(record: Mapping[str, Any]) -> str:
  published = record.get('published')
  compared = format_estimate(record['metric'], published) if published is not None else ''
  return (
    f'{record["metric"]}: mean over {_count(record)} test episodes and its 95% confidence '
    f'interval, {record["protocol"]}' + (f'; published: {compared}' if compared else '')
  )


def _facts(record: Mapping[str, Any]) -> str:
  trained = f'{record["steps"]:,} steps in {format_duration(record["train_seconds"])}'
  facts = {name: record[name] for name in ('task', 'learner', 'network')}
  facts |= {'trained': trained, 'device': record['device'], 'seed': record['seed']}
  facts |= _baselines(record)
  if 'difficulty' in record:
    facts['difficulty'] = format_difficulty(record['difficulty'])
  items = (
    f'<div><dt>{escaped(n)}</dt><dd>{escaped_cell(value)}</dd></div>' for n, value in facts.items()
  )
  return f'<dl>{"".join(items)}</dl>'


def _baselines(record: Mapping[str, Any]) -> dict[str, str]:
  """Returns what guessing and the untrained network reach."""
  known = record.get('baselines', {})
  score = lambda name: format_estimate(known['metric'], known[name]['mean'])
  there = [name for name in ('guessing', 'untrained') if name in known]
  said = {'guessing': 'by guessing', 'untrained': 'untrained'}
  return {f'{known["metric"]} {said[name]}': score(name) for name in there}


def _learning(report: Report) -> str:
  names = dict.fromkeys(['loss', 'accuracy', *(r['metric'] for r in report.records)])
  drawn = [report_figures.learning_curve(report.metrics, name) for name in names]
  if not any(drawn):
    return ''
  window = report_figures.smoothing_window(sum('train/loss' in line for line in report.metrics))
  figures = ''.join(
    figure(curve, _said_of_curve(report.metrics, name))
    for name, curve in zip(names, drawn, strict=True)
    if curve
  )
  smoothed = f'the mean of {window} logged values around each step; faint, the values themselves'
  note = f'Training: {smoothed}.'
  if any(key.startswith('validation/') for line in report.metrics for key in line):
    note += ' Validation: mean over episodes, with its 95% interval where it was logged.'
  return f'<div class="figures">{figures}</div><p class="note">{note}</p>'


def _said_of_curve(metrics: Sequence[Mapping[str, Any]], name: str) -> str:
  keys = sorted({key for line in metrics for key in line if key.rpartition('/')[2] == name})
  said = (
    f'{key.rpartition("/")[0]} {note}' for key in keys if (note := learning_note(metrics, key))
  )
  return f'{name}: {"; ".join(said)}'


def learning_note(metrics: Sequence[Mapping[str, Any]], key: str) -> str:
  """Returns in words where a learning curve ends and, unless it is of training, its best value.

  >>> lines = [{'step': step, 'validation/loss': abs(step - 3)} for step in (1, 3, 4)]
  >>> learning_note(lines, 'validation/loss')
  '1 at step 4, best 0 at step 3'
  """
  logged, name = report_figures.series_of(metrics, key), key.rpartition('/')[2]
  if not len(logged):
    return 'not logged'
  step, value = logged[-1][:2]
  words = f'{format_estimate(name, value)} at step {step:,.0f}'
  best = logged[logged[:, 1].argmax() if is_fraction(name) else logged[:, 1].argmin()]
  if key.startswith('train/') or best[1] == value:
    return words
  return f'{words}, best {format_estimate(name, best[1])} at step {best[0]:,.0f}'


def _adaptation(report: Report) -> str:
  if not report.adaptation:
    return ''
  usual = report.records[0]['metric'] if report.records else 'loss'
  metric = report.adaptation_metric or usual
  label, points = report.adaptation_label, sorted(report.adaptation)
  best = {p.amount: format_estimate(metric, p.mean, p.ci95) for p in report.reference}
  rows = [
    (f'{p.amount:g}', format_estimate(metric, p.mean, p.ci95), *([best[p.amount]] if best else []))
    for p in points
  ]
  over = f'{report.adaptation_episodes:,} ' if report.adaptation_episodes else ''
  note = f'Mean over {over}test episodes; the band is the 95% interval of the mean.'
  note += ' Dashed: the Bayes predictor on the same episodes.' if best else ''
  heads = (label, metric, *(['Bayes predictor'] if best else []))
  drawn = report_figures.adaptation_curve(points, label, metric, reference=report.reference)
  return figure(drawn, note) + details(
    'The numbers', table(heads, rows, f'{metric} by {label}', numbers=True)
  )


def _pair(names: tuple[str, str], values: np.ndarray) -> str:
  note = (
    f'{names[1]} against {names[0]}: means over test episodes with alike {names[0]}, with their '
  )
  note += '95% intervals; dashed, where the two are equal.'
  return figure(report_figures.equality(names, *values), note)


def _settings(settings: Mapping[str, Any]) -> str:
  rows = []
  for name, value in settings.items():
    first, *others = settings_of(value)
    rows += [(name, *first), *(('', *other) for other in others)]
  return table(('setting', 'argument', 'value'), rows, 'Settings') if rows else ''


def settings_of(value: Any) -> list[tuple[str, Any]]:
  """Takes a setting apart, a dict or a spec 'name:argument=value,...'; the name comes first."""
  from metakit.components.specs import arguments_in  # which loads JAX

  if isinstance(value, Mapping):
    return list(value.items()) or [('', 'none')]
  spec = re.fullmatch(r'(.+?):(\w+=.*)', str(value), re.DOTALL)
  if not spec:
    return [('', value)]
  return [('', spec[1]), *((argument or '', text) for argument, text in arguments_in(spec[2]))]


def _reproduce(report: Report) -> str:
  body = command(report.command)
  if report.records:
    record = report.records[0]
    packages = record['versions'].items()
    heads = ('device', *(name for name, _ in packages))
    values = (version or 'not installed' for _, version in packages)
    body += table(heads, [(record['device'], *values)], 'Device and versions')
  return body
