"""Rows of a table, by their numbers: the form of CPUs gives what NumPy's indexing gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metakit.fusion import unfused
from metakit.gathering import gather

RNG = np.random.default_rng(0)
NUMBERS = np.array([[4, 0, 4], [3, 1, 2]])


@pytest.mark.parametrize(
  ('row', 'dtype'),
  [((5, 7, 1), np.uint8), ((3, 2), np.float32), ((4,), np.int32), ((), np.float32)],
)
def test_rows_are_those_of_numpy(row, dtype):
  data = RNG.integers(0, 256, (6, *row)).astype(dtype)
  found = gather(jnp.asarray(data), NUMBERS)
  assert found.dtype == dtype
  np.testing.assert_array_equal(found, data[NUMBERS])


def test_it_may_be_mapped_over_numbers_and_tables():
  data = RNG.integers(0, 256, (2, 6, 3, 2, 1), np.uint8)
  each = jax.vmap(jax.vmap(gather, (None, 0)))  # a number of each table, then rows of one table
  found, of_one = jax.jit(lambda data: (each(data, NUMBERS), each(data[:1], NUMBERS[None, 0])))(
    jnp.asarray(data)
  )
  np.testing.assert_array_equal(found, np.stack([data[i][NUMBERS[i]] for i in (0, 1)]))
  np.testing.assert_array_equal(of_one[0], data[0][NUMBERS[0]])


def test_nothing_of_nothing_is_nothing():
  data = jnp.zeros((6, 3, 2))
  assert gather(data, jnp.zeros((2, 0), int)).shape == (2, 0, 3, 2)
  assert gather(data[:, :0], NUMBERS).shape == (2, 3, 0, 2)


def test_a_cpu_gathers_whole_rows_under_one_condition_and_other_devices_as_xla_does():
  data, numbers = jnp.zeros((6, 5, 7, 1), jnp.uint8), jnp.asarray(NUMBERS)

  def program(platform):
    traced = jax.jit(jax.vmap(gather, (None, 0))).trace(data, numbers)
    return traced.lower(lowering_platforms=(platform,)).as_text()

  assert 'slice_sizes = array<i64: 1, 35>' in program('cpu')
  assert program('cpu').count('compare') == 1 and 'select' not in program('cpu')
  for platform in ('tpu', 'cuda'):
    assert 'slice_sizes = array<i64: 1, 5, 7, 1>' in program(platform)
    assert not any(word in program(platform) for word in ('compare', 'LayoutConstraint'))


def test_unfused_is_the_identity_with_its_derivative_and_a_condition_on_cpus_alone():
  x = jnp.asarray(RNG.normal(size=(3, 4)))
  twice = jax.jit(jax.vmap(lambda x: 2 * unfused(jnp.sin(x))))
  np.testing.assert_array_equal(twice(x), 2 * jnp.sin(x))
  slope = jax.grad(lambda x: unfused(jnp.sin(x)).sum())
  np.testing.assert_allclose(jax.jit(slope)(x), jnp.cos(x), rtol=1e-6)
  assert unfused(x[:0]).shape == (0, 4)
  for platform, conditions in (('cpu', 1), ('tpu', 0), ('cuda', 0)):
    program = twice.trace(x).lower(lowering_platforms=(platform,)).as_text()
    assert program.count('compare') == conditions and 'select' not in program
