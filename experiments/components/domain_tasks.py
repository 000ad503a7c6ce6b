"""Tasks of made domains: ten classes of images, turned and painted in the way of each domain."""

import functools
from collections.abc import Sequence

import numpy as np

from experiments.components.data_sources import kept_omniglot
from experiments.components.sequence_tasks import base_set
from metakit import objectives
from metakit.data.files import check_choice
from metakit.data.omniglot import by_drawer
from metakit.episodes.made_domains import (
  Change,
  domain_table,
  made_domains,
  paint_images,
  turn_images,
)
from metakit.episodes.one_domain import LEFT_OUT, domain_episodes, one_domain
from metakit.sizes import check_positive
from metakit.sources import EpisodeSource, place
from metakit.tasks import Task

WAYS, PIXELS = 10, 28
DOMAINS = 16
# Every second domain is for training. The others, which lie between them, are held out.
PARTS = {
  'train': range(0, DOMAINS, 2),
  'validation': range(1, DOMAINS, 4),
  'test': range(3, DOMAINS, 4),
}
BASES = 'mnist', 'fashion_mnist', 'kmnist', 'glyphs'
CHANGES = 'turn', 'paint', 'both'
CHARACTERS = 964  # of the background alphabets
WRITERS = {'train': range(14), 'validation': range(14, 17), 'test': range(17, 20)}
LEAST_APART = 0.6  # of paper and ink, where a side of the cube of colours is 1


def domains_task(
  *,
  budget: float,
  data_dir: str,
  base: str = 'mnist',
  change: str = 'turn',
  shots: int = 5,
  queries: int = 5,
  mixed: bool = False,
  labelled: bool = False,
) -> Task:
  """Digits turned or painted in the way of one domain, from examples without labels.

  Of 16 domains 8 are for training, 4 for validation and 4 for tests. Domain k is turned by 22.5 k
  degrees. The even ones train: 0, 45, ... 315 degrees. Of the others k = 1, 5, 9 and 13 are for
  validation, and 3, 7, 11 and 15 for tests. Images of the parts differ too.

  Args:
    base: the images: mnist or its kin (fashion_mnist, kmnist), or glyphs.
    change: what domains differ in: turn, paint (the colours of paper and ink), or both.
    shots: support examples for each class. They are ten times as many of any class.
    queries: query examples, likewise.
    mixed: whether training episodes are of all training domains together, for learners that do not
      adapt (erm).
    labelled: whether the support has its labels.
  """
  check_choice('base', base, BASES)
  check_choice('change', change, CHANGES)
  check_positive(shots=shots, queries=queries)

  images = functools.cache(lambda part: base_set(base, part, data_dir, pixels=PIXELS))

  def draw(part: str, shots: int) -> EpisodeSource:
    together = mixed and part == 'train'
    of_table = lambda table: one_domain(
      table, WAYS, shots, queries=queries, mixed=together, labelled=labelled
    )
    numbers = PARTS[part]
    made = change_of(change, numbers)
    return made_domains(of_table, images(part), made, names=names_of(change, numbers))

  usual = functools.cache(lambda part: place(draw(part, shots), budget))

  def source(part: str, other_shots: int | None = None) -> EpisodeSource:
    if other_shots is None:
      return usual(part)
    return usual(part).replace(plan=draw(part, other_shots).plan)

  table = lambda part: domain_table(images(part), names_of(change, PARTS[part]))
  return Task(source, objectives.cross_entropy, WAYS, 'accuracy', True, True, table=table)


def writers_task(
  *, budget: float, data_dir: str, shots: int = 10, queries: int = 10, labelled: bool = True
) -> Task:
  """Which of all characters of Omniglot's 30 background alphabets it is, by one writer a task.

  Each alphabet was drawn by 20 people: 14 are for training, 3 for validation and 3 for tests. All
  characters are known from training, and the writer is new. An episode has some characters of one
  alphabet by one writer, with their labels, and others by the same writer. Alphabets of too few
  characters are left out.

  Args:
    shots: support examples in all.
    queries: query examples in all.
    labelled: whether the support has its labels.
  """
  check_positive(shots=shots, queries=queries)

  characters = functools.cache(
    lambda: kept_omniglot(data_dir, 'trainval', 'original', size=PIXELS, rotations=False)
  )
  table = lambda part: by_drawer(characters(), WRITERS[part])

  def draw(part: str, shots: int) -> EpisodeSource:
    groups = characters().groups
    numbers, large = np.arange(len(groups)), np.bincount(groups)[groups] >= shots + queries
    labels = np.tile(np.where(large, numbers, LEFT_OUT), len(WRITERS[part]))
    return domain_episodes(table(part), labels, support=shots, queries=queries, labelled=labelled)

  usual = functools.cache(lambda part: place(draw(part, shots), budget))

  def source(part: str, other_shots: int | None = None) -> EpisodeSource:
    if other_shots is None:
      return usual(part)
    return usual(part).replace(plan=draw(part, other_shots).plan)

  return Task(source, objectives.cross_entropy, CHARACTERS, 'accuracy', True, True, table=table)


def names_of(change: str, numbers: Sequence[int]) -> list[str]:
  """Returns the names of domains.

  >>> names_of('turn', [0, 3]), names_of('both', [3])
  (['turned000.0', 'turned067.5'], ['turned067.5-painted03'])
  """
  turned = {k: f'turned{_degrees(k):05.1f}' for k in numbers}
  painted = {k: f'painted{k:02d}' for k in numbers}
  both = {k: f'{turned[k]}-{painted[k]}' for k in numbers}
  return list({'turn': turned, 'paint': painted, 'both': both}[change].values())


def change_of(change: str, numbers: Sequence[int]) -> Change:
  """Returns the change of domains. The first number given is number 0 of the change.

  >>> import jax
  >>> change, image = change_of('both', [0, 3]), jax.ShapeDtypeStruct((28, 28, 1), 'uint8')
  >>> jax.eval_shape(change, 1, image).shape
  (28, 28, 3)
  """
  turn = turn_images([_degrees(k) for k in numbers])
  colours = _colours()[list(numbers)]
  paint = paint_images(colours[:, 0].tolist(), colours[:, 1].tolist())
  both = lambda number, image: paint(number, turn(number, image))
  return {'turn': turn, 'paint': paint, 'both': both}[change]


def _degrees(number: int) -> float:
  return 360 * number / DOMAINS


def _colours() -> np.ndarray:
  """Returns [domains, 2, 3] the colours of paper and ink, drawn once and for all."""
  # NumPy keeps the raw outputs of a bit generator the same for ever.
  raw = np.random.Philox(key=0).random_raw(6 * 10 * DOMAINS)
  pairs = (raw / 2.0**64).reshape(-1, 2, 3)
  apart = np.linalg.norm(pairs[:, 0] - pairs[:, 1], axis=1) > LEAST_APART
  return pairs[apart][:DOMAINS]
