"""Figures of a report as inline SVG. Their colours are CSS variables, for light and dark pages."""

import html
import io
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.output.text import is_fraction

MAX_POINTS = 1500  # of a line; a screen shows no more, and the page of a long run stays small
LOG_RANGE = 30  # a loss that falls by more than this factor is shown on a logarithmic axis
EPISODE_LABEL = 'an episode: support points, true function and prediction'

# Colours that matplotlib accepts. The page's variables of these names replace them later.
_OF_RUNS = tuple(f'run{number}' for number in range(8))
_STAND_INS = {
  name: f'#0a0b{number:02x}'
  for number, name in enumerate(('ink', 'soft', 'line', 'train', 'validation', *_OF_RUNS))
}
INK, SOFT, LINE, TRAIN, VALIDATION, *RUNS = _STAND_INS.values()


class AdaptationPoint(NamedTuple):
  """Test performance after some amount of adaptation.

  Attributes:
    amount: support examples a class, inner steps, ...
    mean: over test episodes, in the unit of the record's metric.
    ci95: half the width of the 95% interval of the mean.
  """

  amount: float
  mean: float
  ci95: float


def learning_curve(metrics: Sequence[Mapping[str, Any]], name: str) -> str:
  """Draws one metric against training steps; '' if it was never logged.

  'train/name' is a line (a centred running mean, faint behind it every value); 'name' under any
  other prefix is points, with bars where 'prefix/name_ci95' was logged with them.

  Args:
    metrics: lines as read_metrics returns them.
    name: 'loss', 'accuracy', ...
  """
  prefixes = sorted({key.rpartition('/')[0] for line in metrics for key in line})
  logged = {prefix: series_of(metrics, f'{prefix}/{name}') for prefix in prefixes}
  logged = {prefix: series for prefix, series in logged.items() if len(series)}
  if not logged:
    return ''
  scale = 100 if is_fraction(name) else 1
  figure, axes = new_axes('training step', axis_title(name))
  if 'train' in logged:
    _draw_training(axes, *(logged['train'] * [1, scale, scale]).T[:2])
  for prefix, series in logged.items():
    if prefix != 'train':
      _draw_points(axes, prefix, *(series * [1, scale, scale]).T)
  choose_scale(axes, np.concatenate([series[:, 1] for series in logged.values()]), scale == 1)
  axes.legend(frameon=False, labelcolor=INK, fontsize=9)
  return svg_of(figure, f'{name} against training steps')


def adaptation_curve(
  points: Sequence[AdaptationPoint],
  amount: str,
  metric: str,
  *,
  reference: Sequence[AdaptationPoint] = (),
) -> str:
  """Draws test performance against the amount of adaptation, with the band of 95% intervals.

  Args:
    points: points of the learner.
    amount: title of the horizontal axis.
    metric: metric on the vertical axis.
    reference: points of the Bayes predictor, drawn dashed.
  """
  scale = 100 if is_fraction(metric) else 1
  x, mean, ci95 = (np.array(sorted(points), float) * [1, scale, scale]).T
  figure, axes = new_axes(amount, axis_title(metric), width=5.0)
  axes.fill_between(x, mean - ci95, mean + ci95, color=TRAIN, alpha=0.2, linewidth=0)
  axes.plot(x, mean, color=TRAIN, marker='o', markersize=4, label='learner')
  if reference:
    best, level = (np.array(sorted(reference), float) * [1, scale, scale]).T[:2]
    axes.plot(best, level, color=SOFT, linestyle='--', label='Bayes predictor')
    axes.legend(frameon=False, labelcolor=INK, fontsize=9)
  if len(x) <= 12:
    axes.set_xticks(x, [f'{value:g}' for value in x])
  return svg_of(figure, f'{metric} against {amount}')


def phase_diagram(cells: Sequence[Mapping[str, Any]], name: str) -> str:
  """Draws a quantity over the number of tasks (powers of two) and the width of the model.

  Args:
    cells: each with 'tasks', 'width' and cell[name]['mean'].
    name: name of the quantity.
  """
  pools = sorted({cell['tasks'] for cell in cells})
  widths = sorted({cell['width'] for cell in cells})
  grid = np.full((len(widths), len(pools)), np.nan)
  for cell in cells:
    grid[widths.index(cell['width']), pools.index(cell['tasks'])] = cell[name]['mean']
  figure, axes = new_axes('number of tasks (log2)', 'width of the model', width=6.0)
  axes.grid(False)
  axes.imshow(grid, origin='lower', aspect='auto', cmap='Blues', vmin=0, vmax=1)
  axes.set_xticks(range(len(pools)), [f'{np.log2(tasks):g}' for tasks in pools])
  axes.set_yticks(range(len(widths)), widths)
  for (row, column), value in np.ndenumerate(grid):
    colour = 'white' if value > 0.5 else 'black'
    axes.text(column, row, f'{value:.2f}', ha='center', va='center', color=colour, fontsize=9)
  return svg_of(figure, f'{name} against number of tasks and width of the model')


def crossover(cells: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
  """Draws quantities against the number of tasks, a line for each and each width.

  Args:
    cells: as for `phase_diagram`.
    names: names of two quantities.
  """
  figure, axes = new_axes('number of tasks (log2)', 'mean squared difference', width=6.0)
  widths = sorted({cell['width'] for cell in cells})
  colours = dict(zip(names, (TRAIN, VALIDATION), strict=True))
  for name, width in itertools.product(names, widths):
    mine = [(c['tasks'], c[name]['mean'], c[name]['ci95']) for c in cells if c['width'] == width]
    tasks, mean, ci95 = np.array(sorted(mine)).T
    style = {'color': colours[name], 'alpha': 0.4 + 0.6 * width / widths[-1], 'markersize': 4}
    axes.errorbar(np.log2(tasks), mean, ci95, None, 'o-', label=f'{name} (width {width})', **style)
  axes.set_yscale('log')
  axes.legend(frameon=False, labelcolor=INK, fontsize=9)
  return svg_of(figure, f'{" and ".join(names)} against number of tasks')


def function_curve(support: Any, query: Any, outputs: Any) -> str:
  """Draws a regression episode: support points, the true function and the prediction.

  Args:
    support: (x, y), each [examples] or [examples, 1].
    query: (x, y), likewise.
    outputs: predictions for query x.
  """
  support_x, support_y, query_x, query_y, predicted = map(np.ravel, (*support, *query, outputs))
  order = np.argsort(query_x, kind='stable')
  figure, axes = new_axes('x', 'y', width=5.0)
  axes.plot(query_x[order], query_y[order], color=SOFT, linestyle='--', label='truth (queries)')
  axes.plot(query_x[order], predicted[order], color=TRAIN, label='prediction')
  if len(query_x) <= 50:
    axes.plot(query_x, predicted, '.', color=TRAIN, markersize=4)
  axes.plot(support_x, support_y, 'o', color=VALIDATION, label=f'support ({len(support_x)})')
  axes.legend(frameon=False, labelcolor=INK, fontsize=9)
  return svg_of(figure, EPISODE_LABEL)


def attention(weights: np.ndarray, marked: np.ndarray | None = None) -> str:
  """Draws attention weights over the support, one row a layer.

  Args:
    weights: [layers, support].
    marked: [support] bool; those drawn in another colour.
  """
  figure, axes = new_axes('support example', 'layer', width=5.0, height=1.0 + 0.6 * len(weights))
  there = np.zeros(weights.shape[1], bool) if marked is None else marked
  colours = np.where(there, VALIDATION, TRAIN)
  for layer, row in enumerate(weights):
    heights = 0.85 * row / max(row.max(), 1e-12)
    axes.bar(np.arange(len(row)), heights, bottom=layer, color=colours, width=0.8)
  axes.set_yticks(range(len(weights)), [str(layer + 1) for layer in range(len(weights))])
  return svg_of(figure, 'attention of a query to the support, by layer')


def truth_against_prediction(truth: Any, outputs: Any) -> str:
  """Draws a regression episode by its queries: the true value of each against the predicted one."""
  truth, outputs = np.ravel(truth), np.ravel(outputs)
  figure, axes = new_axes('true y', 'predicted y')
  axes.axline((truth.mean(), truth.mean()), slope=1, color=SOFT, linestyle='--')
  axes.plot(truth, outputs, 'o', color=TRAIN, markersize=4)
  return svg_of(figure, 'an episode: predicted against true values')


BINS = 20  # of the quantity on the horizontal axis


def equality(names: tuple[str, str], first: np.ndarray, second: np.ndarray) -> str:
  """Draws the mean of a second quantity over similar values of the first, and the line of equality.

  Args:
    names: names of the two quantities.
    first: [points].
    second: [points].
  """
  edges = np.unique(np.quantile(first, np.linspace(0, 1, BINS + 1)))
  place = np.searchsorted(edges[1:-1], first, side='right')
  groups = [(first[place == i], second[place == i]) for i in np.unique(place)]
  x, y = ([float(each.mean()) for each in side] for side in zip(*groups, strict=True))
  ci95 = [1.96 * each.std() / len(each) ** 0.5 for _, each in groups]
  figure, axes = new_axes(*names)
  axes.axline((x[0], x[0]), slope=1, color=SOFT, linestyle='--')
  axes.errorbar(x, y, ci95, None, 'o', color=TRAIN, markersize=4)
  return svg_of(figure, f'{names[1]} against {names[0]}')


def axis_title(metric: str) -> str:
  """Returns the metric with its unit."""
  return f'{metric} (%)' if is_fraction(metric) else metric


def smooth(values: np.ndarray, window: int) -> np.ndarray:
  """Returns the centred mean over `window` values, over fewer at the ends.

  >>> smooth(np.array([0.0, 3.0, 6.0, 0.0]), 3).tolist()
  [1.5, 3.0, 3.0, 3.0]
  """
  window = min(window, len(values)) | 1  # odd, so that the mean does not lag
  total = np.concatenate([[0.0], np.cumsum(values)])
  place = np.arange(len(values))
  first = np.maximum(place - window // 2, 0)
  after = np.minimum(place + window // 2 + 1, len(values))
  return (total[after] - total[first]) / (after - first)


def smoothing_window(count: int) -> int:
  """Returns how many logged values are averaged at each point of the training line."""
  return max(1, count // 20) | 1


def series_of(metrics: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
  """Returns the finite values [points, 3]: step, value, half interval (0 if there is none)."""
  rows = [(line['step'], line[key], line.get(f'{key}_ci95', 0)) for line in metrics if key in line]
  series = np.array(rows, float).reshape(-1, 3)
  return np.nan_to_num(series[np.isfinite(series[:, 1])])


def _draw_training(axes: Any, step: np.ndarray, value: np.ndarray) -> None:
  stride = -(-len(step) // MAX_POINTS)
  smoothed = smooth(value, smoothing_window(len(step)))
  faint = {'color': TRAIN, 'alpha': 0.25, 'linewidth': 0.8}
  axes.plot(step[::stride], value[::stride], **faint)
  axes.plot(step[::stride], smoothed[::stride], color=TRAIN, linewidth=1.6, label='train')


def _draw_points(
  axes: Any, label: str, step: np.ndarray, value: np.ndarray, ci95: np.ndarray
) -> None:
  style = {'color': VALIDATION, 'markersize': 4, 'linewidth': 1, 'elinewidth': 1, 'capsize': 2}
  # A legend reads text between dollar signs as a formula, and hides a label with a leading
  # underscore.
  label = label.replace('$', r'\$').lstrip('_') or 'logged'
  axes.errorbar(step, value, yerr=ci95 if ci95.any() else None, fmt='o-', label=label, **style)


def choose_scale(axes: Any, values: np.ndarray, unbounded: bool) -> None:
  """Makes the vertical axis logarithmic, if positive values differ much and have no bound."""
  if unbounded and values.min() > 0 and values.max() / values.min() > LOG_RANGE:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axes.set_yscale('log')
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, place: f'{value:g}'))
    axes.yaxis.set_minor_formatter(NullFormatter())


def new_axes(
  x_title: str, y_title: str, *, width: float = 4.6, height: float = 2.9
) -> tuple[Any, Any]:
  """Returns a figure, inches wide and high, and its axes, in the colours of the page."""
  from matplotlib.figure import Figure  # no pyplot: no global state, no display

  figure = Figure(figsize=(width, height), layout='constrained')
  axes = figure.subplots()
  axes.set_xlabel(x_title, color=SOFT, fontsize=9, parse_math=False)
  axes.set_ylabel(y_title, color=SOFT, fontsize=9, parse_math=False)
  axes.tick_params(which='both', colors=SOFT, labelsize=9, length=3)
  axes.grid(color=LINE, linewidth=0.6)
  axes.set_axisbelow(True)
  axes.spines[['top', 'right']].set_visible(False)
  axes.spines[['left', 'bottom']].set_color(LINE)
  return figure, axes


def svg_of(figure: Any, label: str) -> str:
  """Returns the figure as an <svg> element for an HTML page, without any web address."""
  import matplotlib

  figure.patch.set_alpha(0)
  for axes in figure.axes:
    axes.patch.set_alpha(0)
  drawn = io.StringIO()
  # Text stays text: it is sharp, can be searched, and takes the font of the page. The salt makes
  # the same ids each time.
  with matplotlib.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': label}):
    figure.savefig(drawn, format='svg', metadata={'Date': None})
  svg = drawn.getvalue()
  svg = svg[svg.index('<svg') :]
  svg = re.sub(r'<metadata>.*?</metadata>', '', svg, flags=re.DOTALL)
  svg = re.sub(r' xmlns(:xlink)?="[^"]*"', '', svg).replace('xlink:href', 'href')
  svg = re.sub(r'<g id="[^"]*">', '<g>', svg)
  svg = re.sub(r"""font(-family)?: (\d[\d.]*px )?'DejaVu Sans'[^;"]*""", _page_font, svg)
  for name, colour in _STAND_INS.items():
    svg = svg.replace(colour, f'var(--{name})')
  return svg.replace('<svg', f'<svg role="img" aria-label="{html.escape(label)}"', 1)


def _page_font(font: re.Match[str]) -> str:
  return f'font: {font[2]}var(--font)' if font[2] else 'font-family: var(--font)'
