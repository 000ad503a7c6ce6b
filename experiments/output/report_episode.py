"""One test episode in a report: examples, predictions, and what the learner looked at."""

import base64
import io
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.output import report_figures
from experiments.output.page import escaped, figure, heading, table, unseen, wide

MAX_CLASSES, MAX_SUPPORT, MAX_QUERIES = 20, 5, 8  # are drawn; the text says how many others are
MAX_ASKED, MAX_NEAREST = 6, 3  # queries whose nearest support examples are shown
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
    attention: [layers, queries, support], how much each query attends to each support example.
    distances: [queries, support], how far they are apart as the learner embeds them.
    names: the name of each label's class, or None.
  """

  support_x: np.ndarray
  support_y: np.ndarray
  query_x: np.ndarray
  query_y: np.ndarray
  query_outputs: np.ndarray
  attention: np.ndarray | None = None
  distances: np.ndarray | None = None
  names: Sequence[str] | None = None


def episode_section(episode: EpisodePicture) -> str:
  """Returns the examples of an episode, what was predicted, and what the learner looked at."""
  arrays: dict[str, Any] = {
    name: None if part is None else np.asarray(part) for name, part in episode._asdict().items()
  }
  episode = episode._replace(**arrays | {'names': episode.names})
  shown = _classification(episode) if _classifies(episode) else _regression(episode)
  return shown + _nearest(episode) + _attention(episode)


def _classifies(episode: EpisodePicture) -> bool:
  return bool(np.issubdtype(episode.query_y.dtype, np.integer))


def _regression(episode: EpisodePicture) -> str:
  if episode.query_x.size == len(episode.query_x) and episode.query_y.size == len(episode.query_y):
    support, query = (episode.support_x, episode.support_y), (episode.query_x, episode.query_y)
    drawn = report_figures.function_curve(support, query, episode.query_outputs)
  else:
    drawn = report_figures.truth_against_prediction(episode.query_y, episode.query_outputs)
  error = np.square(np.ravel(episode.query_outputs) - np.ravel(episode.query_y)).mean()
  note = f'{len(episode.support_x)} support points; mean squared error on the queries {error:.3g}.'
  return figure(drawn, note)


def _attention(episode: EpisodePicture) -> str:
  if episode.attention is None:
    return ''
  first, same, numbers = episode.attention[:, 0], None, ''
  note = 'How much the first query attends to each support example, the mean of all heads'
  if _classifies(episode):
    own = episode.query_y[:, None] == episode.support_y
    same = own[0]
    share = ', '.join(f'{100 * layer[same].sum():.0f}%' for layer in first)
    note += f'; marked, those of its class, which get {share} in the layers from first to last'
    numbers = _attention_to_class(episode.attention, own)
  drawn = report_figures.attention(first, same)
  return heading('Attention to the support') + figure(drawn, f'{note}.') + numbers


def _attention_to_class(attention: np.ndarray, own: np.ndarray) -> str:
  """Returns a table: the attention of all queries to examples of their class, beside all others.

  Args:
    attention: [layers, queries, support].
    own: [queries, support] bool, whether both are of one class.
  """
  percent = lambda values: f'{100 * values.sum(-1).mean():.1f}%'
  rows = [
    (f'layer {number}', percent(layer * own), percent(layer * ~own))
    for number, layer in enumerate(attention, 1)
  ]
  share = 100 * own.mean()
  rows.append(('if all examples got the same', f'{share:.1f}%', f'{100 - share:.1f}%'))
  said = 'attention of all queries to examples of'
  return table((said, 'their class', 'other classes'), rows, 'Attention by layer')


def _nearest(episode: EpisodePicture) -> str:
  """Returns the nearest support examples of some queries, those that are wrong first."""
  if episode.distances is None or not _classifies(episode):
    return ''
  predicted = _predicted(episode.query_outputs)
  queries = np.argsort(predicted == episode.query_y, kind='stable')[:MAX_ASKED]
  support_image, query_image = _images(episode.support_x), _images(episode.query_x)
  rows, name = '', _names(episode)
  for query in queries:
    label, far = episode.query_y[query], episode.distances[query]
    near = ''.join(
      f'<li>{support_image(place, "")}<span>{escaped(name(episode.support_y[place]))} '
      f'<small>{far[place]:.3g}</small></span></li>'
      for place in np.argsort(far, kind='stable')[:MAX_NEAREST]
    )
    asked = _query(query_image(query, ''), label, predicted[query], None, name=name)
    rows += _row(name(label), f'<ul>{asked}</ul>', f'<ol>{near}</ol>')
  right = sum(
    episode.support_y[row.argmin()] == label
    for row, label in zip(episode.distances, episode.query_y, strict=True)
  )
  note = (
    f'The support examples that are nearest to a query as the learner embeds it, and their '
    f'Euclidean distances; queries with a wrong prediction come first. The nearest example is of '
    f'the class of the query for {right} of {len(predicted)} queries.'
  )
  heads, title = ('class of the query', 'query and its prediction', 'nearest'), 'Nearest examples'
  return f'{heading(title)}<p class="note">{note}</p>{_rows(heads, rows, title)}'


def _predicted(outputs: np.ndarray) -> np.ndarray:
  return np.where(np.isfinite(outputs.max(-1)), outputs.argmax(-1), NO_CLASS)


def _names(episode: EpisodePicture) -> Callable[[int], str]:
  """Returns label -> what it is called."""
  names = episode.names
  known = range(len(names or ()))
  own = lambda label: names[label] if names and label in known else str(label)
  return lambda label: 'no label' if label < 0 else own(label)


def _rows(heads: Sequence[str], rows: str, label: str) -> str:
  # On a narrow page a cell stands below the other, where browsers would forget that it is a table.
  head = ''.join(f'<th scope="col" role="columnheader">{each}</th>' for each in heads)
  body = f'<thead><tr role="row">{head}</tr></thead><tbody>{rows}</tbody>'
  return wide(f'<table class="episode stacked" role="table">{body}</table>', label)


def _row(label: str, *cells: str) -> str:
  rest = ''.join(f'<td role="cell">{cell}</td>' for cell in cells)
  return f'<tr role="row"><th scope="row" role="rowheader">{escaped(label)}</th>{rest}</tr>\n'


def _classification(episode: EpisodePicture) -> str:
  predicted, name = _predicted(episode.query_outputs), _names(episode)
  confidence = _softmax(episode.query_outputs).max(-1)
  classes = np.unique(np.concatenate([episode.support_y, episode.query_y]))
  support_image, query_image = _images(episode.support_x), _images(episode.query_x)
  rows = ''
  for label in classes[:MAX_CLASSES]:
    support = np.flatnonzero(episode.support_y == label)
    queries = np.flatnonzero(episode.query_y == label)
    said = f'example of {name(label)}'
    shown = ''.join(f'<li>{support_image(i, said)}</li>' for i in support[:MAX_SUPPORT])
    judged = ''.join(
      _query(query_image(i, ''), label, predicted[i], confidence[i], name=name)
      for i in queries[:MAX_QUERIES]
    )
    rows += _row(
      name(label),
      f'<ul>{shown}</ul>{_more(support, MAX_SUPPORT)}',
      f'<ul>{judged}</ul>{_more(queries, MAX_QUERIES)}',
    )
  right = int((predicted == episode.query_y).sum())
  note = (
    f'{right} of {len(predicted)} queries right. Each row is a true class; under a query is what '
    'was predicted and with which probability, ✗ where it is wrong. '
  )
  if len(classes) > MAX_CLASSES:
    note += f'The first {MAX_CLASSES} of {len(classes)} classes.'
  return f'<p class="note">{note}</p>{_rows(("class", "support", "queries"), rows, "Episode")}'


def _more(places: np.ndarray, shown: int) -> str:
  return f'<span class="note">and {len(places) - shown} more</span>' if len(places) > shown else ''


def _query(
  image: str, label: int, predicted: int, confidence: float | None, *, name: Callable[[int], str]
) -> str:
  kind, sign = ('right', '✓') if predicted == label else ('wrong', '✗')
  if predicted == NO_CLASS:
    said = f'true class {name(label)}, the prediction is not finite'
    return f'<li class="{kind}" title="{escaped(said)}">{image}<span>{sign} none</span></li>'
  said = f'true class {name(label)}, predicted {name(predicted)}'
  shown = escaped(name(predicted))
  if confidence is not None:
    said += f' with probability {confidence:.3f}'
    shown += f' <small>{100 * confidence:.0f}%</small>'
  return (
    f'<li class="{kind}" title="{escaped(said)}">{image}'
    f'<span>{unseen(kind)}{sign} {shown}</span></li>'
  )


def _softmax(outputs: np.ndarray) -> np.ndarray:
  with np.errstate(invalid='ignore'):  # infinite logits give nan, since they have no probability
    exponentials = np.exp(outputs.astype(float) - outputs.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def _images(x: np.ndarray) -> Callable[[int, str], str]:
  """Returns (row number, what it shows) -> <img>, or -> '' if the rows of x are no images."""
  if x.ndim != 4 or x.shape[-1] not in (1, 3):
    return lambda row, said: ''
  low, high = (0, 255) if x.dtype == np.uint8 else (float(x.min()), float(x.max()))
  return lambda row, said: _image(_to_bytes(x[row], low, high), said)


def _to_bytes(image: np.ndarray, low: float, high: float) -> np.ndarray:
  scaled = 255 * (image.astype(float) - low) / max(high - low, 1e-12)
  return np.nan_to_num(scaled).clip(0, 255).round().astype(np.uint8)


def _image(pixels: np.ndarray, said: str) -> str:
  from PIL import Image  # loaded only where an image is drawn

  image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
  image.thumbnail((MAX_PIXELS, MAX_PIXELS))
  data = io.BytesIO()
  image.save(data, format='PNG', optimize=True)
  source = base64.b64encode(data.getvalue()).decode()
  return f'<img alt="{escaped(said)}" src="data:image/png;base64,{source}">'
