"""Convolution as a matrix product and pooling as comparisons, against XLA's own operations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from metakit.networks import convolution
from metakit.networks.convolution import as_images, convolution_as_matmul, max_pool
from tests.learners.test_laws import compiled_fast


def reference(x, kernel, stride):
  return lax.conv_general_dilated(
    x, kernel, (stride, stride), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )


def derivatives(convolve, x, kernel, direction):
  """Value, gradient and Hessian-vector product of a curved function of a convolution."""
  loss = lambda pair: jnp.sin(convolve(*pair)).sum()
  gradient, second = jax.jvp(jax.grad(loss), ((x, kernel),), (direction,))
  return convolve(x, kernel), gradient, second


@pytest.mark.parametrize('image', [(5, 6), (8, 7)])
@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('size', [1, 3])
def test_the_matrix_product_is_the_convolution_to_the_second_derivative(size, stride, image):
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.normal(size=shape)
  shapes = (2, *image, 3), (size, size, 3, 2)
  both = lambda *arguments: tuple(
    derivatives(lambda x, k: convolve(x, k, stride), *arguments)  # noqa: B023
    for convolve in (convolution_as_matmul, reference)
  )
  with jax.enable_x64(True):
    ours, theirs = compiled_fast(both)(*(draw(*s) for s in shapes), tuple(draw(*s) for s in shapes))
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


def test_other_backends_get_the_same_convolution(monkeypatch):
  rng = np.random.default_rng(0)
  x, kernel = (rng.normal(size=s).astype(np.float32) for s in ((2, 5, 4, 3), (3, 3, 3, 2)))
  here = convolution.convolution(x, kernel, 2)
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  np.testing.assert_allclose(here, convolution.convolution(x, kernel, 2), atol=1e-5)


def window_max(x):
  return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), 'VALID')


@pytest.mark.parametrize('shape', [(2, 4, 6, 3), (2, 5, 7, 3)])
def test_max_pool_is_the_window_maximum_with_its_gradient(shape):
  x = np.random.default_rng(0).permutation(np.arange(np.prod(shape))).reshape(shape)
  x = x.astype(np.float32)  # all different: no ties
  judge = lambda pool: jax.jit(jax.value_and_grad(lambda x: jnp.sin(pool(x)).sum()))(x)
  np.testing.assert_array_equal(max_pool(x), window_max(x))
  np.testing.assert_allclose(judge(max_pool)[1], judge(window_max)[1], atol=1e-6)


def test_a_tie_gives_its_gradient_to_one_place():
  """A `max` would share it by comparing with the maximum, the test that compilers spoil."""
  grads = np.asarray(jax.grad(lambda x: max_pool(x).sum())(np.ones((1, 4, 4, 1), np.float32)))
  assert set(grads.ravel().tolist()) == {0, 1}
  assert grads.reshape(2, 2, 2, 2).sum((1, 3)).tolist() == [[1, 1], [1, 1]]


def test_images_without_a_whole_window_are_refused():
  with pytest.raises(ValueError, match='1x4 positions'):
    max_pool(jnp.zeros((2, 1, 4, 3)))


@pytest.mark.parametrize('shape', [(10, 1), (10, 28, 28)])
def test_what_is_no_batch_of_images_is_refused_with_a_remedy(shape):
  with pytest.raises(ValueError, match=r'images \[examples, height, width, channels\].*use mlp'):
    as_images(jnp.zeros(shape))
