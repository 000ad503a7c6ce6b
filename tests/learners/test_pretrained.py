"""Ordinary training on all classes, then episodes; labels and features of transformed inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metakit.heads import prototypes
from metakit.learners.embedded import embedded
from metakit.learners.pretrained import (
  jointly_labelled,
  measured_on_all,
  pretrained,
  side_by_side,
)
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


@pytest.mark.parametrize('seen', [side_by_side, measured_on_all])
def test_statistics_are_those_of_all_transforms_together(seen):
  model = small('batch', None)
  wide = seen(model, NEGATIVE)
  x = np.random.default_rng(0).normal(size=(2, 5, 4)).astype(np.float32)
  params = jax.jit(model.init)(KEY, x[0])
  both = np.concatenate([x, -x], axis=1)
  found = jax.jit(wide.stored.calibrate)(params, x, np.ones((2, 5), np.float32))
  expected = jax.jit(model.stored.calibrate)(params, both, np.ones((2, 10), np.float32))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected)
  rows = np.asarray(jax.jit(wide.stored.apply)(found, x[0]))
  each = [jax.jit(model.stored.apply)(found, sign * x[0]) for sign in (1, -1)]
  expected = each[0] if seen is measured_on_all else np.concatenate(each, axis=1)
  np.testing.assert_allclose(rows, expected, rtol=1e-6)


def divergence(logits, answers, temperature):
  ours, theirs = softmax(logits / temperature), softmax(answers / temperature)
  return temperature**2 * np.mean(np.sum(theirs * np.log(theirs / ours), axis=1))


def calibrated(model, key):
  """Params of a learner whose statistics are those of another episode."""
  learner = pretrained(model, prototypes(3), 6)
  params = jax.jit(learner.init)(key, EPISODE)
  others = jax.tree.map(lambda leaf: leaf[None], Episode(*blobs(seed=1)[:2], EPISODE.info))
  return jax.device_get(jax.jit(learner.calibrate)(params, others))


def test_a_student_learns_from_labels_and_from_a_teacher_that_sees_each_example_alone():
  model = small('batch', None)
  params, teacher = (calibrated(model, jax.random.key(seed)) for seed in (0, 1))
  x, y = everything()

  def logits(params, apply):
    z = np.asarray(jax.jit(apply)(params['body'], x))
    return 16 * unit(z) @ unit(params['layer']['kernel'].T).T

  ours, theirs = logits(params, model.apply), logits(teacher, model.stored.apply)
  learner = pretrained(model, prototypes(3), 6, teacher=teacher, alpha=0.25, temperature=2.0)
  found, metrics = jax.jit(learner.loss)(KEY, params, EPISODE)
  expected = 0.25 * nll(ours, y) + 0.75 * divergence(ours, theirs, 2.0)
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  np.testing.assert_allclose(metrics['accuracy'], (ours.argmax(1) == y).mean(), rtol=1e-6)


def test_the_teacher_is_not_moved_and_an_equal_one_has_nothing_to_teach():
  _, params = made()

  def loss(teacher, params, alpha=0.0):
    return made_of(teacher, alpha).loss(KEY, params, EPISODE)[0]

  made_of = lambda teacher, alpha: pretrained(
    identity, prototypes(3), 6, teacher=teacher, alpha=alpha
  )
  other = jax.tree.map(lambda leaf: leaf[::-1], params)
  assert jax.jit(loss)(params, params) == 0
  theirs, ours = jax.jit(jax.grad(loss, (0, 1)))(other, params)
  assert not any(np.any(leaf) for leaf in jax.tree.leaves(theirs))
  assert np.abs(ours['layer']['kernel']).max() > 1e-3


def test_labels_alone_are_training_without_a_teacher_to_the_bit():
  plain, params = made()
  other = jax.tree.map(lambda leaf: leaf[::-1], params)
  student, _ = made(teacher=other, alpha=1.0)
  value = lambda learner: jax.jit(jax.value_and_grad(learner.loss, 1, True))(KEY, params, EPISODE)
  jax.tree.map(np.testing.assert_array_equal, value(student), value(plain))


def test_transforms_are_told_apart_beside_the_classes():
  learner, params = made(transforms=NEGATIVE, auxiliary=0.3, scale=5.0)
  assert params['layer']['kernel'].shape == (5, 6)  # no further classes
  x, y = everything()
  views = np.concatenate([x, -x])
  logits = 5 * unit(views) @ unit(params['layer']['kernel'].T).T
  turns = nll(views @ params['auxiliary']['kernel'], np.repeat([0, 1], len(x)))
  expected = nll(logits, np.tile(y, 2)) + 0.3 * turns
  np.testing.assert_allclose(jax.jit(learner.loss)(KEY, params, EPISODE)[0], expected, rtol=1e-5)
  support = EPISODE.support._replace(y=np.full_like(EPISODE.support.y, -1))
  known = np.tile(np.arange(len(x)) >= len(support.y), 2)  # without a label turns still count
  expected = nll(logits[known], np.tile(y, 2)[known]) + 0.3 * turns
  found = jax.jit(learner.loss)(KEY, params, EPISODE._replace(support=support))[0]
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  features = learner.features.embed(params, x)
  np.testing.assert_allclose(features, x, rtol=1e-6)  # of the image as it is


def test_absent_examples_teach_nothing():
  model = small('batch', None)
  options = {'transforms': NEGATIVE, 'auxiliary': 1.0, 'teacher': calibrated(model, KEY)}
  learner = pretrained(model, prototypes(3), 6, **options)
  params = jax.jit(learner.init)(KEY, EPISODE)
  query = EPISODE.query
  padded = Examples(
    np.concatenate([query.x, np.full_like(query.x[:2], np.nan)]),
    np.concatenate([query.y, [0, 1]]),
    np.append(np.ones(len(query.y), np.float32), [0, 0]).astype(np.float32),
  )
  gradient = jax.jit(jax.value_and_grad(lambda *given: learner.loss(*given)[0], 1))
  found, expected = (gradient(KEY, params, EPISODE._replace(query=q)) for q in (padded, query))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'num_classes': 1}, 'num_classes=1 leaves nothing to tell apart'),
    ({'num_classes': 6, 'until': 0}, 'until=0 is not positive'),
    ({'num_classes': 6, 'scale': 0.0}, 'scale=0.0 is not positive'),
    ({'num_classes': 6, 'alpha': 1.5}, 'alpha=1.5 is no share of the labels'),
    ({'num_classes': 6, 'temperature': 0.0}, 'temperature=0.0 is not positive'),
    ({'num_classes': 6, 'auxiliary': 1.0}, 'transforms apart, and there are 0; give two or more'),
    ({'num_classes': 6, 'statistics': 'both'}, "statistics='both' are unknown"),
  ],
)
def test_numbers_that_make_no_sense(options, message):
  with pytest.raises(ValueError, match=message):
    pretrained(identity, prototypes(3), **options)
