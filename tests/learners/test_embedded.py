"""Embedding before learning: calibration, the features of a table, and training in one batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from metakit.learners.prototypical import prototypical
from metakit.networks.conv4 import conv4
from metakit.objectives import cross_entropy
from metakit.types import Episode, Examples, join

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
MODEL = conv4(width=4, depth=1)
WAYS = 3
LEARNER = prototypical(MODEL, WAYS)
TRANSDUCTIVE = prototypical(MODEL, WAYS, statistics='episode')
TABLE = RNG.integers(0, 256, (20, 4, 4, 1), np.uint8)
LABELS = np.tile(np.arange(WAYS, dtype=np.int32), 2)


def episode_of(rows):
  return Episode(Examples(TABLE[rows[:6]], LABELS), Examples(TABLE[rows[6:12]], LABELS))


def stacked(*rows):
  return jax.tree.map(lambda *leaves: np.stack(leaves), *(episode_of(r) for r in rows))


ROWS = [RNG.permutation(20) for _ in range(3)]


@functools.cache
def initial():
  return jax.jit(LEARNER.init)(KEY, episode_of(ROWS[0]))


def test_calibrated_on_one_episode_both_protocols_agree_on_it():
  """The stored statistics of an episode are the batch statistics of that episode."""
  episode = episode_of(ROWS[0])

  @jax.jit
  def outputs(params):
    params = LEARNER.calibrate(params, stacked(ROWS[0]))
    predict = lambda learner: learner.predict(
      learner.adapt(KEY, params, episode.support), episode.query.x
    )
    inductive = predict(LEARNER)
    losses = LEARNER.loss(KEY, params, episode)[0], cross_entropy(inductive, episode.query)[0]
    return inductive, predict(TRANSDUCTIVE), losses

  inductive, transductive, losses = outputs(initial())
  np.testing.assert_allclose(inductive, transductive, atol=1e-4)
  np.testing.assert_allclose(*losses, atol=1e-4)


def test_calibration_pools_the_moments_of_all_episodes():
  """Of the first layer's outputs, which no earlier statistics change."""
  params = jax.jit(LEARNER.calibrate)(initial(), stacked(*ROWS))
  images = np.concatenate([TABLE[rows[:12]] for rows in ROWS])
  kernel = initial()['body']['params']['Convolution_0']['kernel']
  convolved = jax.lax.conv_general_dilated(
    images.astype(np.float32) / 255,
    kernel,
    (1, 1),
    'SAME',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
  measured = params['body']['statistics']['Norm_0']['BatchNorm_0']
  np.testing.assert_allclose(measured['mean'], convolved.mean((0, 1, 2)), rtol=1e-4)
  np.testing.assert_allclose(measured['var'], convolved.var((0, 1, 2)), rtol=1e-4)


def test_the_head_on_an_embedded_table_is_the_learner_on_images():
  params = jax.jit(LEARNER.calibrate)(initial(), stacked(*ROWS))
  embed, head = LEARNER.features
  table = jax.jit(embed)(params, TABLE)

  @jax.jit
  def both(rows):
    def outputs(learner, data):
      x = data[rows]
      fitted = learner.adapt(KEY, params, Examples(x[:6], LABELS))
      return learner.predict(fitted, x[6:12])

    return outputs(LEARNER, jnp.asarray(TABLE)), outputs(head, table)

  for rows in ROWS:
    np.testing.assert_allclose(*both(rows), atol=1e-4)


def test_the_head_is_the_same_learner():
  assert LEARNER.features.head.protocol == LEARNER.protocol == 'inductive'
  assert TRANSDUCTIVE.features is None


def test_join_puts_the_second_behind_the_first_and_labels_are_of_both_or_of_none():
  support, query = (Examples(x, LABELS) for x in (TABLE[:6], TABLE[6:12]))
  both = join(support, query)
  assert both.weight is None
  np.testing.assert_array_equal(both.x, TABLE[:12])
  np.testing.assert_array_equal(both.y, [*LABELS, *LABELS])
  assert join(support, query._replace(y=None)).y is None
  weight = np.array([1, 0, 1, 1, 1, 0], np.float32)
  assert join(support._replace(weight=weight), query).weight.tolist() == [*weight, *[1] * 6]
  assert join(support, query._replace(weight=weight)).weight.tolist() == [*[1] * 6, *weight]
