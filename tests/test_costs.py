"""Counted operations against those of closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import PartitionSpec

from metakit.costs import analysed_flops, measured, product_flops
from metakit.devices import AXIS, task_mesh
from metakit.networks.convolution import convolution

IMAGES = np.ones((3, 8, 6, 4), np.float32)
KERNEL = np.ones((3, 3, 4, 5), np.float32)
ONCE = 2 * (3 * 8 * 6 * 5) * (3 * 3 * 4)


def total(images, kernel):
  return jnp.square(convolution(images, kernel)).sum()


def test_a_convolution_has_as_many_operations_in_each_of_its_roles():
  flax = nn.Conv(5, (3, 3), use_bias=False)
  assert product_flops(flax.apply, {'params': {'kernel': KERNEL}}, IMAGES) == ONCE
  assert product_flops(convolution, IMAGES, KERNEL) == ONCE
  assert product_flops(jax.grad(total), IMAGES, KERNEL) == 2 * ONCE  # the output, and to the input
  assert product_flops(jax.grad(total, argnums=1), IMAGES, KERNEL) == 2 * ONCE  # to the kernel
  assert product_flops(jax.grad(total, argnums=(0, 1)), IMAGES, KERNEL) == 3 * ONCE


@pytest.mark.parametrize('axes', [(0, 0), (0, None), (None, 0)])
def test_tasks_side_by_side_are_counted_one_by_one(axes):
  given = zip((IMAGES, KERNEL), axes, strict=True)
  tasks = [a if axis is None else np.stack([a] * 7) for a, axis in given]
  grads = jax.grad(total, argnums=(0, 1))
  assert product_flops(jax.vmap(grads, in_axes=axes), *tasks) == 7 * 3 * ONCE


def test_a_scan_counts_as_often_as_it_runs():
  matrix = np.ones((4, 4), np.float32)
  power = lambda x: jax.lax.scan(lambda x, _: (matrix @ x, None), x, length=6)[0]
  assert product_flops(jax.jit(power), np.ones(4, np.float32)) == 6 * 2 * 16


def test_a_program_of_several_devices_counts_on_each():
  mesh = task_mesh(jax.devices()[:2])
  options = {'mesh': mesh, 'in_specs': PartitionSpec(AXIS), 'out_specs': PartitionSpec(AXIS)}
  shared = jax.shard_map(lambda x: x @ np.ones((4, 5), np.float32), **options)
  assert product_flops(shared, np.ones((6, 4), np.float32)) == 2 * 6 * 4 * 5


def test_loops_do_not_hide_products_from_the_analysis():
  """XLA counts the body of a loop once."""
  square = jnp.ones((8, 8))
  once = lambda x: jnp.maximum(x @ square, 0)
  seven = lambda x: jax.lax.scan(lambda x, _: (once(x), None), x, length=7)[0]
  assert analysed_flops(once, square) > product_flops(once, square) == 2 * 8**3
  assert analysed_flops(seven, square) >= product_flops(seven, square) == 7 * 2 * 8**3


def test_a_measured_function_is_itself_and_says_what_each_shape_takes():
  double = measured(lambda x: x @ x)
  for size in (3, 5, 3):
    x = np.arange(size * size, dtype=np.float32).reshape(size, size)
    result, resources = double(x)
    np.testing.assert_allclose(result, x @ x, rtol=1e-6)
    assert resources.flops == 2 * size**3 and resources.peak_bytes >= 2 * x.nbytes
