"""Ordinary training on all classes, then episodes; labels and features of transformed inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metakit.heads import prototypes
from metakit.learners.embedded import embedded
from metakit.learners.pretrained import jointly_labelled, pretrained, side_by_side
from metakit.models import identity
from metakit.types import Episode, Examples
from tests.heads.made import KEY, blobs, softmax, unit
from tests.learners.rows import small

NEGATIVE = [lambda x: x, lambda x: -x]
EPISODE = Episode(*blobs()[:2], {'classes': np.array([4, 0, 2], np.int32)})


def made(**options):
  learner = pretrained(identity, prototypes(3), num_classes=6, **options)
  return learner, jax.device_get(jax.jit(learner.init)(KEY, EPISODE))


def nll(logits, y):
  return -np.log(softmax(logits)[range(len(y)), y]).mean()


def everything():
  support, query, info = EPISODE
  y = info['classes'][np.concatenate([support.y, query.y])]
  return np.concatenate([support.x, query.x]), y


@pytest.mark.parametrize('cosine', [True, False])
def test_the_loss_tells_all_training_classes_apart(cosine):
  learner, params = made(cosine=cosine, scale=5.0)
  x, y = everything()
  kernel = params['layer']['kernel']
  logits = 5 * unit(x) @ unit(kernel.T).T if cosine else x @ kernel
  np.testing.assert_allclose(
    jax.jit(learner.loss)(KEY, params, EPISODE)[0], nll(logits, y), rtol=1e-5
  )


def test_episodes_follow_after_so_many_steps():
  learner, params = made(until=3)
  before, after = (jax.jit(learner.loss_at)(step, KEY, params, EPISODE)[0] for step in (2, 3))
  base = embedded(identity, prototypes(3))
  assert before == jax.jit(learner.loss)(KEY, params, EPISODE)[0]
  np.testing.assert_allclose(after, jax.jit(base.loss)(KEY, params, EPISODE)[0], rtol=1e-6)
  assert made()[0].loss_at is None


def test_labels_are_joint_with_the_transform():
  examples = Examples(np.array([[1.0], [2.0]]), np.array([5, 3]), np.array([1.0, 0.0]))
  joint = jointly_labelled(examples, NEGATIVE)
  assert joint.x.ravel().tolist() == [1, 2, -1, -2]
  assert joint.y.tolist() == [10, 6, 11, 7]
  assert joint.weight.tolist() == [1, 0, 1, 0]
  learner, params = made(transforms=NEGATIVE, scale=5.0)
  assert params['layer']['kernel'].shape == (5, 12)
  x, y = everything()
  logits = 5 * unit(np.concatenate([x, -x])) @ unit(params['layer']['kernel'].T).T
  expected = nll(logits, np.concatenate([2 * y, 2 * y + 1]))
  np.testing.assert_allclose(jax.jit(learner.loss)(KEY, params, EPISODE)[0], expected, rtol=1e-5)


def test_the_prediction_adds_up_the_distances_of_all_transforms():
  """Of a network to which the transforms are different inputs."""
  model = small('group', None)
  learner = pretrained(model, prototypes(3), 6, transforms=[*NEGATIVE, jnp.cos])
  params = jax.jit(learner.init)(KEY, EPISODE)
  apply = jax.jit(model.apply)
  z = lambda x: np.asarray(apply(params['body'], x))
  expected = 0
  for transform in [*NEGATIVE, np.cos]:
    support, query = z(transform(EPISODE.support.x)), z(transform(EPISODE.query.x))
    means = np.stack([support[EPISODE.support.y == way].mean(0) for way in range(3)])
    expected -= np.square(query[:, None] - means).sum(-1)
  ask = lambda params: learner.predict(learner.adapt(KEY, params, EPISODE.support), EPISODE.query.x)
  found = jax.jit(ask)(params)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_statistics_are_those_of_all_transforms_together():
  model = small('batch', None)
  wide = side_by_side(model, NEGATIVE)
  x = np.random.default_rng(0).normal(size=(2, 5, 4)).astype(np.float32)
  params = jax.jit(model.init)(KEY, x[0])
  both = np.concatenate([x, -x], axis=1)
  found = jax.jit(wide.stored.calibrate)(params, x, np.ones((2, 5), np.float32))
  expected = jax.jit(model.stored.calibrate)(params, both, np.ones((2, 10), np.float32))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected)
  rows = np.asarray(jax.jit(wide.stored.apply)(found, x[0]))
  negative = jax.jit(model.stored.apply)(found, -x[0])
  np.testing.assert_allclose(rows[:, 8:], negative, rtol=1e-6)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'num_classes': 1}, 'num_classes=1 leaves nothing to tell apart'),
    ({'num_classes': 6, 'until': 0}, 'until=0 is not positive'),
    ({'num_classes': 6, 'scale': 0.0}, 'scale=0.0 is not positive'),
    ({'num_classes': 6, 'statistics': 'both'}, "statistics='both' are unknown"),
  ],
)
def test_numbers_that_make_no_sense(options, message):
  with pytest.raises(ValueError, match=message):
    pretrained(identity, prototypes(3), **options)
