"""Quarter turns of images as further classes (Santoro et al. 2016, arXiv:1605.06065).

The table stays as it is. A plan says how often each image is turned, and the images of an episode
are turned once they are in place.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from metakit.data.table import ClassTable
from metakit.episodes.augmentation import entries
from metakit.sources import EpisodeSource, abstract_episode, change_plans
from metakit.types import Episode, Examples, Key, Sampler

ANGLES = 0, 90, 180, 270


def turned_classes(draw: Callable[[ClassTable], EpisodeSource], table: ClassTable) -> EpisodeSource:
  """Episodes of four times the classes: each class as it is, and turned by 90, 180, 270 degrees.

  Args:
    draw: makes a source of a table, `lambda table: few_shot(table, ways=5)` for instance.
    table: the classes as they are, of square images [height, width, ...].

  Returns:
    The episodes of `draw(turned_table(table))`. info['turns'] says how often the images of support
    and query are turned counterclockwise, a pair of int32 [examples].

  Raises:
    ValueError: if the images are not square.

  >>> from metakit.data.table import class_table
  >>> from metakit.episodes.few_shot import few_shot
  >>> table = class_table(np.array([[[1, 2], [3, 4]]] * 3, np.uint8), [0, 0, 0])
  >>> source = turned_classes(lambda table: few_shot(table, ways=4, queries=2), table)
  >>> sorted(source(jax.random.key(0)).support.x.tolist())
  [[[1, 2], [3, 4]], [[2, 4], [1, 3]], [[3, 1], [4, 2]], [[4, 3], [2, 1]]]
  """
  shape = np.shape(table.x)
  if len(shape) < 3 or shape[1] != shape[2]:
    raise ValueError(
      f'examples of shape {shape[1:]} are no square images, which alone can be turned by 90 degrees'
    )
  source, rows = draw(turned_table(table)), shape[0]

  def change(plan: Sampler) -> Sampler:
    def noted(key: Key) -> Episode:
      support, query, info = plan(key)
      turns = support.x // rows, query.x // rows
      whole = lambda part: part._replace(x=part.x % rows)
      return Episode(whole(support), whole(query), {**entries(info), 'turns': turns})

    return noted

  def finish(episode: Episode) -> Episode:
    support, query = map(_turned, episode[:2], episode.info['turns'])
    whole = Episode(support, query, episode.info)
    return whole if source.finish is None else source.finish(whole)

  turned = change_plans(source, change).replace(finish=finish)
  abstract_episode(turned)
  return turned


def turned_table(table: ClassTable) -> ClassTable:
  """Returns the table of four times the classes: number 4 c + t is class c, turned t times.

  Its rows r + t * len(x) stand for the rows r of x, turned t times counterclockwise. No such rows
  are made: x is that of the table. Names are like 'fox/rot000' to 'fox/rot270'.

  Args:
    table: any table of images.

  >>> from metakit.data.table import class_table
  >>> table = turned_table(class_table(np.zeros((3, 4, 4)), [0, 1, 1], names=['fox', 'owl']))
  >>> table.names[4:6], table.starts.tolist()
  (('owl/rot000', 'owl/rot090'), [0, 3, 6, 9, 1, 4, 7, 10])
  """
  after = np.arange(len(ANGLES)) * len(table.x)
  return table._replace(
    starts=(table.starts[:, None] + after).ravel(),
    counts=np.repeat(table.counts, len(ANGLES)),
    names=tuple(f'{name}/rot{angle:03d}' for name in table.names for angle in ANGLES),
    groups=np.repeat(table.groups, len(ANGLES)),
  )


def _turned(examples: Examples, turns: jax.Array) -> Examples:
  x = examples.x
  every = jnp.stack([jnp.rot90(x, turn, (1, 2)) for turn in range(len(ANGLES))])
  return examples._replace(x=every[turns, jnp.arange(len(x))])
