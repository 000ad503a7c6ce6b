"""A page of several runs: results, paired differences, curves over one another, settings."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from experiments.output.figures_of_runs import adaptation_curves, learning_curves
from experiments.output.page import command, escaped, figure, heading, page, section, table
from experiments.output.report import learning_note, settings_of
from experiments.output.text import format_baselines, format_duration, format_estimate
from metakit.estimates import Estimate

SETTINGS = (
  *('task', 'training_task', 'learner', 'network', 'optimizer', 'schedule', 'protocol'),
  *('steps', 'tasks_per_step', 'training_seed', 'seed', 'episodes', 'split', 'data', 'device'),
)


class RunShown(NamedTuple):
  """A run: what it is called, the record of its test, and its metrics in training."""

  name: str
  record: Mapping[str, Any]
  metrics: Sequence[Mapping[str, Any]]


class Difference(NamedTuple):
  """The first run less the second, paired by episode; or why they were not compared."""

  first: str
  second: str
  metric: str
  estimate: Estimate | None
  why: str


def render_runs(runs: Sequence[RunShown], differences: Sequence[Difference]) -> str:
  """Returns a page that needs no other file and no script."""
  title = f'{len(runs)} runs side by side'
  sections = [
    f'<header><h1>{title}</h1></header>',
    section('Results', _results(runs)),
    section('Paired differences', _differences(differences)),
    section('Learning curves', _learning(runs)),
    section('Adaptation', _adaptation(runs)),
    section('Settings that differ', _settings(runs)),
    section('Run them again', _commands(runs)),
  ]
  return page(title, ''.join(sections))


def _results(runs: Sequence[RunShown]) -> str:
  heads = ('run', 'metric', 'mean ± 95% interval', 'episodes', 'guessing', 'untrained', 'training')
  said = ''.join(
    f'<p class="warning">{escaped(run.name)}: {escaped(line)}.</p>'
    for run in runs
    for line in (format_baselines(run.record['baselines']) if 'baselines' in run.record else ())
  )
  return (
    table(heads, [_result(run.name, run.record) for run in runs], 'Results', numbers=True) + said
  )


def _result(name: str, record: Mapping[str, Any]) -> tuple[Any, ...]:
  known, metric = record.get('baselines', {}), record['metric']
  reached = lambda what: (
    format_estimate(known['metric'], known[what]['mean']) if what in known else ''
  )
  return (
    name,
    metric,
    format_estimate(metric, record['mean'], record['ci95']),
    f'{record["episodes"]:,}',
    reached('guessing'),
    reached('untrained'),
    f'{record["steps"]:,} steps in {format_duration(record["train_seconds"])}',
  )


def _differences(differences: Sequence[Difference]) -> str:
  rows = []
  for each in differences:
    pair = f'{each.first} - {each.second}'
    if each.estimate is None:
      rows.append((pair, 'not compared', '', each.why))
      continue
    mean, ci95, episodes = each.estimate
    surely = 'differ' if abs(mean) > ci95 else 'not told apart'
    rows.append((pair, format_estimate(each.metric, mean, ci95), f'{episodes:,}', surely))
  note = 'The first run less the second, episode by episode, where both saw the same episodes.'
  heads = ('runs', 'difference ± 95% interval', 'episodes', 'so they')
  return f'<p class="note">{note}</p>{table(heads, rows, "Paired differences")}'


def _learning(runs: Sequence[RunShown]) -> str:
  """One figure for each metric that was logged in training or validation."""
  metrics = dict.fromkeys(['loss', 'accuracy', *(run.record['metric'] for run in runs)])
  keys = [f'{part}/{metric}' for metric in metrics for part in ('train', 'validation')]
  shown = {run.name: run.metrics for run in runs}
  figures = ''
  for key in keys:
    if drawn := learning_curves(shown, key):
      notes = (f'{name} {learning_note(lines, key)}' for name, lines in shown.items())
      said = f'{key.replace("/", " ")}. ' + '; '.join(note for note in notes)
      figures += figure(drawn, f'{said}.')
  return figures and f'<div class="figures">{figures}</div>'


def _adaptation(runs: Sequence[RunShown]) -> str:
  """One figure for each kind of amount (inner steps, examples)."""
  curves: dict[str, dict[str, list[dict[str, Any]]]] = {}
  for run in runs:
    for amount, points in run.record.get('adaptation', {}).items():
      curves.setdefault(amount, {})[run.name] = points
  body = ''
  for amount, of_runs in curves.items():
    metric = next(run.record['metric'] for run in runs if run.name in of_runs)
    amounts = sorted({point['amount'] for points in of_runs.values() for point in points})
    rows = []
    for value in amounts:
      scores = (_score_at(points, value, metric) for points in of_runs.values())
      rows.append((f'{value:g}', *scores))
    body += figure(adaptation_curves(of_runs, amount, metric), f'{metric} against {amount}.')
    body += table((amount, *of_runs), rows, f'{metric} by {amount}', numbers=True)
  return body


def _score_at(points: Sequence[Mapping[str, Any]], amount: float, metric: str) -> str:
  found = (format_estimate(metric, p['mean'], p['ci95']) for p in points if p['amount'] == amount)
  return next(found, '')


def _settings(runs: Sequence[RunShown]) -> str:
  """The arguments that are not the same in all runs."""
  taken = [
    {
      (name, argument): str(value)
      for name in SETTINGS
      for argument, value in settings_of(run.record.get(name, ''))
    }
    for run in runs
  ]
  keys = dict.fromkeys(key for each in taken for key in each)
  rows = [
    (f'{name} {argument}'.strip(), *(each.get((name, argument), '') for each in taken))
    for name, argument in keys
    if len({each.get((name, argument), '') for each in taken}) > 1
  ]
  if not rows:
    return '<p class="note">None.</p>'
  return table(('setting', *(run.name for run in runs)), rows, 'Settings that differ')


def _commands(runs: Sequence[RunShown]) -> str:
  said = lambda record: record.get('training_command', record['command'])
  return ''.join(f'{heading(run.name)}{command(said(run.record))}' for run in runs)
