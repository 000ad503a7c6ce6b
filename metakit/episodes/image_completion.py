"""Image completion: a function from the place of a pixel to its brightness (Garnelo et al. 2018).

Marta Garnelo et al., Conditional Neural Processes, ICML 2018, arXiv:1807.01613, section 4.2. An
episode is one image. The support is some of its pixels, drawn at random, and the query others.
"""

import jax
import jax.numpy as jnp

from metakit.data.table import ClassTable
from metakit.episodes.integer_draws import draw_without_replacement, integers_below
from metakit.inputs import as_float
from metakit.sizes import check_positive
from metakit.sources import EpisodeSource
from metakit.types import Episode, Examples, Key


def image_completion(
  table: ClassTable, shots: int = 200, queries: int | None = None, *, fewest: int | None = None
) -> EpisodeSource:
  """Regression episodes: the pixels of one image of a table, drawn without replacement.

  Args:
    table: images [rows, height, width, channels], all equally likely. Bytes become 0 to 1.
    shots: support pixels.
    queries: query pixels; None for all that are left.
    fewest: the least number of support pixels. Each number from it to `shots` is equally likely,
      and the others have the weight 0. None for `shots` in every episode.

  Returns:
    A source: x [pixels, 2], row and column from -1 to 1; y [pixels, channels]; info['row'] [], the
    row of the table, and info['pixels'] [shots + queries], their numbers in the image.

  Raises:
    ValueError: if a number is not positive, there are too few pixels, or the table has no images.

  >>> import numpy as np
  >>> from metakit.data.table import class_table
  >>> images = np.array([0, 85, 170, 255], np.uint8).reshape(1, 2, 2, 1)
  >>> source = jax.jit(image_completion(class_table(images, np.zeros(1, int)), shots=3))
  >>> episode = source(jax.random.key(0))
  >>> row, column = episode.query.x[0] / 2 + 0.5  # of the pixel that is left
  >>> bool(abs(episode.query.y[0, 0] - (2 * row + column) / 3) < 1e-6)
  True
  """
  height, width, channels = _sizes(table)
  pixels = height * width
  queries = pixels - shots if queries is None else queries
  _check(pixels, shots, queries, fewest)
  at = jnp.stack(jnp.meshgrid(_axis(height), _axis(width), indexing='ij'), -1).reshape(pixels, 2)

  @jax.jit
  def plan(key: Key) -> Episode:
    row_key, pixel_key, length_key = jax.random.split(key, 3)
    row = integers_below(row_key, len(table.x))
    info = {
      'row': row,
      'pixels': draw_without_replacement(pixel_key, pixels, shots + queries),
    }
    if fewest is not None:
      info['shots'] = fewest + integers_below(length_key, shots + 1 - fewest)
    image = Examples(row[None], jnp.zeros((1, channels)))
    return Episode(image, image, info)

  @jax.jit
  def finish(episode: Episode) -> Episode:
    y = as_float(episode.support.x[0]).reshape(pixels, channels)
    drawn, info = episode.info['pixels'], episode.info
    support, query = (Examples(at[part], y[part]) for part in (drawn[:shots], drawn[shots:]))
    if fewest is not None:
      weight = (jnp.arange(shots) < info['shots']).astype(jnp.float32)
      support = support._replace(weight=weight)
    return Episode(support, query, info)

  return EpisodeSource(plan, table.x, finish)


def _sizes(table: ClassTable) -> tuple[int, int, int]:
  if table.x.ndim != 4:
    raise ValueError(f'table of shape {table.x.shape}; give [rows, height, width, channels]')
  return table.x.shape[1:]


def _axis(size: int) -> jax.Array:
  return jnp.linspace(-1, 1, size, dtype=jnp.float32)


def _check(pixels: int, shots: int, queries: int, fewest: int | None) -> None:
  check_positive(shots=shots)
  if queries < 1 or shots + queries > pixels:
    raise ValueError(
      f'shots={shots} and queries={queries} of {pixels} pixels; use at least one query, and no '
      'more than there are'
    )
  if fewest is not None and not 0 <= fewest <= shots:
    raise ValueError(f'fewest={fewest} is not between 0 and shots={shots}')
