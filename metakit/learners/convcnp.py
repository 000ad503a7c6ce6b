"""Convolutional conditional neural process: predictions that move with the inputs.

Jonathan Gordon, Wessel P. Bruinsma, Andrew Y. K. Foong, James Requeima, Yann Dubois, Richard E.
Turner, Convolutional Conditional Neural Processes, ICLR 2020, arXiv:1910.13556. Implemented: a set
convolution of the examples onto a grid, with a channel of density by which the others are divided
(section 4, eqs. 2 and 3), a convolutional network on the grid, and a set convolution of its
features onto the queries; for images, whose inputs lie on a grid already, the on-grid form
(appendix D.2): a mask in place of the density, and no set convolution. Deviations: the network is a
U-Net (as in the authors' later code) that joins neighbours in place of a stride; on images the
first convolution has no positive weights and does not divide.

The grid has a fixed number of points, since shapes are fixed under jit. Its middle is that of the
inputs of the support, in whole steps of the grid. So predictions are the same to the bit of
rounding if all inputs move by whole steps. A query farther than `reach` from the middle of the
support is predicted as if far from all data.

Changes in a task: features on a grid.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metakit.builder import meta_learner
from metakit.learners.in_context import flat, targets
from metakit.learners.set_parts import NORMAL, weights_of
from metakit.models import from_linen
from metakit.networks.mlp import mlp
from metakit.networks.unet import UNet
from metakit.sizes import check_positive
from metakit.types import Episode, Examples, Fitted, Key, MetaLearner, Objective, Params


def convcnp(
  num_outputs: int,
  width: int = 64,
  levels: int = 5,
  *,
  size: int = 5,
  points_per_unit: float = 32.0,
  reach: float = 3.0,
  pixels: int = 0,
  objective: Objective = NORMAL,
) -> MetaLearner:
  """Predicts by a convolutional network on a grid of the inputs.

  Args:
    num_outputs: size of the targets, or number of classes.
    width: channels of the network.
    levels: how often the grid is halved in the network.
    size: kernel points of a convolution.
    points_per_unit: points of the grid in a unit of x [examples, 1].
    reach: units of x from the middle of the grid to its ends, at least.
    pixels: rows, and columns, of images whose pixels are the inputs: x [examples, 2] from -1 to 1,
      the row first. It must be a multiple of 2^levels. 0 for inputs of one number.
    objective: of the outputs; a normal density by default.

  Returns:
    A MetaLearner with networks of its own. Its `init`, `adapt` and `predict` raise ValueError for
    inputs of another size.

  Raises:
    ValueError: if a size is not positive, or 2^levels does not divide the pixels.

  >>> learner, x = convcnp(num_outputs=1, width=8, levels=2), jnp.ones((5, 1))
  >>> episode = Episode(Examples(x, x), Examples(x, x))
  >>> params = jax.eval_shape(learner.init, jax.random.key(0), episode)
  >>> sorted(params)
  ['head', 'log_length', 'network']
  """
  check_positive(num_outputs=num_outputs, width=width, size=size, reach=reach)
  check_positive(points_per_unit=points_per_unit)
  if levels < 0 or pixels < 0 or pixels % 2**levels:
    raise ValueError(
      f'pixels={pixels} must be a multiple of 2^levels, levels={levels}; use fewer levels'
    )
  network = from_linen(UNet(width, levels, size), stochastic=False)
  head = mlp(num_outputs * objective.outputs_per_target, width, 1)
  grid = Line(points_per_unit, reach, levels) if not pixels else None
  axes = 2 if pixels else 1

  def inputs(x: jax.Array) -> jax.Array:
    x = flat(x)
    if x.shape[1] != axes:
      raise ValueError(
        f'convcnp with pixels={pixels} is for inputs of {axes} numbers, not {x.shape[1]}; use '
        'pixels= for pixels of images, and another learner (anp, tnp) for other inputs'
      )
    return x

  def init(key: Key, episode: Episode) -> Params:
    network_key, head_key = jax.random.split(key)
    x = inputs(episode.support.x)
    shape = (pixels, pixels) if grid is None else (grid.points,)
    lengths = {} if grid is None else {'log_length': jnp.full(2, math.log(2 * grid.step), x.dtype)}
    return {
      'network': network.init(network_key, jnp.zeros((*shape, 1 + num_outputs), x.dtype)),
      'head': head.init(head_key, jnp.zeros((1, width), x.dtype)),
      **lengths,  # of the set convolutions onto the grid, and from it
    }

  def adapt(key: Key, params: Params, support: Examples) -> Fitted:
    del key  # nothing is drawn
    x, y = inputs(support.x), targets(support, num_outputs, 1.0)
    weight = weights_of(support, y)
    if grid is None:
      drawn = on_pixels(x, y, weight, pixels=pixels)
      return params, network.apply(params['network'], drawn), ()
    at = grid.at(x[:, 0], weight)
    length = jnp.exp(params['log_length'][0])
    drawn = on_line(at, x[:, 0], y, weight=weight, length=length)
    return params, network.apply(params['network'], drawn), at

  def predict(fitted: Fitted, x: jax.Array) -> jax.Array:
    params, features, at = fitted
    if grid is None:
      seen = features[tuple(places(inputs(x), pixels).T)]
    else:
      length = jnp.exp(params['log_length'][1])
      area = length * (2 * math.pi) ** 0.5 * points_per_unit  # of a bell, in points
      seen = near(inputs(x)[:, 0], at, length) @ features / area
    return head.apply(params['head'], seen)

  return meta_learner(init, adapt, predict, objective=objective)


class Line(NamedTuple):
  """A grid on one axis.

  Attributes:
    points_per_unit: points in a unit of x.
    reach: units from its middle to its ends, at least.
    levels: the number of points is a multiple of 2^levels.
  """

  points_per_unit: float
  reach: float
  levels: int

  @property
  def step(self) -> float:
    """Units from one point to the next."""
    return 1 / self.points_per_unit

  @property
  def points(self) -> int:
    """How many points there are."""
    coarse = 2**self.levels
    return coarse * math.ceil((2 * self.reach * self.points_per_unit + 1) / coarse)

  def at(self, x: jax.Array, weight: jax.Array) -> jax.Array:
    """Returns where the points are [points]: about the middle of the examples that are there.

    >>> grid, weight = Line(points_per_unit=2, reach=1.0, levels=0), jnp.array([1.0, 1.0, 0.0])
    >>> grid.at(jnp.array([3.0, 5.0, 90.0]), weight).tolist()
    [3.0, 3.5, 4.0, 4.5, 5.0]
    """
    there, most = weight > 0, jnp.finfo(x.dtype).max
    low = jnp.where(there, x, most).min(initial=most)
    high = jnp.where(there, x, -most).max(initial=-most)
    middle = jnp.where(there.any(), (low / 2 + high / 2) * self.points_per_unit, 0)
    first = jnp.floor(middle + 0.5) - self.points // 2  # round() would prefer even numbers
    return (first + jnp.arange(self.points, dtype=x.dtype)) * self.step


def near(a: jax.Array, b: jax.Array, length: jax.Array) -> jax.Array:
  """Returns exp(-(a - b)^2 / (2 length^2)) of each pair, [a, b].

  >>> near(jnp.zeros(1), jnp.array([0.0, jnp.inf]), jnp.array(1.0)).tolist()
  [[1.0, 0.0]]
  """
  return jnp.exp(-0.5 * jnp.square((a[:, None] - b) / length))


LEAST = 1e-6  # of a density that other channels are divided by


def on_line(
  at: jax.Array, x: jax.Array, y: jax.Array, *, weight: jax.Array, length: jax.Array
) -> jax.Array:
  """Returns examples on a grid of one axis: their density, and the mean y of those nearby.

  Args:
    at: [points].
    x: [examples].
    y: [examples, outputs].
    weight: [examples].
    length: of the set convolution, [].

  Returns:
    [points, 1 + outputs].

  >>> x, y = jnp.array([0.0, 0.0]), jnp.array([[1.0], [3.0]])
  >>> on_line(jnp.zeros(1), x, y, weight=jnp.ones(2), length=1.0).round(4).tolist()
  [[2.0, 2.0]]
  """
  likeness = near(at, x, length) * weight
  density = likeness.sum(1, keepdims=True)
  return jnp.concatenate([density, (likeness @ y) / (density + LEAST)], axis=1)


def places(x: jax.Array, pixels: int) -> jax.Array:
  """Returns the row and column of each pixel [examples, 2] int32, from coordinates from -1 to 1.

  >>> places(jnp.array([[-1.0, 1.0], [0.0, 0.5]]), pixels=5).tolist()
  [[0, 4], [2, 3]]
  """
  numbers = jnp.round((x + 1) * ((pixels - 1) / 2)).astype(jnp.int32)
  return jnp.clip(numbers, 0, pixels - 1)


def on_pixels(x: jax.Array, y: jax.Array, weight: jax.Array, *, pixels: int) -> jax.Array:
  """Returns examples on a grid of pixels [pixels, pixels, 1 + outputs]: how many, and their mean y.

  >>> one = on_pixels(jnp.zeros((1, 2)), jnp.array([[7.0]]), jnp.ones(1), pixels=3)
  >>> one[1, 1].tolist(), one[0].any().tolist()
  ([1.0, 7.0], False)
  """
  row, column = places(x, pixels).T
  number = jnp.zeros((pixels, pixels, 1), y.dtype).at[row, column, 0].add(weight)
  weighted = jnp.where(weight[:, None] > 0, weight[:, None] * y, 0)
  total = jnp.zeros((pixels, pixels, y.shape[1]), y.dtype).at[row, column].add(weighted)
  return jnp.concatenate([number, total / jnp.maximum(number, LEAST)], axis=-1)
