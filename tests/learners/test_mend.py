"""A few vectors in place of the support: what the reader reads, and what is learned when."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metakit.learners.in_context import in_context
from metakit.learners.mend import mend
from metakit.networks.transformer import transformer
from metakit.types import Episode, Examples

WAYS, VECTORS = 3, 2
RNG = np.random.default_rng(0)
READER = transformer(WAYS, width=8, depth=1, heads=2)
LEARNER = mend(READER, WAYS, VECTORS, until=5, width=8, depth=1, heads=2)


def examples(count):
  x = RNG.normal(size=(count, 4)).astype('f')
  return Examples(x, RNG.integers(0, WAYS, count), np.ones(count, 'f'))


EPISODE = Episode(examples(6), examples(4))


@pytest.fixture(scope='module')
def params():
  shapes = jax.eval_shape(LEARNER.init, jax.random.key(0), EPISODE)
  return jax.tree.map(lambda leaf: 0.7 * RNG.normal(size=leaf.shape).astype(leaf.dtype), shapes)


def test_the_divergence_is_that_from_the_predictions_with_the_whole_support(params):
  key, whole = jax.random.key(0), in_context(READER, WAYS)
  support, query, _ = EPISODE

  @jax.jit
  def both(params):
    ours, theirs = (
      jax.nn.softmax(learner.predict(learner.adapt(key, start, support), query.x))
      for learner, start in ((LEARNER, params), (whole, params['reader']))
    )
    expected = (theirs * (jnp.log(theirs) - jnp.log(ours))).sum(-1).mean()
    return LEARNER.diagnose(key, params, EPISODE)['divergence'], expected

  found, expected = map(float, both(params))
  assert found == pytest.approx(expected, rel=1e-4) and found > 1e-3


def test_what_is_kept_of_a_task_does_not_grow_with_it(params):
  adapt = lambda count: jax.eval_shape(LEARNER.adapt, jax.random.key(0), params, examples(count))
  few, many = (jax.tree.leaves(adapt(count).state) for count in (3, 60))
  assert [leaf.shape for leaf in few] == [leaf.shape for leaf in many]


def test_the_reader_is_trained_first_and_then_frozen(params):
  """The rest the other way round."""
  slope = jax.jit(
    lambda step: jax.grad(
      lambda p: LEARNER.loss_at(step, jax.random.key(0), p, EPISODE)[0], allow_int=False
    )(params)
  )
  moved = lambda tree: any(np.any(leaf) for leaf in jax.tree.leaves(tree))
  for step, reads in ((4, True), (5, False)):
    found = slope(step)
    assert moved(found.pop('reader')) == reads
    assert all(moved(part) != reads for part in found.values())
