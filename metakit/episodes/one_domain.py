"""Episodes of one domain: examples without labels to adapt to, and labelled queries.

Marvin Zhang, Henrik Marklund, Nikita Dhawan, Abhishek Gupta, Sergey Levine, Chelsea Finn, Adaptive
Risk Minimization, NeurIPS 2021, arXiv:2007.02931, Algorithm 1: a domain is drawn, then a batch of
its examples. All domains have the same labels. What differs is how their examples look.
"""

import jax
import jax.numpy as jnp
import numpy as np

from metakit.absent import UNLABELLED
from metakit.data.files import listed
from metakit.data.table import ClassTable
from metakit.episodes.integer_draws import choose, reduce_below
from metakit.sizes import check_positive
from metakit.sources import EpisodeSource
from metakit.types import Episode, Examples, Key

LEFT_OUT = -1  # in place of the label of a class


def one_domain(
  table: ClassTable,
  ways: int = 10,
  shots: int = 5,
  *,
  queries: int = 5,
  mixed: bool = False,
  labelled: bool = False,
) -> EpisodeSource:
  """Episodes of one domain, which is a group of a table. Equal names are equal labels.

  The class 'photo/dog' of the group 'photo' has the same label as 'sketch/dog' of 'sketch'. Labels
  are numbered in the order of these names, and those after the first `ways` are left out. Examples
  are drawn as in `domain_episodes`.

  Args:
    table: a ClassTable whose groups are domains.
    ways: labels. Every domain must have the first `ways` ones.
    shots: support examples for each label. They are ways * shots of any label.
    queries: query examples for each label, likewise.
    mixed: see `domain_episodes`.
    labelled: see `domain_episodes`.

  Returns:
    A source: support [ways * shots], query [ways * queries]; see `domain_episodes`.

  Raises:
    ValueError: if a size is not positive, a domain lacks one of the labels, or it has too few
      examples.

  >>> from metakit.data.table import class_table
  >>> names = 'photo/cat', 'photo/dog', 'sketch/cat', 'sketch/dog'
  >>> groups = {'groups': [0, 0, 1, 1], 'group_names': ('photo', 'sketch')}
  >>> table = class_table(np.arange(40), np.arange(40) // 10, names, **groups)
  >>> episode = one_domain(table, ways=2, shots=2, queries=2)(jax.random.key(0))
  >>> episode.support.y.tolist(), episode.query.x.tolist(), episode.query.y.tolist()
  ([-1, -1, -1, -1], [27, 24, 32, 37], [0, 0, 1, 1])
  """
  check_positive(ways=ways, shots=shots, queries=queries)
  sizes = {'support': ways * shots, 'queries': ways * queries}
  return domain_episodes(
    table, labels_of_names(table, ways), **sizes, mixed=mixed, labelled=labelled
  )


def domain_episodes(
  table: ClassTable,
  labels: np.ndarray,
  *,
  support: int,
  queries: int,
  mixed: bool = False,
  labelled: bool = False,
) -> EpisodeSource:
  """Episodes of one domain, which is a group of a table, with any labels.

  A domain is drawn, all equally likely, then `support + queries` of its rows without replacement,
  all equally likely, whatever their label.

  Args:
    table: a ClassTable whose groups are domains.
    labels: [classes] the label of each class; -1 leaves a class out.
    support: support examples. Their label is -1.
    queries: query examples, with labels.
    mixed: whether to draw from the rows of all domains together, for learners that do not adapt.
    labelled: whether support examples have their labels too.

  Returns:
    A source: support [support], query [queries], in random order; info['domain'] [domains] bool is
    True at the domain of the episode, in the order of the numbers of groups. A mixed episode does
    not have it.

  Raises:
    ValueError: if a size is not positive, no class is left, or a domain has too few examples.

  >>> from metakit.data.table import class_table
  >>> table = class_table(np.arange(12), np.arange(12) % 4, groups=[0, 0, 1, 1])
  >>> source = domain_episodes(table, np.array([0, 1, 0, 1]), support=3, queries=3)
  >>> episode = source(jax.random.key(0))
  >>> episode.info['domain'].tolist(), sorted({x % 4 for x in episode.query.x.tolist()})
  ([False, True], [2, 3])
  """
  check_positive(support=support, queries=queries)
  by_group = np.argsort(table.groups, kind='stable')
  by_group = by_group[np.asarray(labels)[by_group] != LEFT_OUT]
  _check_domains(table, by_group, support + queries)
  _, firsts = np.unique(table.groups[by_group], return_index=True)
  sizes = np.add.reduceat(table.counts[by_group], firsts)
  domains, total = len(sizes), int(sizes.sum())
  ends = np.cumsum(table.counts[by_group])  # of the classes, where all rows stand in a line
  first, size, end, start, label = (
    jnp.asarray(a, jnp.int32)
    for a in (
      np.cumsum(sizes) - sizes,
      sizes,
      ends,
      table.starts[by_group] + table.counts[by_group] - ends,  # a place becomes a row
      np.asarray(labels)[by_group],
    )
  )

  @jax.jit
  def plan(key: Key) -> Episode:
    bits = jax.random.bits(key, (1 + support + queries,), jnp.uint32)
    domain = reduce_below(bits[0], domains)
    within = (0, total) if mixed else (first[domain], size[domain])
    places = within[0] + choose(bits[1:], within[1])
    drawn = jnp.searchsorted(end, places, side='right')
    rows, y = start[drawn] + places, label[drawn]
    hidden = y[:support] if labelled else jnp.full(support, UNLABELLED, jnp.int32)
    # With a weight, learners can tell those without a label apart from the absent (`labelled`).
    known = Examples(rows[:support], hidden, jnp.ones(support, jnp.float32))
    info = {} if mixed else {'domain': jnp.arange(domains) == domain}
    return Episode(known, Examples(rows[support:], y[support:]), info)

  return EpisodeSource(plan, table.x)


def labels_of_names(table: ClassTable, ways: int) -> np.ndarray:
  """Returns [classes] the label of each class by its name without that of its group.

  Args:
    table: a ClassTable whose groups are domains.
    ways: labels. Names after the first `ways`, in order, have the label -1.

  Raises:
    ValueError: if there are fewer names, or a domain lacks one of the first `ways`.

  >>> from metakit.data.table import class_table
  >>> names = 'b/owl', 'b/cow', 'a/cow', 'a/owl'
  >>> groups = {'groups': [1, 1, 0, 0], 'group_names': 'ab'}
  >>> labels_of_names(class_table(np.arange(4), np.arange(4), names, **groups), ways=2).tolist()
  [1, 0, 0, 1]
  """
  domains = [table.group_names[g] for g in table.groups]
  names = [n.removeprefix(f'{d}/') for n, d in zip(table.names, domains, strict=True)]
  known = sorted(set(names))
  if ways > len(known):
    raise ValueError(
      f'ways={ways} exceeds the {len(known)} labels ({listed(known)}); use ways<={len(known)}'
    )
  for name in dict.fromkeys(domains):
    there = {n for n, domain in zip(names, domains, strict=True) if domain == name}
    if lacking := [n for n in known[:ways] if n not in there]:
      raise ValueError(
        f'domain {name!r} has no class {lacking[0]!r}, which others have; leave the domain or the '
        'class out, or name classes of the same label alike'
      )
  number = {name: label for label, name in enumerate(known[:ways])}
  return np.array([number.get(name, LEFT_OUT) for name in names])


def check_several(table: ClassTable) -> None:
  """Raises ValueError if a table has one domain, from which nobody learns to adapt.

  >>> from metakit.data.table import class_table
  >>> check_several(class_table(np.arange(4), [0, 0, 1, 1], groups=[0, 1]))
  """
  if len(np.unique(table.groups)) < 2:
    raise ValueError(
      f'the table has one domain, {table.group_names[table.groups[0]]!r}, from which nobody learns '
      'to adapt; give its classes two groups or more'
    )


def _check_domains(table: ClassTable, classes: np.ndarray, number: int) -> None:
  if not len(classes):
    raise ValueError('no class has a label; give labels of 0 or more')
  counts = np.bincount(table.groups[classes], weights=table.counts[classes])
  small = [g for g in np.unique(table.groups[classes]) if counts[g] < number]
  if small:
    fewest = min(small, key=lambda g: counts[g])
    raise ValueError(
      f'support+queries={number} exceeds the {counts[fewest]:.0f} examples of domain '
      f'{table.group_names[fewest]!r}; use fewer shots or queries, or leave it out'
    )
