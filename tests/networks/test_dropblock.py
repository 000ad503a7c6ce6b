"""DropBlock drops whole squares, as many as it says, and only in training."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metakit.networks.dropblock import DropBlock, block_chance, cover
from metakit.networks.resnet12 import resnet12

KEY = jax.random.key(0)


def covered_by_loops(starts, size):
  examples, rows, columns, channels = starts.shape
  covered = np.zeros((examples, rows + size - 1, columns + size - 1, channels))
  for n, i, j, c in itertools.product(*map(range, starts.shape)):
    for k, m in itertools.product(range(size), range(size)):
      covered[n, i + k, j + m, c] = max(covered[n, i + k, j + m, c], starts[n, i, j, c])
  return covered


def test_squares_are_covered_as_by_a_loop():
  starts = np.random.default_rng(0).random((2, 4, 3, 2)) < 0.2
  ours = cover(jnp.asarray(starts, jnp.float32), 3)
  np.testing.assert_array_equal(ours, covered_by_loops(starts, 3))


def test_squares_start_as_often_as_the_paper_says_and_what_is_left_is_scaled():
  """A place is kept if none of the squares that would cover it starts."""
  rate, size, height, width = 0.3, 3, 6, 7
  rng = np.random.default_rng(0)
  x = rng.uniform(1, 2, (40, height, width, 100)).astype(np.float32)
  weight = (np.arange(40) < 30).astype(np.float32)
  y = jax.jit(lambda x: DropBlock(rate, size).apply({}, x, weight, rngs=KEY))(x)
  kept = np.asarray(y) != 0
  np.testing.assert_allclose(y, x * kept / kept[:30].mean(), rtol=1e-5)
  chance = rate / size**2 * height * width / ((height - size + 1) * (width - size + 1))
  assert block_chance(rate, size, height=height, width=width) == pytest.approx(chance)
  places = np.ones((1, height - size + 1, width - size + 1, 1))
  squares = np.zeros((height, width))  # that cover each place
  for i, j in itertools.product(range(places.shape[1]), range(places.shape[2])):
    squares[i : i + size, j : j + size] += 1
  expected = (1 - chance) ** squares
  share, number = kept.mean((0, 3)), 40 * 100
  assert np.abs((share - expected) / np.sqrt(expected * (1 - expected) / number)).max() < 4
  dropped = ~kept
  starts = np.stack(
    [
      dropped[:, i : height - size + 1 + i, j : width - size + 1 + j]
      for i, j in itertools.product(range(size), range(size))
    ]
  ).all(0)
  np.testing.assert_array_equal(covered_by_loops(starts[:2], size), dropped[:2])


def test_a_map_smaller_than_a_square_is_dropped_as_a_whole():
  x = jnp.ones((50, 2, 2, 40))
  y = np.asarray(jax.jit(lambda x: DropBlock(0.1, 5).apply({}, x, rngs=KEY))(x))
  kept = (y != 0).all((1, 2))
  np.testing.assert_array_equal(kept, (y != 0).any((1, 2)))
  assert abs(kept.mean() - 0.9) < 4 * (0.09 / kept.size) ** 0.5


def test_resnet12_drops_in_training_alone():
  """By the key, and at last each feature of an image of 16x16 as a whole."""
  plain, dropping = resnet12(width=2), resnet12(width=2, drop=0.4)
  assert dropping.stochastic and not plain.stochastic
  x = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
  params = jax.jit(plain.init)(KEY, x)

  @jax.jit
  def apply(params, key):
    drawn = dropping.apply(params, x, key=key)
    return plain.apply(params, x), dropping.apply(params, x), drawn

  (expected, asked, drawn), (*_, other) = apply(params, KEY), apply(params, jax.random.key(1))
  np.testing.assert_array_equal(asked, expected)
  zeros = [(np.asarray(each) == 0).mean() for each in (expected, drawn, other)]
  assert zeros[0] == 0 and 0.1 < zeros[1] < 0.7 and np.any(drawn != other)
