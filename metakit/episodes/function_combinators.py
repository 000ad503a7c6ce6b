"""Classes of functions made of others: finite pools, mixtures, rescaled outputs, fewer inputs."""

import itertools
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metakit.episodes import draws
from metakit.episodes.functions import FunctionClass, Hypotheses, Prior, Process
from metakit.episodes.integer_draws import integers_below
from metakit.keys import fixed_key
from metakit.sizes import check_positive
from metakit.types import Key

_STREAM = 0x46554E43  # makes keys that differ from those of metakit.roots of the same seed

MOST_HYPOTHESES = 2**20  # the largest pool whose posterior is computed, as a sum over all


def task_pool(
  function_class: FunctionClass,
  tasks: int | jax.Array,
  seed: int = 0,
  *,
  most: int | None = None,
) -> FunctionClass:
  """A finite pool of functions drawn from a class, all equally likely.

  Allan Raventos et al., Pretraining task diversity and the emergence of non-Bayesian in-context
  learning for regression, NeurIPS 2023, arXiv:2306.15063. The posterior mean of the pool is their
  dMMSE estimator. Function i is function_class.draw(fold_in(key(seed), i)). So the cost of sampling
  does not depend on the size of the pool, and a larger pool contains a smaller one.

  Args:
    function_class: one whose functions are vectors of weights (dense, sparse, fourier, ...).
    tasks: size of the pool. It may be traced, to train models on pools of several sizes side by
      side, and is then not checked.
    seed: determines the functions.
    most: the largest value of a traced size. Without it, such a pool has no known posterior.

  Returns:
    A FunctionClass. Its prior lists the pool, up to 2^20 functions.

  Raises:
    ValueError: if tasks is not positive or does not fit 31 bits, or the class has no weights.
  """
  if not isinstance(tasks, jax.core.Tracer):
    most = tasks = operator.index(tasks)
    check_positive(tasks=tasks)
    if tasks > 2**31 - 1:
      raise ValueError(f'tasks={tasks} exceeds the index of a pool (int32); use <={2**31 - 1}')
  basis = function_class.basis
  if basis is None:
    raise ValueError(
      f'the functions of {function_class.name} are no vectors of weights; pool dense, fourier, ...'
    )
  root = jax.random.fold_in(fixed_key(seed), _STREAM)
  member = lambda i: function_class.draw(jax.random.fold_in(root, i))
  draw = lambda key: member(integers_below(key, tasks))
  listed: tuple[tuple[float, Prior], ...] | None = None
  if most is not None and most <= MOST_HYPOTHESES:
    number = jnp.arange(most)
    log_weight = jnp.where(number < tasks, -jnp.log(jnp.float32(tasks)), -jnp.inf)
    listed = ((0.0, Hypotheses(basis, log_weight, jax.vmap(member)(number))),)
  return function_class._replace(draw=draw, priors=listed)


def mix_classes(
  classes: Sequence[FunctionClass], weights: Sequence[float] | None = None
) -> FunctionClass:
  """Draws each function from one of several classes over the same inputs.

  Args:
    classes: at least one; the inputs are those of the first.
    weights: how likely each is; equal by default.

  Raises:
    ValueError: if there is no class, the weights do not match or are not positive, or the classes
      differ in the number of inputs.
  """
  classes = tuple(classes)
  weight = np.ones(len(classes)) if weights is None else np.asarray(weights, np.float64)
  valid = weight.shape == (len(classes),) and (np.isfinite(weight) & (weight > 0)).all()
  if not classes or not valid:
    raise ValueError(f'weights={weights} for {len(classes)} classes; give one above 0 for each')
  inputs_of = lambda c: jax.eval_shape(lambda key: c.inputs(key, 1), jax.random.key(0)).shape[1]
  if len({inputs_of(c) for c in classes}) > 1:
    numbers = ', '.join(f'{c.name} {inputs_of(c)}' for c in classes)
    raise ValueError(f'classes of different numbers of inputs: {numbers}; use as many for all')
  log_weight = np.log(weight / weight.sum())

  def draw(key: Key) -> dict[str, Any]:
    component_key, key = jax.random.split(key)
    component = draws.choice(component_key, log_weight)
    return {'component': component, 'each': tuple(c.draw(key) for c in classes)}

  def values(function: dict[str, Any], x: jax.Array) -> jax.Array:
    each = jnp.stack([c.values(f, x) for c, f in zip(classes, function['each'], strict=True)])
    return each[function['component']]

  each = [
    [(float(w) + inner, p) for inner, p in c.priors or ()]
    for w, c in zip(log_weight, classes, strict=True)
  ]
  priors = tuple(itertools.chain(*each)) if all(each) else None
  name = '+'.join(c.name for c in classes)
  return FunctionClass(draw, values, classes[0].inputs, priors, name)


def scale_outputs(function_class: FunctionClass, factor: float) -> FunctionClass:
  """Multiplies all values by a factor, so that classes can be mixed with outputs of one size."""

  def scaled(prior: Prior) -> Prior:
    if isinstance(prior, Process):
      return Process(lambda a, b: factor**2 * prior.kernel(a, b))
    return prior._replace(basis=lambda x: factor * prior.basis(x))

  priors = function_class.priors
  if priors is not None:
    priors = tuple((log_weight, scaled(prior)) for log_weight, prior in priors)
  values = lambda function, x: factor * function_class.values(function, x)
  basis = function_class.basis
  scaled_basis = None if basis is None else lambda x: factor * basis(x)
  return function_class._replace(values=values, priors=priors, basis=scaled_basis)


NORMALISING_DRAWS = 4096


def normalise_outputs(function_class: FunctionClass) -> FunctionClass:
  """Scales outputs to a mean square of 1, measured on functions and inputs of fixed keys."""

  def value(key: Key) -> jax.Array:
    draw_key, input_key = jax.random.split(key)
    function = function_class.draw(draw_key)
    return function_class.values(function, function_class.inputs(input_key, 1))[0]

  keys = jax.random.split(fixed_key(_STREAM), NORMALISING_DRAWS)
  square = jnp.square(jax.jit(jax.vmap(value))(keys)).mean()
  return scale_outputs(function_class, float(square) ** -0.5)


def truncate_inputs(function_class: FunctionClass, inputs: jax.typing.ArrayLike) -> FunctionClass:
  """Sets all inputs but the first `inputs` (which may be traced) to 0, for a curriculum."""

  def truncated(key: Key, n: int) -> jax.Array:
    x = function_class.inputs(key, n)
    return jnp.where(jnp.arange(x.shape[1]) < inputs, x, 0)

  return function_class._replace(inputs=truncated)
