"""Domains that are made of one data set: the same images turned or painted, each domain in its way.

Turned digits are those of Muhammad Ghifary, W. Bastiaan Kleijn, Mengjie Zhang, David Balduzzi,
Domain Generalization for Object Recognition with Multi-task Autoencoders, ICCV 2015,
arXiv:1508.07680. The table stays as it is: images are changed once they are in place.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from metakit.data.table import ClassTable
from metakit.episodes.augmentation import entries
from metakit.episodes.image_transforms import warp_by
from metakit.sources import EpisodeSource, abstract_episode, change_plans
from metakit.types import Episode, Key, Sampler

# (number of a domain [] int, x of one example) -> x
Change = Callable[[jax.Array, jax.Array], jax.Array]


def made_domains(
  draw: Callable[[ClassTable], EpisodeSource],
  table: ClassTable,
  change: Change,
  *,
  names: Sequence[str],
) -> EpisodeSource:
  """Episodes of domains that differ in how they change the examples of one table.

  Args:
    draw: makes a source of a table, `lambda table: one_domain(table, ways=10)` for instance.
    table: the classes as they are.
    change: makes an example of a domain of one of the table.
    names: of the domains. Their numbers are those that `change` takes.

  Returns:
    The episodes of `draw(domain_table(table, names))`. info['changes'] says by which domain each
    example of support and query is changed, a pair of int32 [examples].

  Raises:
    ValueError: if names are equal. Errors of `change` come here too, since it is traced once.

  >>> from metakit.data.table import class_table
  >>> from metakit.episodes.one_domain import one_domain
  >>> table = class_table(np.arange(8.0), np.arange(8) % 2)
  >>> draw = lambda table: one_domain(table, ways=2, shots=1, queries=2)
  >>> source = made_domains(draw, table, lambda number, x: x + 100 * number, names='abc')
  >>> source(jax.random.key(1)).query.x.tolist()
  [207.0, 202.0, 201.0, 204.0]
  """
  source, rows = draw(domain_table(table, names)), len(table.x)

  def note(plan: Sampler) -> Sampler:
    def noted(key: Key) -> Episode:
      support, query, info = plan(key)
      changes = support.x // rows, query.x // rows
      whole = lambda part: part._replace(x=part.x % rows)
      return Episode(whole(support), whole(query), {**entries(info), 'changes': changes})

    return noted

  def finish(episode: Episode) -> Episode:
    by = episode.info['changes']
    support, query = (
      part._replace(x=jax.vmap(change)(numbers, part.x))
      for part, numbers in zip(episode[:2], by, strict=True)
    )
    whole = Episode(support, query, episode.info)
    return whole if source.finish is None else source.finish(whole)

  made = change_plans(source, note).replace(finish=finish)
  abstract_episode(made)
  return made


def domain_table(table: ClassTable, names: Sequence[str]) -> ClassTable:
  """Returns the table of all classes in each domain: group d has all classes of the table.

  Its rows r + d * len(x) stand for the rows r of x, changed as in domain d. No such rows are made:
  x is that of the table. Names are like 'photo/dog'.

  Args:
    table: any table of classes.
    names: of the domains.

  Raises:
    ValueError: if names are equal.

  >>> from metakit.data.table import class_table
  >>> table = domain_table(class_table(np.arange(3), [0, 1, 1]), ['red', 'blue'])
  >>> table.names, table.starts.tolist()
  (('red/0', 'red/1', 'blue/0', 'blue/1'), [0, 1, 3, 4])
  """
  if len(set(names)) < len(names):
    raise ValueError(
      f'the names of domains, {", ".join(names)}, are not all different; name each otherwise'
    )
  domains = len(names)
  return table._replace(
    starts=(table.starts + np.arange(domains)[:, None] * len(table.x)).ravel(),
    counts=np.tile(table.counts, domains),
    names=tuple(f'{domain}/{name}' for domain in names for name in table.names),
    groups=np.repeat(np.arange(domains), len(table.counts)),
    group_names=tuple(names),
  )


def turn_images(degrees: Sequence[float]) -> Change:
  """Returns the change of domains that turn images about their centre, counterclockwise.

  Args:
    degrees: the angle of each domain.

  Returns:
    (number, image [height, width, ...]) -> image of the same shape and dtype, with linear
    interpolation and 0 where nothing was; integers are rounded.

  >>> image = jnp.zeros((3, 3), jnp.uint8).at[0, 1].set(9)
  >>> jax.jit(turn_images([0, 90]))(1, image).tolist()
  [[0, 0, 0], [9, 0, 0], [0, 0, 0]]
  """
  angles = np.deg2rad(np.asarray(degrees, np.float32))
  return lambda number, image: warp_by(image, angle=jnp.asarray(angles)[number])


def paint_images(paper: Sequence[Sequence[float]], ink: Sequence[Sequence[float]]) -> Change:
  """Returns the change of domains that paint gray images, each with a paper and an ink.

  Args:
    paper: [domains, 3] red, green and blue of what is black, 0 to 1.
    ink: [domains, 3] those of what is white.

  Returns:
    (number, image [height, width, 1] uint8) -> [height, width, 3] uint8, rounded.

  Raises:
    ValueError: if there are not as many inks as papers, or a colour is none.

  >>> paint = jax.jit(paint_images(paper=[[0, 0, 0], [0, 0, 1]], ink=[[1, 1, 1], [1, 0.5, 0]]))
  >>> paint(1, jnp.array([[[0], [255]]], jnp.uint8)).tolist()
  [[[0, 0, 255], [255, 128, 0]]]
  """
  papers, inks = (np.asarray(colours, np.float32) for colours in (paper, ink))
  if papers.shape != inks.shape or papers.shape[1:] != (3,):
    raise ValueError(
      f'paper is of shape {papers.shape} and ink of {inks.shape}; give both as [domains, 3]'
    )
  if min(papers.min(), inks.min()) < 0 or max(papers.max(), inks.max()) > 1:
    raise ValueError('a colour of paper or ink is not between 0 and 1; give red, green and blue so')

  def change(number: jax.Array, image: jax.Array) -> jax.Array:
    below, above = jnp.asarray(papers)[number], jnp.asarray(inks)[number]
    share = image.astype(jnp.float32) / 255
    return jnp.round(255 * (below + (above - below) * share)).astype(jnp.uint8)

  return change
