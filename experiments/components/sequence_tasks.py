"""Tasks that are drawn anew in each episode: functions, projected images, categorical tables.

`data_dir` and `budget` (bytes of device memory for a table) are supplied by the binaries.
"""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.components.class_parts import described
from experiments.components.image_sources import LIKE_MNIST
from experiments.components.own_base import own_base
from metakit import objectives
from metakit.components.docstrings import document, meanings, summary
from metakit.data.arrays import arrays
from metakit.data.files import check_choice
from metakit.data.glyphs import glyphs as make_glyphs
from metakit.data.images import shrink_images
from metakit.data.omniglot import omniglot as load_omniglot
from metakit.data.table import ClassTable, part_of_rows, select_classes
from metakit.densities import objective_of
from metakit.episodes.categorical import categorical, categorical_tasks
from metakit.episodes.combinators import ramp, shorten, switch, vary_shots
from metakit.episodes.function_combinators import (
  mix_classes,
  normalise_outputs,
  task_pool,
  truncate_inputs,
)
from metakit.episodes.functions import (
  FunctionClass,
  Gaussians,
  Hypotheses,
  Process,
  decision_trees,
  dense,
  fourier,
  functions,
  gaussian_mixture,
  gaussian_process,
  haar,
  low_rank,
  monomials,
  sign_vectors,
  sparse,
  two_layer_networks,
)
from metakit.episodes.projected import projected
from metakit.episodes.sawtooth import sawtooth
from metakit.episodes.sine_line import sine_line
from metakit.episodes.sinusoid import sinusoid as sinusoid_sampler
from metakit.evaluation import Judge
from metakit.evaluation.in_context import judge_mixture_weight, judge_regret
from metakit.learners.bayes import bayes, bayes_categorical
from metakit.learners.bayes_density import bayes_density, posterior_density
from metakit.retrieval import retrieve
from metakit.sources import EpisodeSource, abstract_episode, place
from metakit.tasks import Task
from metakit.types import MetaLearner, Objective


def sinusoid_task(
  *,
  shots: int = 10,
  queries: int = 10,
  amplitude: tuple[float, float] = (0.1, 5.0),
  phase: tuple[float, float] = (0.0, 3.141592653589793),
  noise: float = 0.0,
) -> Task:
  """Regression on sine waves; every episode is new, so the splits differ by their keys alone."""

  def source(split: str, other_shots: int | None = None) -> EpisodeSource:
    del split  # the keys differ
    number = other_shots or shots
    return sinusoid_sampler(number, queries, amplitude=amplitude, phase=phase, noise=noise)

  return Task(source, objectives.squared_error, 1, 'loss', True, True)


BASE_SETS = (*LIKE_MNIST, 'glyphs', 'omniglot', 'random')
BASE_CLASSES, DRAWINGS = 10, 600
HELD_OUT_TASKS = 2**30  # the least size of the pool of unseen tasks, so that each is as good as new
HELD_OUT = 6  # every sixth training image of a set like MNIST is for validation


def projected_task(
  *,
  budget: float,
  data_dir: str,
  base: str = 'mnist',
  pixels: int = 14,
  size: int = 64,
  shots: int = 99,
  queries: int = 1,
  tasks: int = 2**30,
  seen: bool = False,
  fixed_labels: float = 0.0,
  fixed_projection: float = 0.0,
  repeated: float = 0.0,
  distinct: int = 10,
  biased_steps: int = 0,
  bank: int = 0,
) -> Task:
  """Random projections and relabellings of the classes of a base set (Kirsch et al. 2022).

  Validation and test are on images that training never shows. Unless seen=true, they are also on
  tasks of another pool, of at least 2^30. With tasks=0 there is no pool, and every task is new.
  Biases apply to training alone, and only to its first biased_steps if those are given.

  Args:
    base: the images, of ten classes: mnist or its kin (fashion_mnist, kmnist), glyphs, omniglot, or
      random (noise). Or the path of your own: an .npz file, a folder of images, or of IDX files.
    pixels: pixels of height and width of the images.
    tasks: size of the pool; 0 for none, where every task is new.
    seen: whether test episodes are of the pool of training.
    biased_steps: first steps that are biased; 0 for all.
    bank: examples of which the `shots` nearest to the query are the support; 0 for random ones.
  """
  if seen and not tasks:
    raise ValueError('seen=true: with tasks=0 none occurs twice; use a pool, tasks=1024 say')
  own = None if base in BASE_SETS else _own_base(base, pixels)
  classes = len(own['train'].names) if own else BASE_CLASSES
  table = functools.cache(
    lambda split: own[split] if own else base_set(base, split, data_dir, pixels=pixels)
  )
  biased = max(fixed_labels, fixed_projection, repeated) > 0
  _check_biased_steps(biased_steps, biased)

  def source(split: str, other_shots: int | None = None) -> EpisodeSource:
    held_out = split != 'train' and not seen
    number = other_shots or shots
    least = HELD_OUT_TASKS if held_out and tasks else 0
    pool = max(tasks, least) or None  # in specs 0 means that there is no end of tasks
    drawn = functools.partial(
      projected, table(split), size, bank or number, queries=queries, tasks=pool, held_out=held_out
    )
    whole = place(drawn(), budget)
    whole = retrieve(whole, number) if bank else whole
    if split != 'train' or not biased:
      return whole
    first = drawn(
      fixed_labels=fixed_labels,
      fixed_projection=fixed_projection,
      repeated=repeated,
      distinct=distinct,
    )
    return _begun(whole, first, biased_steps)

  sizes = [f'{part} ({described(each)})' for part, each in own.items()] if own else []
  said = f'projected {base}: {", ".join(sizes)}' if own else ''
  fields = source, objectives.cross_entropy, classes, 'accuracy', False, True
  return Task(*fields, chance=1 / classes if biased else None, said=lambda: said)


def _begun(whole: EpisodeSource, first: EpisodeSource, steps: int) -> EpisodeSource:
  """Returns a source whose training plans are those of `first`, for ever if steps is 0."""
  if not steps:
    return whole.replace(plan=first.plan)
  return whole.replace(schedule=switch(first.plan, whole.plan, steps).schedule)


def _own_base(base: str, pixels: int) -> dict[str, ClassTable]:
  place = Path(base).expanduser()
  if not place.exists():
    raise ValueError(
      f'base={base!r} is unknown; use one of {", ".join(BASE_SETS)}, or the path of an .npz file, '
      'or of a folder of images or IDX files'
    )
  return own_base(place, pixels)


def _check_biased_steps(biased_steps: int, biased: bool) -> None:
  if biased_steps < 0 or (biased_steps and not biased):
    raise ValueError(
      f'biased_steps={biased_steps}: use 0, or 1 and more with fixed_labels, fixed_projection or '
      'repeated'
    )


def base_set(base: str, split: str, data_dir: str, *, pixels: int) -> ClassTable:
  """Ten classes of images; those of the splits differ."""
  if base in LIKE_MNIST:
    table = LIKE_MNIST[base](data_dir, 'test' if split == 'test' else 'train')
    table = table if split == 'test' else part_of_rows(table, HELD_OUT, split == 'validation')
  elif base == 'omniglot':
    table = select_classes(load_omniglot(data_dir, split, rotations=False), range(BASE_CLASSES))
  elif base == 'glyphs':
    table = make_glyphs(split, alphabets=1, characters=BASE_CLASSES, drawings=DRAWINGS)
  else:
    table = random_images(split)
  return shrink_images(table, pixels)


def random_images(split: str) -> ClassTable:
  """Classes that consist of one image of noise each. To learn them is to recognise the images."""
  random = np.random.default_rng(('train', 'validation', 'test').index(split))
  images = random.integers(0, 256, (BASE_CLASSES, 28, 28, 1), np.uint8)
  return arrays(images.repeat(DRAWINGS, axis=0), np.arange(BASE_CLASSES).repeat(DRAWINGS))


def function_task(
  function_class: FunctionClass,
  *,
  shots: int,
  queries: int,
  noise: float,
  pool: int,
  curriculum_steps: int,
  fewest_shots: int | None = None,
) -> Task:
  """Regression on functions of a class; pool=0 draws a new one for each episode.

  With curriculum_steps, training begins with 5 inputs and 11 examples; after so many steps each
  time there is one input and there are two examples more (Garg et al. 2022, section A.2).

  Args:
    function_class: what functions are drawn from.
    shots: support examples in all.
    queries: query examples in all.
    noise: standard deviation of the Gaussian noise on y.
    pool: functions that are drawn once and for all; 0 for a new one in each episode.
    curriculum_steps: steps after which training episodes grow; 0 for whole ones from the start.
    fewest_shots: the fewest support examples; each number from it to `shots` is equally likely.
      None for `shots` in every episode.
  """
  if curriculum_steps < 0:
    raise ValueError(f'curriculum_steps={curriculum_steps} is negative; use 0 for no curriculum')
  if curriculum_steps and fewest_shots is not None:
    raise ValueError('curriculum_steps and fewest_shots are two ways to draw lengths; use one')
  drawn = task_pool(function_class, pool) if pool else function_class

  def grown(step: jax.Array, dim: int) -> EpisodeSource:
    inputs = ramp(step, 5, dim, by=1, every=curriculum_steps)
    length = ramp(step, 10, shots, by=2, every=curriculum_steps)
    short = truncate_inputs(drawn, inputs)
    return shorten(functions(short, shots, queries, noise=noise), length)

  def source(split: str, other_shots: int | None = None) -> EpisodeSource:
    whole = functions(drawn, other_shots or shots, queries, noise=noise)
    if fewest_shots is not None and other_shots is None:
      return vary_shots(whole, fewest_shots)
    if split != 'train' or not curriculum_steps:
      return whole  # the keys of the splits differ
    dim = abstract_episode(whole).support.x.shape[1]
    return whole.replace(schedule=lambda step: grown(step, dim))

  reference = bayes(drawn, noise) if drawn.priors is not None else None
  few, judges = FEW_EPISODES if is_slow(drawn) else None, _judges(drawn, noise)
  fields = source, objectives.squared_error, 1, 'loss', False, True, reference, few, judges
  return Task(*fields, posterior=posterior_of(drawn, noise))


def posterior_of(
  function_class: FunctionClass, noise: float
) -> tuple[MetaLearner, Objective] | None:
  """Returns the exact posterior of the targets as densities; None if there is none."""
  try:
    learner = bayes_density(function_class, noise)
  except ValueError:
    return None
  return learner, objective_of(posterior_density(function_class))


FEW_EPISODES = 200
# The Bayes predictor sums over functions. So many take 50 ms a sequence. A Gaussian takes as long
# as 32 functions.
SLOW = 2**17


def is_slow(function_class: FunctionClass) -> bool:
  """Says whether the Bayes predictor takes minutes for thousands of episodes."""
  cost = {Gaussians: 32, Hypotheses: 1}
  priors = [prior for _, prior in function_class.priors or () if not isinstance(prior, Process)]
  return sum(cost[type(prior)] * len(prior.log_weight) for prior in priors) > SLOW


def _judges(function_class: FunctionClass, noise: float) -> dict[str, Judge]:
  priors = [prior for _, prior in function_class.priors or ()]
  if len(priors) == 1 and isinstance(priors[0], Gaussians) and len(priors[0].log_weight) == 2:
    return {'mixture_weight': judge_mixture_weight(priors[0], noise)}
  return {}


# name: (class, support examples of the paper, one less than its points).
FUNCTION_CLASSES: dict[str, tuple[Callable[..., FunctionClass], int]] = {
  'dense': (dense, 40),
  'sparse': (sparse, 40),
  'sign_vectors': (sign_vectors, 40),
  'low_rank': (low_rank, 99),
  'gaussian_mixture': (gaussian_mixture, 10),
  'fourier': (fourier, 42),
  'haar': (haar, 32),
  'monomials': (monomials, 289),
  'decision_trees': (decision_trees, 100),
  'two_layer_networks': (two_layer_networks, 100),
  'gaussian_process': (gaussian_process, 40),
  'sawtooth': (sawtooth, 30),
  'sine_line': (sine_line, 10),
}


def mixed_functions(classes: str = 'dense+sign_vectors', dim: int = 20) -> FunctionClass:
  """Functions of several classes, all equally likely, over as many inputs, y of variance 1.

  Args:
    classes: names of classes of functions, joined by +.
    dim: inputs.
  """
  names = classes.split('+')
  takes_dim = lambda make: 'dim' in inspect.signature(make).parameters
  known = {name: make for name, (make, _) in FUNCTION_CLASSES.items() if takes_dim(make)}
  for name in names:
    check_choice('classes', name, tuple(known))
  return mix_classes([normalise_outputs(known[name](dim=dim)) for name in names])


def each_function_task(make: Callable[..., FunctionClass], points: int) -> Callable[..., Task]:
  """Returns a task whose arguments are those of the class, shots, queries, noise and pool."""
  sizes: dict[str, Any] = {'shots': points, 'queries': 1, 'noise': 0.0, 'pool': 0}
  sizes |= {'curriculum_steps': 0, 'fewest_shots': None}

  def task(**arguments: Any) -> Task:
    usual = {name: arguments.pop(name) for name in sizes}
    return function_task(make(**arguments), **usual)

  kind = inspect.Parameter.KEYWORD_ONLY
  usual = meanings(mixed_functions) | meanings(function_task)  # of `dim` and of the sizes
  document(task, summary(make), usual | meanings(make))
  parameters = [p.replace(kind=kind) for p in inspect.signature(make).parameters.values()]
  more = [
    inspect.Parameter(n, kind, default=d, annotation=int | None if d is None else type(d))
    for n, d in sizes.items()
  ]
  task.__signature__ = inspect.Signature([*parameters, *more])  # type: ignore[attr-defined]
  return task


def categorical_task(
  *,
  tasks: int = 64,
  inputs: int = 4,
  classes: int = 4,
  power: float = 1.0,
  concentration: float = 0.3,
  shots: int = 31,
  queries: int = 1,
) -> Task:
  """Classification from a known, uneven prior, whose Bayes mixture and regret are exact.

  Args:
    tasks: number of tasks in the prior.
    shots: support examples in all.
    queries: query examples in all.
  """
  prior = categorical_tasks(tasks, inputs, classes, power=power, concentration=concentration)

  def source(split: str, other_shots: int | None = None) -> EpisodeSource:
    del split  # the keys differ
    return categorical(prior, other_shots or shots, queries)

  judges = {'regret': judge_regret}
  fields = source, objectives.cross_entropy, classes, 'loss', False, True
  return Task(*fields, bayes_categorical(prior), judges=judges)
