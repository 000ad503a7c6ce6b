"""The tasks of neural processes: a mixture of random functions, and the completion of images."""

import functools

from experiments.components.sequence_tasks import BASE_SETS, base_set
from metakit import objectives
from metakit.balance import cooldown, family_shares
from metakit.data.files import check_choice
from metakit.data.images import shrink_images
from metakit.data.omniglot import omniglot
from metakit.data.table import ClassTable
from metakit.episodes.combinators import mixture, vary_shots
from metakit.episodes.functions import functions, gaussian_process
from metakit.episodes.image_completion import image_completion
from metakit.episodes.kernels import KERNELS
from metakit.episodes.limited import limited
from metakit.episodes.sawtooth import sawtooth
from metakit.sizes import check_positive
from metakit.sources import EpisodeSource, place
from metakit.tasks import Task
from metakit.types import Episode, Key, Sampler


def mixed_processes_task(
  *,
  length_scale: float = 0.25,
  low: float = -2.0,
  high: float = 2.0,
  noise: float = 0.2236,
  shots: int = 30,
  fewest_shots: int | None = 0,
  queries: int = 50,
  tasks: int = 0,
  ratio: float = 1.0,
  temperature: float = 1.0,
  cooldown_steps: int = 0,
) -> Task:
  """Regression on Gaussian processes of each kernel and on sawtooth waves.

  In tests all kinds are equally likely. In training they are drawn in proportion to how many tasks
  of them there are, to the power of 1 / temperature (Li et al. 2025, arXiv:2410.04579). No exact
  posterior is known.

  Args:
    length_scale: of the kernels.
    low: the lowest input.
    high: the highest input.
    noise: standard deviation of the noise on y of Gaussian processes; sawtooth waves have none.
    shots: the most support examples.
    fewest_shots: the fewest; none for `shots` in every episode.
    queries: query examples.
    tasks: training episodes of the first kind, which occur again; 0 for no end of any kind.
    ratio: how many times as many tasks there are of each kind as of the next, in the order eq,
      matern52, weakly_periodic, sawtooth.
    temperature: of draws in training; 1 by size, 100 all kinds nearly alike.
    cooldown_steps: training steps after which the temperature is 1; 0 for never.
  """
  sizes = sizes_of_kinds(tasks, ratio)
  shares = family_shares(sizes, temperature)
  stages = cooldown(sizes, cooldown_steps, hot=temperature) if cooldown_steps else None

  def source(split: str, other_shots: int | None = None) -> EpisodeSource:
    number = other_shots or shots
    kinds = kinds_of_processes(
      number, queries, length_scale=length_scale, low=low, high=high, noise=noise
    )
    if split == 'train' and tasks:
      kinds = [limited(kind, round(size)) for kind, size in zip(kinds, sizes, strict=True)]
    mixed = mixture(kinds, shares, stages=stages) if split == 'train' else mixture(kinds)
    if fewest_shots is None or other_shots is not None:
      return mixed
    return vary_shots(mixed, fewest_shots)

  return Task(source, objectives.squared_error, 1, 'loss', False, True)


def kinds_of_processes(
  shots: int, queries: int, *, length_scale: float, low: float, high: float, noise: float
) -> list[Sampler]:
  """Returns a sampler of each kind of function: a process of each kernel, and sawtooth waves."""
  processes = [gaussian_process(length_scale, low, high, kernel=name) for name in KERNELS]
  sources = [functions(each, shots, queries, noise=noise) for each in processes]
  sources += [functions(sawtooth(low=low, high=high), shots, queries)]
  return list(map(_without_function, sources))


def sizes_of_kinds(tasks: int, ratio: float) -> list[float]:
  """Returns how many tasks there are of each kind, as shares of the first if there is no end."""
  check_positive(ratio=ratio)
  shares = [ratio**-place for place in range(1 + len(KERNELS))]
  if tasks and tasks * shares[-1] < 1:
    raise ValueError(
      f'tasks={tasks} with ratio={ratio} leaves less than one task of the last kind; use more tasks'
    )
  return [(tasks or 1) * share for share in shares]


def _without_function(sampler: Sampler) -> Sampler:
  """Leaves out what was drawn, whose form depends on the class."""

  def without(key: Key) -> Episode:
    episode = sampler(key)
    return episode._replace(info={'clean': episode.info['clean']})

  return without


def image_completion_task(
  *,
  budget: float,
  data_dir: str,
  base: str = 'mnist',
  pixels: int = 28,
  shots: int = 200,
  fewest_shots: int | None = 0,
  queries: int = 200,
) -> Task:
  """Regression from the place of a pixel to its brightness; every episode is an image.

  Validation and test are on images that training never shows.

  Args:
    base: the images: mnist or its kin (fashion_mnist, kmnist), glyphs, omniglot, or random (noise).
    pixels: pixels of height and width of the images.
    shots: the most support pixels.
    fewest_shots: the fewest; none for `shots` in every episode.
    queries: query pixels, 0 for all that are left.
  """
  check_choice('base', base, BASE_SETS)

  @functools.cache
  def table(split: str) -> ClassTable:
    if base == 'omniglot':  # all characters, where tasks of ten classes take ten of them
      return shrink_images(omniglot(data_dir, split, rotations=False), pixels)
    return base_set(base, split, data_dir, pixels=pixels)

  def source(split: str, other_shots: int | None = None) -> EpisodeSource:
    number, fewest = other_shots or shots, None if other_shots else fewest_shots
    drawn = image_completion(table(split), number, queries or None, fewest=fewest)
    return place(drawn, budget)

  return Task(source, objectives.squared_error, 1, 'loss', False, True)
