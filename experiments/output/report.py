"""report.html: the results of a run on one page, which needs neither a network nor a script."""

import base64
import io
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from experiments.output import report_figures
from experiments.output.page import escaped, escaped_cell, page, section, table
from experiments.output.report_figures import AdaptationPoint as AdaptationPoint
from experiments.output.text import format_duration, format_estimate
from metakit.components.specs import arguments_in

MAX_CLASSES, MAX_SUPPORT, MAX_QUERIES = 20, 5, 8  # are drawn; the text says how many others are
MAX_PIXELS = 96  # the longer side of a drawn image
NO_CLASS = -1  # the predicted class where outputs are not finite


class EpisodePicture(NamedTuple):
  """One test episode and what was predicted, as NumPy arrays without padding.

  Attributes:
    support_x: images [examples, height, width, channels] (uint8, or floats of any range), or
      inputs of another shape.
    support_y: integer labels [examples], or regression targets [examples] or [examples, outputs].
    query_x: like support_x.
    query_y: like support_y.
    query_outputs: logits [queries, ways], or predictions shaped like query_y.
    attention: [layers, support], how much the first query attends to each support example.
  """

  support_x: np.ndarray
  support_y: np.ndarray
  query_x: np.ndarray
  query_y: np.ndarray
  query_outputs: np.ndarray
  attention: np.ndarray | None = None


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
  episode: EpisodePicture | None = None
  settings: Mapping[str, Any] = MappingProxyType({})


def render(report: Report) -> str:
  """Returns the report as HTML that needs no other file and no script; all text is escaped."""
  sections = [
    _headline(report),
    section('Learning curve', _learning(report)),
    section('Adaptation', _adaptation(report)),
    section('What should be equal', _pair(*report.pair) if report.pair else ''),
    section('One test episode', _episode(report.episode) if report.episode else ''),
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
    others = '<h2>Further results</h2>' + table(heads, rows)
  return (
    f'<header>{title}<p class="result">{escaped(mean)}{interval}</p>'
    f'<p>{escaped(_meaning(first))}</p>{_facts(first)}</header>{others}\n'
  )


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
  items = (
    f'<div><dt>{escaped(n)}</dt><dd>{escaped_cell(value)}</dd></div>' for n, value in facts.items()
  )
  return f'<dl>{"".join(items)}</dl>'


def _learning(report: Report) -> str:
  names = dict.fromkeys(['loss', 'accuracy', *(r['metric'] for r in report.records)])
  drawn = [report_figures.learning_curve(report.metrics, name) for name in names]
  if not any(drawn):
    return ''
  window = report_figures.smoothing_window(sum('train/loss' in line for line in report.metrics))
  figures = ''.join(f'<figure>{figure}</figure>' for figure in drawn if figure)
  smoothed = f'the mean of {window} logged values around each step; faint, the values themselves'
  note = f'Training: {smoothed}.'
  if any(key.startswith('validation/') for line in report.metrics for key in line):
    note += ' Validation: mean over episodes, with its 95% interval where it was logged.'
  return f'<div class="figures">{figures}</div><p class="note">{note}</p>'


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
  return (
    f'<figure>{drawn}</figure><p class="note">{note}</p>'
    f'<details><summary>The numbers</summary>{table(heads, rows)}</details>'
  )


def _pair(names: tuple[str, str], values: np.ndarray) -> str:
  note = (
    f'{names[1]} against {names[0]}: means over test episodes with alike {names[0]}, with their '
  )
  note += '95% intervals; dashed, where the two are equal.'
  return f'<figure>{report_figures.equality(names, *values)}</figure><p class="note">{note}</p>'


def _episode(episode: EpisodePicture) -> str:
  arrays: dict[str, Any] = {
    name: None if part is None else np.asarray(part) for name, part in episode._asdict().items()
  }
  episode = episode._replace(**arrays)
  if np.issubdtype(episode.query_y.dtype, np.integer):
    return _classification(episode) + _attention(episode)
  if episode.query_x.size == len(episode.query_x) and episode.query_y.size == len(episode.query_y):
    support, query = (episode.support_x, episode.support_y), (episode.query_x, episode.query_y)
    figure = report_figures.function_curve(support, query, episode.query_outputs)
  else:
    figure = report_figures.truth_against_prediction(episode.query_y, episode.query_outputs)
  error = np.square(np.ravel(episode.query_outputs) - np.ravel(episode.query_y)).mean()
  note = f'{len(episode.support_x)} support points; mean squared error on the queries {error:.3g}.'
  return f'<figure>{figure}</figure><p class="note">{escaped(note)}</p>{_attention(episode)}'


def _attention(episode: EpisodePicture) -> str:
  if episode.attention is None:
    return ''
  same = None
  note = 'How much the first query attends to each support example, the mean of all heads'
  if np.issubdtype(episode.query_y.dtype, np.integer):
    same = episode.support_y == episode.query_y[0]
    share = ', '.join(f'{100 * layer[same].sum():.0f}%' for layer in episode.attention)
    note += f'; marked, those of its class, which get {share} in the layers from first to last'
  figure = report_figures.attention(episode.attention, same)
  return f'<figure>{figure}</figure><p class="note">{note}.</p>'


def _classification(episode: EpisodePicture) -> str:
  outputs = episode.query_outputs
  predicted = np.where(np.isfinite(outputs.max(-1)), outputs.argmax(-1), NO_CLASS)
  confidence = _softmax(episode.query_outputs).max(-1)
  classes = np.unique(np.concatenate([episode.support_y, episode.query_y]))
  support_image, query_image = _images(episode.support_x), _images(episode.query_x)
  rows = ''
  for label in classes[:MAX_CLASSES]:
    support = np.flatnonzero(episode.support_y == label)
    queries = np.flatnonzero(episode.query_y == label)
    shown = ''.join(f'<li>{support_image(i)}</li>' for i in support[:MAX_SUPPORT])
    judged = ''.join(
      _query(query_image(i), label, predicted[i], confidence[i]) for i in queries[:MAX_QUERIES]
    )
    rows += (
      f'<tr><th scope="row">{label}</th><td><ul>{shown}</ul>{_more(support, MAX_SUPPORT)}</td>'
      f'<td><ul>{judged}</ul>{_more(queries, MAX_QUERIES)}</td></tr>\n'
    )
  right = int((predicted == episode.query_y).sum())
  note = (
    f'{right} of {len(predicted)} queries right. Each row is a true class; under a query is what '
    'was predicted and with which probability, ✗ where it is wrong. '
  )
  if len(classes) > MAX_CLASSES:
    note += f'The first {MAX_CLASSES} of {len(classes)} classes.'
  heads = '<th scope="col">class</th><th scope="col">support</th><th scope="col">queries</th>'
  return (
    f'<p class="note">{note}</p><div class="wide"><table class="episode"><thead><tr>{heads}</tr>'
    f'</thead><tbody>{rows}</tbody></table></div>'
  )


def _more(places: np.ndarray, shown: int) -> str:
  return f'<span class="note">and {len(places) - shown} more</span>' if len(places) > shown else ''


def _query(image: str, label: int, predicted: int, confidence: float) -> str:
  kind, sign = ('right', '✓') if predicted == label else ('wrong', '✗')
  if predicted == NO_CLASS:
    said = f'true class {label}, the prediction is not finite'
    return f'<li class="{kind}" title="{said}">{image}<span>{sign} none</span></li>'
  said = f'true class {label}, predicted {predicted} with probability {confidence:.3f}'
  return (
    f'<li class="{kind}" title="{said}">{image}'
    f'<span>{sign} {predicted} <small>{100 * confidence:.0f}%</small></span></li>'
  )


def _softmax(outputs: np.ndarray) -> np.ndarray:
  with np.errstate(invalid='ignore'):  # infinite logits give nan, since they have no probability
    exponentials = np.exp(outputs.astype(float) - outputs.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def _images(x: np.ndarray) -> Callable[[int], str]:
  """Returns row number -> <img>, or -> '' if the rows of x are no images."""
  if x.ndim != 4 or x.shape[-1] not in (1, 3):
    return lambda row: ''
  low, high = (0, 255) if x.dtype == np.uint8 else (float(x.min()), float(x.max()))
  return lambda row: _image(_to_bytes(x[row], low, high))


def _to_bytes(image: np.ndarray, low: float, high: float) -> np.ndarray:
  scaled = 255 * (image.astype(float) - low) / max(high - low, 1e-12)
  return np.nan_to_num(scaled).clip(0, 255).round().astype(np.uint8)


def _image(pixels: np.ndarray) -> str:
  from PIL import Image  # loaded only where an image is drawn

  image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
  image.thumbnail((MAX_PIXELS, MAX_PIXELS))
  data = io.BytesIO()
  image.save(data, format='PNG', optimize=True)
  return f'<img alt="" src="data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}">'


def _settings(settings: Mapping[str, Any]) -> str:
  rows = []
  for name, value in settings.items():
    first, *others = _arguments(value)
    rows += [(name, *first), *(('', *other) for other in others)]
  return table(('setting', 'argument', 'value'), rows) if rows else ''


def _arguments(value: Any) -> list[tuple[str, Any]]:
  """Takes a setting apart, a dict or a spec 'name:argument=value,...'; the name comes first."""
  if isinstance(value, Mapping):
    return list(value.items()) or [('', 'none')]
  spec = re.fullmatch(r'(.+?):(\w+=.*)', str(value), re.DOTALL)
  if not spec:
    return [('', value)]
  return [('', spec[1]), *((argument or '', text) for argument, text in arguments_in(spec[2]))]


def _reproduce(report: Report) -> str:
  words = ''.join(f'<span>{escaped(word)}</span> ' for word in report.command.split(' ')).rstrip()
  body = f'<pre><code>{words}</code></pre>'
  if report.records:
    record = report.records[0]
    packages = record['versions'].items()
    heads = ('device', *(name for name, _ in packages))
    values = (version or 'not installed' for _, version in packages)
    body += table(heads, [(record['device'], *values)])
  return body
