"""Episodes of functions drawn from a class, and the priors that say what an ideal learner knows.

The classes of Madhur Panwar, Kabir Ahuja, Navin Goyal, In-Context Learning through the Bayesian
Prism, ICLR 2024, arXiv:2306.04891 (most of them from Garg et al. 2022, arXiv:2208.01066), with
their settings as defaults.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metakit.episodes import draws
from metakit.episodes.kernels import KERNELS
from metakit.episodes.priors import Basis, Gaussians, Hypotheses, Prior, Process
from metakit.linear_algebra import cholesky
from metakit.sizes import check_memory, check_positive
from metakit.sources import EpisodeSource
from metakit.types import Episode, Examples, Key


class FunctionClass(NamedTuple):
  """A distribution over functions.

  Attributes:
    draw: key -> a function, as a pytree of arrays.
    values: (function, x [n, inputs]) -> y [n], before noise.
    inputs: (key, n) -> x [n, inputs].
    priors: ((log weight, prior), ...), the same distribution in a form whose posterior is known
      (metakit.learners.bayes); None if there is no such form.
    name: for messages.
    basis: if functions are vectors of weights w, then y = basis(x) w; otherwise None.
  """

  draw: Callable[[Key], Any]
  values: Callable[[Any, jax.Array], jax.Array]
  inputs: Callable[[Key, int], jax.Array]
  priors: tuple[tuple[float, Prior], ...] | None
  name: str
  basis: Basis | None = None


def functions(
  function_class: FunctionClass, shots: int = 40, queries: int = 1, *, noise: float = 0.0
) -> EpisodeSource:
  """Regression episodes: a new function of the class in each.

  Args:
    function_class: one of this module.
    shots: support examples.
    queries: query examples.
    noise: standard deviation of the Gaussian noise on y, of support and query.

  Returns:
    A source: support x [shots, inputs] and y [shots, 1], query likewise; info['function'] is what
    `function_class.draw` returned and info['clean'] [queries, 1] the query's y without noise.

  Raises:
    ValueError: if a number of examples is not positive or the noise negative or not finite.

  >>> episode = functions(dense(3), shots=2)(jax.random.key(0))
  >>> w = episode.info['function']
  >>> bool(jnp.allclose(episode.support.x @ w, episode.support.y[:, 0], atol=1e-6))
  True
  """
  check_positive(shots=shots, queries=queries)
  if not (math.isfinite(noise) and noise >= 0):
    raise ValueError(f'noise={noise} is no standard deviation; use noise>=0')

  @jax.jit
  def plan(key: Key) -> Episode:
    draw_key, input_key, noise_key = jax.random.split(key, 3)
    function = function_class.draw(draw_key)
    x = function_class.inputs(input_key, shots + queries)
    clean = function_class.values(function, x)[:, None]
    y = clean + noise * draws.normal(noise_key, clean.shape) if noise else clean
    info = {'function': function, 'clean': clean[shots:]}
    return Episode(Examples(x[:shots], y[:shots]), Examples(x[shots:], y[shots:]), info)

  return EpisodeSource(plan)


def gaussian_inputs(dim: int) -> Callable[[Key, int], jax.Array]:
  """Inputs x ~ N(0, I)."""
  return lambda key, n: draws.normal(key, (n, dim))


def uniform_inputs(low: float, high: float) -> Callable[[Key, int], jax.Array]:
  """Inputs x [n, 1], uniform from low to high."""
  return lambda key, n: draws.uniform(key, (n, 1), minval=low, maxval=high)


def _linear(basis, draw, inputs, prior, name) -> FunctionClass:
  values = lambda w, x: basis(x) @ w
  priors = None if prior is None else ((0.0, prior),)
  return FunctionClass(draw, values, inputs, priors, name, basis)


def _gaussian(basis, features, inputs, name) -> FunctionClass:
  """Weights w ~ N(0, I)."""
  check_memory(f'the prior of {name}', 8 * features, 'use fewer inputs')
  prior = Gaussians(basis, jnp.zeros(1), jnp.zeros((1, features)), jnp.ones((1, features)))
  return _linear(basis, lambda key: draws.normal(key, (features,)), inputs, prior, name)


def _identity(x: jax.Array) -> jax.Array:
  return x


def dense(dim: int = 20) -> FunctionClass:
  """Linear functions y = w x, w ~ N(0, I), x ~ N(0, I)."""
  check_positive(dim=dim)
  return _gaussian(_identity, dim, gaussian_inputs(dim), 'dense')


MOST_COMPONENTS = 20_000  # 10,000 sequences of 41 then take half an hour on two cores


def sparse(dim: int = 20, nonzeros: int = 3) -> FunctionClass:
  """Linear functions with `nonzeros` entries of w ~ N(0, 1) at places drawn at random.

  The prior is a mixture of a Gaussian for each set of places, dim over nonzeros in number.

  Args:
    nonzeros: inputs that y depends on.

  Raises:
    ValueError: if nonzeros is not between 1 and dim.
  """
  check_positive(dim=dim, nonzeros=nonzeros)
  if nonzeros > dim:
    raise ValueError(f'nonzeros={nonzeros} exceeds dim={dim}; use nonzeros<={dim}')

  def draw(key: Key) -> jax.Array:
    place_key, key = jax.random.split(key)
    there = jax.random.permutation(place_key, jnp.arange(dim) < nonzeros)
    return there * draws.normal(key, (dim,))

  return _linear(_identity, draw, gaussian_inputs(dim), _spikes(dim, nonzeros), 'sparse')


def _spikes(dim: int, nonzeros: int) -> Gaussians | None:
  if nonzeros < dim > MOST_COMPONENTS:  # at least dim components, which take long to count
    return None
  components = math.comb(dim, nonzeros)
  if components > MOST_COMPONENTS:
    return None
  places = np.array(list(itertools.combinations(range(dim), nonzeros)))
  variance = np.zeros((components, dim), np.float32)
  np.put_along_axis(variance, places, 1, axis=1)
  uniform = jnp.full(components, -math.log(components))
  return Gaussians(_identity, uniform, jnp.zeros((components, dim)), jnp.asarray(variance))


MOST_SIGNS = 20


def sign_vectors(dim: int = 20) -> FunctionClass:
  """Linear functions with w in {-1, 1}^dim, all equally likely.

  The prior lists all 2^dim of them, up to dim=20.
  """
  check_positive(dim=dim)
  prior = None
  if dim <= MOST_SIGNS:
    every = 1 - 2 * ((jnp.arange(2**dim)[:, None] >> jnp.arange(dim)) & 1)
    uniform = jnp.full(2**dim, -dim * math.log(2))
    prior = Hypotheses(_identity, uniform, every.astype(jnp.float32))
  draw = lambda key: draws.signs(key, (dim,))
  return _linear(_identity, draw, gaussian_inputs(dim), prior, 'sign_vectors')


def low_rank(size: int = 10, rank: int = 1) -> FunctionClass:
  """Linear functions of size^2 inputs whose weights, as a matrix, have a low rank.

  W = A B^T / sqrt(rank), entries of A and B [size, rank] ~ N(0, 1). No closed posterior is known.

  Args:
    size: rows and columns of W, whose square is the number of inputs.
    rank: rank of W.

  Raises:
    ValueError: if rank is not between 1 and size.
  """
  check_positive(size=size, rank=rank)
  if rank > size:
    raise ValueError(f'rank={rank} exceeds size={size}; use rank<={size}')

  def draw(key: Key) -> jax.Array:
    a, b = draws.normal(key, (2, size, rank))
    return (a @ b.T).ravel() / rank**0.5

  return _linear(_identity, draw, gaussian_inputs(size**2), None, 'low_rank')


def gaussian_mixture(dim: int = 10, distance: float = 3.0) -> FunctionClass:
  """Linear functions with w from two Gaussians at +distance and -distance along the first axis.

  Each episode draws one of the two, equally likely; the authors' code draws it once a batch. Only
  the sign of the first entry of w is unknown (its variance is 1e-8). The other entries are N(0, 1).

  Args:
    distance: distance of the means from the origin.
  """
  check_positive(dim=dim)
  if not math.isfinite(distance):
    raise ValueError(f'distance={distance} is no number; use a finite one')
  check_memory('the prior of gaussian_mixture', 16 * dim, 'use fewer inputs')
  mean = jnp.zeros((2, dim)).at[:, 0].set(jnp.array([distance, -distance]))
  variance = jnp.ones((2, dim)).at[:, 0].set(1e-8)

  def draw(key: Key) -> jax.Array:
    component_key, key = jax.random.split(key)
    component = draws.coin(component_key).astype(jnp.int32)
    return mean[component] + jnp.sqrt(variance[component]) * draws.normal(key, (dim,))

  prior = Gaussians(_identity, jnp.full(2, -math.log(2)), mean, variance)
  return _linear(_identity, draw, gaussian_inputs(dim), prior, 'gaussian_mixture')


def fourier(frequencies: int = 10, half_period: float = 5.0) -> FunctionClass:
  """Fourier series of x ~ U(-L, L), L = half_period.

  f(x) = (a_0 + sum_n a_n cos(n pi x / L) + b_n sin(n pi x / L)) / sqrt(N), n = 1 .. N, all
  coefficients ~ N(0, 1).

  Args:
    frequencies: N.
    half_period: L.
  """
  check_positive(frequencies=frequencies, half_period=half_period)

  def basis(x: jax.Array) -> jax.Array:
    angles = x * jnp.arange(1, frequencies + 1) * (jnp.pi / half_period)  # [n, frequencies]
    waves = jnp.concatenate([jnp.ones_like(x), jnp.cos(angles), jnp.sin(angles)], axis=1)
    return waves / frequencies**0.5

  inputs = uniform_inputs(-half_period, half_period)
  return _gaussian(basis, 2 * frequencies + 1, inputs, 'fourier')


DEEPEST = 24  # levels of a tree of two children each


def haar(levels: int = 3) -> FunctionClass:
  """Haar wavelets on x ~ U(0, 1): a constant and 2^l wavelets of each level l = 0 .. levels.

  psi_lk(x) = 2^(l/2) psi(2^l x - k), psi = 1 on [0, 1/2) and -1 on [1/2, 1), with coefficients
  ~ N(0, 1).

  Args:
    levels: the finest level of wavelets.
  """
  if not 0 <= levels <= DEEPEST:
    raise ValueError(f'levels={levels} is not from 0 to {DEEPEST}; there are 2^levels wavelets')

  def wavelets(x: jax.Array, level: int) -> jax.Array:
    place = x * 2**level - jnp.arange(2**level)  # [n, 2^level]
    sign = jnp.where(place < 0.5, 1.0, -1.0)
    return jnp.where((place >= 0) & (place < 1), 2 ** (level / 2) * sign, 0.0).astype(x.dtype)

  def basis(x: jax.Array) -> jax.Array:
    return jnp.concatenate([jnp.ones_like(x), *(wavelets(x, n) for n in range(levels + 1))], axis=1)

  return _gaussian(basis, 2 ** (levels + 1), uniform_inputs(0.0, 1.0), 'haar')


def monomials(dim: int = 20, number: int = 20, seed: int = 0) -> FunctionClass:
  """Polynomials of `number` fixed monomials x_i x_j, i <= j, coefficients ~ N(0, 1).

  Args:
    dim: inputs, x ~ N(0, I).
    number: monomials, out of dim (dim + 1) / 2.
    seed: chooses them.

  Raises:
    ValueError: if there are not as many monomials.
  """
  check_positive(dim=dim, number=number)
  check_memory('the list of monomials', 100 * dim**2, 'use fewer inputs')
  pairs = np.array(list(itertools.combinations_with_replacement(range(dim), 2)))
  if number > len(pairs):
    raise ValueError(f'number={number} exceeds the {len(pairs)} monomials; use fewer')
  first, second = pairs[np.random.default_rng(seed).permutation(len(pairs))[:number]].T
  basis = lambda x: x[:, first] * x[:, second]
  return _gaussian(basis, number, gaussian_inputs(dim), 'monomials')


def decision_trees(dim: int = 20, depth: int = 4) -> FunctionClass:
  """Binary trees whose nodes compare a coordinate with 0 and whose leaves are N(0, 1).

  Every node chooses one of the `dim` coordinates of x ~ N(0, I), all equally likely (Garg et al.
  2022, section 4). No closed posterior is known.

  Args:
    depth: comparisons from the root to a leaf.
  """
  check_positive(dim=dim, depth=depth)
  if depth > DEEPEST:
    raise ValueError(f'depth={depth} exceeds {DEEPEST}; there are 2^depth leaves')

  def draw(key: Key) -> dict[str, jax.Array]:
    node_key, leaf_key = jax.random.split(key)
    nodes = draws.integers(node_key, (2**depth - 1,), 0, dim)
    return {'nodes': nodes, 'leaves': draws.normal(leaf_key, (2**depth,))}

  def values(tree: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    tree = jax.tree.map(jnp.asarray, tree)

    def one(example: jax.Array) -> jax.Array:
      node = jnp.zeros((), jnp.int32)
      for _ in range(depth):  # children of node i are 2 i + 1 and 2 i + 2
        node = 2 * node + 1 + (example[tree['nodes'][node]] > 0)
      return tree['leaves'][node - (2**depth - 1)]

    return jax.vmap(one)(x)

  return FunctionClass(draw, values, gaussian_inputs(dim), None, 'decision_trees')


def two_layer_networks(dim: int = 20, hidden: int = 100) -> FunctionClass:
  """Networks f(x) = sqrt(2 / hidden) sum_i a_i relu(w_i x), all weights ~ N(0, 1), x ~ N(0, I).

  No closed posterior is known.

  Args:
    hidden: units of the hidden layer.
  """
  check_positive(dim=dim, hidden=hidden)

  def draw(key: Key) -> dict[str, jax.Array]:
    first, second = jax.random.split(key)
    inner = draws.normal(first, (dim, hidden))
    return {'inner': inner, 'outer': draws.normal(second, (hidden,))}

  def values(network: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    return (2 / hidden) ** 0.5 * jax.nn.relu(x @ network['inner']) @ network['outer']

  return FunctionClass(draw, values, gaussian_inputs(dim), None, 'two_layer_networks')


def gaussian_process(
  length_scale: float = 1.0, low: float = -5.0, high: float = 5.0, *, kernel: str = 'eq'
) -> FunctionClass:
  """Draws from a Gaussian process of mean 0 and variance 1, x ~ U(low, high).

  Args:
    length_scale: l of the kernel.
    low: the lowest input.
    high: the highest input.
    kernel: one of metakit.episodes.kernels: 'eq', exp(-(x - x')^2 / (2 l^2)); 'matern52'; or
      'weakly_periodic', with a period of l.

  Raises:
    ValueError: if the length scale is not positive, the range empty or the kernel unknown.
  """
  if not (length_scale > 0 and low < high):
    raise ValueError(f'length_scale={length_scale} must be positive and low={low} < high={high}')

  if kernel not in KERNELS:
    raise ValueError(f'kernel={kernel!r} is unknown; use {", ".join(KERNELS)}')
  covariance = KERNELS[kernel](length_scale)

  def values(key_data: jax.Array, x: jax.Array) -> jax.Array:
    key = jax.random.wrap_key_data(key_data, impl='threefry2x32')
    white = draws.normal(key, (len(x),))
    jitter = 1e-5 * jnp.eye(len(x))  # in float32 the kernel matrix of close inputs is singular
    return cholesky(covariance(x, x) + jitter) @ white

  draw = lambda key: jax.random.bits(key, (2,), jnp.uint32)  # a key of the function's own
  priors = ((0.0, Process(covariance)),)
  return FunctionClass(draw, values, uniform_inputs(low, high), priors, 'gaussian_process')
