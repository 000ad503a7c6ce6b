"""One test episode in a report: examples, predictions, and what the learner looked at."""

import base64
import io
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from experiments.output import report_figures
from experiments.output.page import escaped

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


def episode_section(episode: EpisodePicture) -> str:
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
