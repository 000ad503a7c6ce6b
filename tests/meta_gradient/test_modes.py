"""The modes of differentiation against each other, finite differences and closed forms."""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metakit import meta_gradient as modes
from metakit.networks.conv4 import conv4
from metakit.networks.mlp import mlp
from metakit.networks.transformer import transformer
from tests.learners.judged import compiled_fast

KEY = jax.random.key(0, impl='threefry2x32')
STEPS = 3


class Problem(NamedTuple):
  """An inner problem with learned rates, of a network.

  Attributes:
    apply: (params, x) -> outputs [examples, 2].
    fast: the network's parameters.
    slow: {'scale': of the outputs, 'rate': of the steps}; both are meta-parameters.
    data: (support x, query x, labels).
  """

  apply: Callable[..., Any]
  fast: Any
  slow: Any
  data: Any


def sequence_apply(model, params, x):
  """Each token is an example, which sees those before it."""
  nothing = x[:0], jnp.zeros(0, jnp.int32)
  return model.apply(params, x, *nothing).outputs


def problem(name):
  """In float64, to be called under enable_x64."""
  rng = np.random.default_rng(0)
  shape = {'conv4': (6, 6, 1)}.get(name, (4,))
  data = rng.normal(size=(5, *shape)), rng.normal(size=(5, *shape)), np.array([0, 1, 0, 1, 1])
  if name == 'transformer':
    model = transformer(2, width=4, depth=1, heads=2)
    apply = functools.partial(sequence_apply, model)
  else:
    model = {'mlp': mlp(2, width=5, depth=1), 'conv4': conv4(2, width=9, depth=2)}[name]
    apply = model.apply
  fast = jax.eval_shape(model.init, KEY, data[0].astype(np.float32))
  fast = jax.tree.map(lambda leaf: jnp.asarray(0.5 * rng.normal(size=leaf.shape)), fast)
  return Problem(apply, fast, {'scale': jnp.asarray(1.3), 'rate': jnp.asarray(0.4)}, data)


def cross_entropy(outputs, y):
  return optax.softmax_cross_entropy_with_integer_labels(outputs, y).mean()


def inner_of(apply, optimizer=None, proximal=0.0, readout=None):
  """Descent by a learned rate, or by an optax optimizer."""

  def loss(fast, slow, data, step):
    return cross_entropy(slow['scale'] * apply(fast, data[0]), data[2])

  if optimizer is not None:
    return modes.by_optax(loss, optimizer, readout, proximal=proximal)
  step = lambda grads, state, fast, slow, number: (
    jax.tree.map(lambda p, g: p - slow['rate'] * g, fast, grads),
    state,
  )
  return modes.Inner(loss, lambda fast, slow: (), step, readout, proximal)


def meta_loss(given, mode, steps=STEPS, **options):
  """(fast, slow, support x) -> the loss of the queries after the inner loop."""
  solve = mode(inner_of(given.apply, **options))

  def value(fast, slow, x):
    solution = solve(KEY, fast, slow, (x, *given.data[1:]), steps)
    last = cross_entropy(given.apply(solution.fast, given.data[1]), given.data[2])
    return last if solution.readouts is None else last + solution.readouts.sum()

  return value


def slopes(given, mode, **options):
  """The gradients in everything: weights, scale, rate, data."""
  gradient = jax.grad(meta_loss(given, mode, **options), argnums=(0, 1, 2))
  return compiled_fast(gradient)(given.fast, given.slow, given.data[0])


def assert_close(ours, theirs, tolerance):
  leaves = (map(np.asarray, jax.tree.leaves(tree)) for tree in (ours, theirs))
  for a, b in zip(*leaves, strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1.0, np.abs(b).max()))


PROXIMAL = 0.3


@functools.cache
def plain_slopes():
  """Of the mlp, through all steps, with a proximal term; under enable_x64."""
  return slopes(problem('mlp'), modes.unroll(), proximal=PROXIMAL)


EXACT = {
  'remat': modes.remat(),
  'mixed': modes.mixed(),
  'mixed, gradients recomputed': modes.mixed(save_gradients=False),
  'mixed, written out': modes.mixed(unrolled=True),
  'truncated to all': modes.truncated(STEPS),
}
NETWORKS = ['mlp', 'conv4', 'transformer']
ADAM = optax.adam(0.1, eps=1e-3, eps_root=1e-6)
OPTIMIZERS = {'learned rate': None, 'adam': ADAM, 'momentum': optax.sgd(0.2, momentum=0.9)}


# Of each way to be exact; the others are options of mixed.
QUICK_MODES = ('remat', 'mixed', 'truncated to all')
# A convolution and attention have derivatives of their own, for what recomputes a step and for what
# mixes forward and backward. What else the modes do is the same for all networks.
OF_A_NETWORK = ('remat', 'mixed')
SLOW_PAIRS = [
  *(('mlp', optimizer, tuple(EXACT)) for optimizer in OPTIMIZERS),
  ('conv4', 'adam', OF_A_NETWORK),
  ('transformer', 'learned rate', OF_A_NETWORK),
]
PAIRS = [
  pytest.param('mlp', 'learned rate', QUICK_MODES, id='mlp-learned rate'),
  *(
    pytest.param(*pair, marks=pytest.mark.slow, id='-'.join((*pair[:2], 'all')))
    for pair in SLOW_PAIRS
  ),
]


def loss_of_queries(apply, fast, slow, data, step):
  """A readout."""
  return cross_entropy(apply(fast, data[1]), data[2])


@pytest.mark.parametrize(('network', 'optimizer', 'names'), PAIRS)
def test_exact_modes_agree(network, optimizer, names):
  """Weights, other meta-parameters, learned rates and data, with a proximal term.

  Where the rate is learned, the weights after each step count too.
  """
  with jax.enable_x64(True):
    given = problem(network)
    options = {'optimizer': OPTIMIZERS[optimizer], 'proximal': PROXIMAL}
    if optimizer == 'learned rate':
      options['readout'] = functools.partial(loss_of_queries, given.apply)
    theirs = slopes(given, modes.unroll(), **options)
    if 'readout' in options and network == 'mlp':
      differences = jax.tree.map(lambda a, b: np.abs(a - b).max(), theirs, plain_slopes())
      assert min(jax.tree.leaves(differences)) > 1e-3
    reached = ['scale'] if OPTIMIZERS[optimizer] else ['scale', 'rate']
    assert all(abs(theirs[1][name]) > 1e-6 for name in reached)
    for name in names:
      assert_close(slopes(given, EXACT[name], **options), theirs, 1e-12)


# The exact modes agree with unroll for all networks, by the test above, and so mixed is asked once.
# Through a convolution the law of cavia:conv4 asks the same (tests/learners/test_laws.py).
QUICK_DIFFERENCES = [('mlp', 'unroll')]
DIFFERENCES = [*itertools.product(NETWORKS, ['unroll']), ('mlp', 'mixed')]


@pytest.mark.parametrize(
  ('network', 'mode'),
  [
    pytest.param(*pair, marks=[] if pair in QUICK_DIFFERENCES else [pytest.mark.slow])
    for pair in DIFFERENCES
  ],
)
def test_gradients_are_finite_differences(network, mode):
  """Central differences of fourth order, along random directions."""
  rng = np.random.default_rng(1)
  with jax.enable_x64(True):
    given = problem(network)
    mode = {'unroll': modes.unroll(), 'mixed': modes.mixed()}[mode]
    loss = meta_loss(given, mode, steps=2)
    value = compiled_fast(jax.value_and_grad(loss, argnums=(0, 1, 2)))
    point = given.fast, given.slow, given.data[0]
    direction = jax.tree.map(lambda leaf: rng.normal(size=np.shape(leaf)), point)
    moved = lambda t: jax.tree.map(lambda p, d: p + t * d, point, direction)
    at = lambda t: float(value(*moved(t))[0])
    h = 1e-5
    numeric = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
    slope = jax.tree.leaves(jax.device_get(value(*point)[1]))
    exact = sum(np.sum(a * b) for a, b in zip(slope, jax.tree.leaves(direction), strict=True))
  assert abs(exact) > 1e-4
  assert abs(numeric - exact) < 1e-9 * max(1, abs(exact))


# The first step stands alone: 6, 7, 8 in blocks of 3.
BLOCKS = list(itertools.product([modes.mixed, modes.remat], [7, 8, 9]))
QUICK_BLOCKS = [(modes.mixed, 8)]


@pytest.mark.parametrize(
  ('mode', 'steps'),
  [
    pytest.param(*block, marks=[] if block in QUICK_BLOCKS else [pytest.mark.slow])
    for block in BLOCKS
  ],
)
def test_keeping_the_weights_of_some_steps_changes_no_gradient(mode, steps):
  readout = lambda fast, slow, data, step: (step + 1) * slow['rate'] * optax.tree.norm(fast)
  with jax.enable_x64(True):
    given, options = problem('mlp'), {'steps': steps, 'readout': readout}
    theirs = slopes(given, mode(), **options)
    assert_close(slopes(given, mode(every=3), **options), theirs, 1e-12)


def test_keeping_the_weights_of_some_steps_takes_the_memory_of_the_root_of_their_number():
  """A model of many weights and few examples: memory is sets of weights."""
  numbers, steps = 20_000, 65

  def loss(fast, slow, data, step):
    return jnp.tanh(data @ fast).mean()

  def sets(mode):
    solve = mode(modes.by_optax(loss, optax.sgd(0.1)))
    outer = lambda fast, data: loss(solve(KEY, fast, {}, data, steps).fast, {}, data, None)
    shapes = jnp.zeros(numbers), jnp.zeros((2, numbers))
    memory = jax.jit(jax.grad(outer)).lower(*shapes).compile().memory_analysis()
    return memory.temp_size_in_bytes / (4 * numbers)

  assert sets(modes.mixed()) > steps
  assert sets(modes.mixed(every=8)) < 30  # 8 and 8, and those at work


def test_keeping_the_weights_of_no_step_is_refused():
  for mode in (modes.mixed, modes.remat):
    with pytest.raises(ValueError, match='every=0 keeps the weights of no step; use 1 or more'):
      mode(every=0)


def test_readouts_are_those_of_the_weights_after_each_step():
  with jax.enable_x64(True):
    given = problem('mlp')
    readout = lambda fast, slow, data, step: (step, fast)
    solve = modes.unroll()(inner_of(given.apply, readout=readout))
    for steps in (1, 3):
      run = lambda fast: solve(KEY, fast, given.slow, given.data, steps)  # noqa: B023
      alone, (numbers, weights) = jax.device_get(compiled_fast(run)(given.fast)[:2])
      assert numbers.tolist() == list(range(steps))
      assert_close(jax.tree.map(lambda leaf: leaf[-1], weights), alone, 1e-15)


def test_first_order_is_the_gradient_at_the_end_and_of_the_update_in_the_rates():
  with jax.enable_x64(True):
    given = problem('mlp')
    solve = modes.unroll()(inner_of(given.apply))
    end = jax.jit(lambda fast: solve(KEY, fast, given.slow, given.data, STEPS).fast)(given.fast)
    queries = lambda fast: cross_entropy(given.apply(fast, given.data[1]), given.data[2])
    slope = jax.jit(jax.grad(queries))(end)
    ours, slow, data = slopes(given, modes.first_order())
    assert_close(ours, slope, 1e-12)
    end, start, slope = jax.device_get((end, given.fast, slope))
    # The way is - rate * the sum of the gradients.
    along = jax.tree.map(lambda s, e, b: np.vdot(s, e - b), slope, end, start)
    expected = sum(jax.tree.leaves(along)) / float(given.slow['rate'])
    assert_close(slow, {'scale': 0.0, 'rate': expected}, 1e-12)
    assert_close(data, np.zeros_like(data), 0)


def test_truncated_is_first_order_before_the_last_steps():
  with jax.enable_x64(True):
    given = problem('mlp')
    loop = modes.unroll()(inner_of(given.apply))
    middle = jax.jit(lambda fast: loop(KEY, fast, given.slow, given.data, STEPS - 1).fast)(
      given.fast
    )
    theirs = slopes(given._replace(fast=middle), modes.unroll(), steps=1)
    assert_close(slopes(given, modes.truncated(1))[0], theirs[0], 1e-12)


@functools.cache
def converged():
  """A problem, the options of a proximal inner loop, and its gradients through 600 steps."""
  given = problem('mlp')
  # A minimum on the kink of a ReLU has no derivative.
  smooth = lambda params, x: jnp.tanh(x @ params['first']) @ params['last']
  weights = given.fast['params']
  fast = {'first': weights['Dense_0']['kernel'], 'last': weights['Dense_1']['kernel']}
  given = given._replace(apply=smooth, fast=fast)
  options = {'optimizer': optax.sgd(0.3), 'proximal': 1.0, 'steps': 600}
  return given, options, slopes(given, modes.unroll(), **options)


@pytest.mark.parametrize(
  'solver',
  [
    pytest.param(None, marks=pytest.mark.slow),
    pytest.param(modes.conjugate_gradient(60), marks=pytest.mark.slow),
    modes.neumann(800, 0.3),
  ],
  ids=['5', 'cg', 'neumann'],
)
def test_implicit_is_unroll_where_the_proximal_inner_loop_has_converged(solver):
  with jax.enable_x64(True):
    given, options, theirs = converged()
    ours = slopes(given, modes.implicit(solver), **options)
  assert_close(ours, theirs, 1e-8 if solver else 1e-4)


def test_implicit_on_a_quadratic_is_the_exact_proximal_solution():
  """min 1/2 a (phi - c)^2 + l/2 (phi - theta)^2: phi = (a c + l theta) / (a + l)."""
  a, c, strength = np.array([1.0, 2.0, 5.0]), np.array([0.3, -1.0, 2.0]), 1.5
  theta, target = np.array([1.0, 0.5, -2.0]), np.array([0.0, 1.0, 1.0])
  loss = lambda fast, slow, data, step: 0.5 * (a * jnp.square(fast - slow)).sum()
  with jax.enable_x64(True):
    inner = modes.by_optax(loss, optax.sgd(0.25), proximal=strength)
    solve = modes.implicit(modes.conjugate_gradient(3))(inner)
    end = lambda theta, c: solve(KEY, theta, c, (), 300).fast
    outer = lambda theta, c: 0.5 * jnp.square(end(theta, c) - target).sum()
    minimum = (a * c + strength * theta) / (a + strength)
    np.testing.assert_allclose(jax.jit(end)(theta, c), minimum, atol=1e-12)
    ours = jax.jit(jax.grad(outer, (0, 1)))(theta, c)
  away = minimum - target
  np.testing.assert_allclose(ours[0], strength / (a + strength) * away, atol=1e-10)
  np.testing.assert_allclose(ours[1], a / (a + strength) * away, atol=1e-10)


def test_evolution_estimates_the_derivative_of_the_loop():
  """Unbiased: the mean over many pairs is the exact gradient up to its own standard error."""
  with jax.enable_x64(True):
    given = problem('mlp')
    theirs, _, _ = plain_slopes()
    solve = modes.evolution(sigma=1e-4, pairs=1)(inner_of(given.apply, proximal=PROXIMAL))

    def value(fast, key):
      end = solve(key, fast, given.slow, given.data, STEPS).fast
      return cross_entropy(given.apply(end, given.data[1]), given.data[2])

    keys = jax.random.split(KEY, 4000)
    each = compiled_fast(jax.vmap(jax.grad(value), (None, 0)))(given.fast, keys)
  leaves = (map(np.asarray, jax.tree.leaves(tree)) for tree in (each, theirs))
  for own, exact in zip(*leaves, strict=True):
    error = np.std(own, axis=0) / len(keys) ** 0.5
    assert (np.abs(own.mean(0) - exact) < 5 * error).all()
    assert (error < 0.1).all()  # else the line above would say nothing


def test_evolution_goes_through_updates_without_a_derivative():
  loss = lambda fast, slow, data, step: 0.5 * jnp.square(fast - 3.0).sum()
  solve = modes.evolution(sigma=0.5, pairs=200)(modes.by_optax(loss, optax.sign_sgd(0.1)))
  outer = lambda p: jnp.square(solve(KEY, p, {}, (), 4).fast).sum()
  slope = jax.jit(jax.grad(outer))(jnp.ones(2))
  np.testing.assert_allclose(slope, 2 * 1.4 * np.ones(2), rtol=0.3)  # each moves by 0.4


@pytest.mark.slow  # the gradients of the exact ones are quick
def test_the_inner_loop_is_the_same_in_every_mode():
  with jax.enable_x64(True):
    given = problem('mlp')
    others = {'first_order': modes.first_order(), 'truncated': modes.truncated(1)}
    others |= {'implicit': modes.implicit(), 'evolution': modes.evolution()} | EXACT

    @compiled_fast
    def ends(fast):
      solve = lambda mode: mode(inner_of(given.apply, proximal=0.2))
      run = lambda mode: solve(mode)(KEY, fast, given.slow, given.data, STEPS).fast
      return run(modes.unroll()), [run(mode) for mode in others.values()]

    expected, found = ends(given.fast)
    for each in found:
      assert_close(each, expected, 1e-14)
