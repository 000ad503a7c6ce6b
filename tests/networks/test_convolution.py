"""Convolution as a matrix product and pooling as comparisons, against XLA's own operations."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from metakit.networks import blocks
from metakit.networks.convolution import (
  ROLES,
  Convolution,
  as_images,
  convolution,
  output_moments,
)
from metakit.networks.convolution_products import Geometry, copied
from metakit.networks.normalisation import BatchNorm
from metakit.networks.pooling import max_pool


def reference(x, kernel, stride):
  return lax.conv_general_dilated(
    x, kernel, (stride, stride), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )


def derivatives(convolve, x, kernel, direction):
  """Value, gradient and Hessian-vector product of a curved function of a convolution."""
  loss = lambda pair: jnp.sin(convolve(*pair)).sum()
  gradient, second = jax.jvp(jax.grad(loss), ((x, kernel),), (direction,))
  return convolve(x, kernel), gradient, second


MAPPED = {  # the axes of a vmap over (x, kernel)
  'neither': None,
  'x': (0, None),
  'kernel': (None, 0),
  'both': (0, 0),
}


# Every pair of a size, a stride, a number of channels and a mapping; for an even size and an odd
# one the slow tier has all combinations. Of the pairs those with these two sizes are quick, and so
# is what networks of images compute where each task has its own.
CASES = itertools.product([1, 2, 3, 5], [1, 2], [2, 9], MAPPED)


def is_mixed(size, stride, channels, mapped):
  turn = [1, 2, 3, 5].index(size) + list(MAPPED).index(mapped)
  return (stride, channels) == ((1, 2), (2, 9), (2, 2), (1, 9))[turn % 4]


def marks_of(size, *case):
  mixed = is_mixed(size, *case)
  quick = (mixed and size in (2, 3)) or (size, *case) == (3, 1, 9, 'both')
  return [pytest.mark.slow] * (not quick) + [pytest.mark.compiler] * mixed


@pytest.mark.parametrize(
  ('size', 'stride', 'channels', 'mapped'),
  [
    pytest.param(*case, marks=marks_of(*case))
    for case in CASES
    if is_mixed(*case) or case[0] in (2, 3)
  ],
)
def test_it_is_the_convolution_to_the_second_derivative(size, stride, channels, mapped):
  """For one kernel and for one a task: value, gradient and Hessian-vector product."""
  rng, axes = np.random.default_rng(0), MAPPED[mapped]
  shapes = (2, 5, 6, channels), (size, size, channels, 10)
  lead = [(3,) if axes and axis == 0 else () for axis in axes or (None, None)]
  sizes = [(*front, *shape) for front, shape in zip(lead, shapes, strict=True)]
  draw = lambda: tuple(rng.normal(size=size) for size in sizes)

  def judge(convolve):
    one = lambda *pair: derivatives(lambda x, k: convolve(x, k, stride), *pair[:2], pair[2:])
    return jax.vmap(one, axes * 2) if axes else one

  with jax.enable_x64(True):
    both = lambda *given: (judge(convolution)(*given), judge(reference)(*given))
    ours, theirs = jax.jit(both)(*draw(), *draw())
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10, strict=True)


@pytest.mark.parametrize(('tasks', 'examples'), [(None, 7), (2, 7), (4, 1)])
def test_blocks_of_examples_or_tasks_change_nothing(tasks, examples, monkeypatch):
  """Blocks of three examples; the last one is smaller, or there are several tasks in one."""
  rng, lead = np.random.default_rng(0), (tasks,) if tasks else ()
  monkeypatch.setattr(blocks, 'BLOCK_BYTES', 3 * 8 * copied(Geometry(4, 5, 3, 1), 9, 8))
  draw = lambda: (rng.normal(size=(*lead, examples, 4, 5, 9)), rng.normal(size=(*lead, 3, 3, 9, 8)))

  def judge(convolve):
    one = lambda *pair: derivatives(lambda x, k: convolve(x, k, 1), *pair[:2], pair[2:])
    return jax.vmap(one) if tasks else one

  with jax.enable_x64(True):
    both = jax.jit(lambda *given: (judge(convolution)(*given), judge(reference)(*given)))
    lowered = both.lower(*draw(), *draw())
    ours, theirs = lowered.compile()(*draw(), *draw())
  assert 'stablehlo.while' in lowered.as_text()
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10, strict=True)


def test_a_vmap_within_a_vmap_and_a_reverse_over_reverse_derivative():
  rng = np.random.default_rng(0)
  x, kernel = rng.normal(size=(2, 2, 4, 4, 3)), rng.normal(size=(3, 3, 3, 3, 4))

  def slope(convolve):
    loss = lambda x, k: jnp.sin(convolve(x, k, 1)).sum()
    twice = lambda x, k: sum(jnp.cos(g).sum() for g in jax.grad(loss, (0, 1))(x, k))
    each = jax.vmap(jax.vmap(jax.grad(twice, (0, 1)), (0, None)), (None, 0))
    shared = jax.grad(lambda k: jax.vmap(lambda x: twice(x, k))(x).sum())(kernel[0])
    return each(x, kernel), shared

  with jax.enable_x64(True):
    ours, theirs = jax.jit(lambda: (slope(convolution), slope(reference)))()
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10, strict=True)


@pytest.mark.parametrize('role', ROLES, ids=lambda role: role.name)
@pytest.mark.parametrize('stride', [1, pytest.param(2, marks=pytest.mark.slow)])
def test_what_other_backends_compute_is_the_same(role, stride):
  """The lowering chooses by platform; here each form is called by itself."""
  geometry, rng = Geometry(5, 4, 3, stride), np.random.default_rng(0)
  draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
  x, kernel, y = draw(2, 5, 4, 9), draw(3, 3, 9, 8), draw(2, *geometry.outputs, 8)
  given = {'convolution': (x, kernel), 'convolution_to_input': (y, kernel)}.get(role.name, (x, y))
  both = lambda *given: [form(*given, geometry) for form in (role.native, role.products)]
  forms = jax.jit(both)(*given)
  np.testing.assert_allclose(*forms, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('platform', ['cpu', 'cuda', 'tpu'])
def test_per_task_kernels_are_grouped_on_tpus_alone(platform):
  x, kernel = np.ones((3, 2, 4, 4, 9), np.float32), np.ones((3, 3, 3, 9, 4), np.float32)
  traced = jax.jit(jax.vmap(convolution)).trace(x, kernel)
  text = traced.lower(lowering_platforms=(platform,)).as_text()
  assert ('stablehlo.convolution' in text) == (platform == 'tpu')


def window_max(x):
  return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), 'VALID')


@pytest.mark.compiler
@pytest.mark.parametrize('shape', [(2, 4, 6, 3), (2, 5, 7, 3)])
def test_max_pool_is_the_window_maximum_with_its_gradient(shape):
  x = np.random.default_rng(0).permutation(np.arange(np.prod(shape))).reshape(shape)
  x = x.astype(np.float32)  # all different: no ties
  judge = lambda pool: (pool(x), jax.grad(lambda x: jnp.sin(pool(x)).sum())(x))
  ours, theirs = jax.jit(lambda x: (judge(max_pool), judge(window_max)))(x)
  np.testing.assert_array_equal(ours[0], theirs[0])
  np.testing.assert_allclose(ours[1], theirs[1], atol=1e-6)


@pytest.mark.compiler
def test_a_tie_gives_its_gradient_to_one_place():
  """A `max` would share it by comparing with the maximum, the test that compilers spoil."""
  slopes = jax.jit(jax.grad(lambda x: max_pool(x).sum()))
  grads = np.asarray(slopes(np.ones((1, 4, 4, 1), np.float32)))
  assert set(grads.ravel().tolist()) == {0, 1}
  assert grads.reshape(2, 2, 2, 2).sum((1, 3)).tolist() == [[1, 1], [1, 1]]


def test_images_without_a_whole_window_are_refused():
  with pytest.raises(ValueError, match='1x4 positions'):
    max_pool(jnp.zeros((2, 1, 4, 3)))


@pytest.mark.parametrize('shape', [(10, 1), (10, 28, 28)])
def test_what_is_no_batch_of_images_is_refused_with_a_remedy(shape):
  with pytest.raises(ValueError, match=r'images \[examples, height, width, channels\].*use mlp'):
    as_images(jnp.zeros(shape))


SOME = np.array([1.0, 0, 2])


@pytest.mark.parametrize(
  ('size', 'stride', 'channels', 'weight'),
  [
    *((3, 1, 1, None), (3, 2, 3, SOME)),
    *(
      pytest.param(*each, marks=pytest.mark.slow)
      for each in ((3, 1, 1, SOME), (3, 2, 3, None), (5, 1, 1, None), (5, 1, 1, SOME))
    ),
  ],
)
def test_moments_of_outputs_are_found_without_them(size, stride, channels, weight):
  rng = np.random.default_rng(0)
  x, kernel = rng.normal(size=(3, 6, 5, channels)), rng.normal(size=(size, size, channels, 4))
  with jax.enable_x64(True):
    moments = lambda x, kernel: output_moments(x, kernel, stride, weight=weight)
    both = jax.jit(lambda *given: (moments(*given), reference(*given, stride)))
    (mean, variance), outputs = jax.device_get(both(x, kernel))
  shares = np.ones(3) if weight is None else weight
  each = np.repeat(shares / shares.sum(), outputs[0].size // 4) / (outputs[0].size // 4)
  rows = outputs.reshape(-1, 4)
  np.testing.assert_allclose(mean, each @ rows, rtol=1e-12)
  np.testing.assert_allclose(variance, each @ (rows - each @ rows) ** 2, rtol=1e-12)


def test_moments_of_many_taps_are_left_to_the_normalisation():
  moments = lambda channels: jax.eval_shape(
    output_moments, np.zeros((1, 4, 4, channels)), np.zeros((3, 3, channels, 2))
  )
  assert moments(4) is None
  assert moments(3) is not None


def test_a_block_normalises_by_them():
  """The parameters and the outputs of a network are those without the short cut."""
  x = np.random.default_rng(0).normal(size=(4, 8, 8, 1))

  class Block(nn.Module):
    short: bool

    @nn.compact
    def __call__(self, x):
      layer = Convolution(5, use_bias=False)
      y = layer(x)
      return BatchNorm()(y, None, layer.moments(x) if self.short else None)

  with jax.enable_x64(True):
    start, plain = (jax.eval_shape(Block(s).init, jax.random.key(0), x) for s in (True, False))
    assert start == plain
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), start)
    loss = lambda params, short: jnp.sin(Block(short).apply(params, x)).sum()
    judge = lambda params, short: (
      *jax.value_and_grad(loss)(params, short),
      Block(short).apply(params, x),
    )
    ours, theirs = jax.jit(lambda params: [judge(params, short) for short in (True, False)])(params)
  np.testing.assert_allclose(ours[-1], theirs[-1], rtol=1e-12, atol=1e-12)
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)
  assert Convolution(5).bind(params).moments(x) is None  # with a bias
