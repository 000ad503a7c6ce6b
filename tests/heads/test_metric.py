"""Metric heads against what their papers' equations say, written in NumPy."""

import jax
import numpy as np
import pytest

from metakit.heads import feat, matching, normalised, prototypes, relation, simpleshot
from metakit.heads.normalised import mean_of
from metakit.networks.mlp import mlp
from metakit.types import Episode, Examples
from tests.heads.made import KEY, blobs, class_means, in_float64, outputs, softmax, squared, unit

EPISODE = blobs()
MEANS = class_means(EPISODE.support)
Z = EPISODE.query.x


def test_a_temperature_multiplies_the_similarities():
  found = outputs(prototypes(3, 'cosine', 7.0), EPISODE)
  np.testing.assert_allclose(found, 7 * unit(Z) @ unit(MEANS).T, rtol=1e-6)


def test_a_temperature_is_learned():
  head = prototypes(3, 'euclidean', 0.1)
  with jax.enable_x64(True):
    params = {'log_temperature': np.log(0.1)}
    slope = jax.jit(jax.grad(lambda p: head.loss(KEY, p, EPISODE)[0]))(params)['log_temperature']
  logits = -0.1 * squared(Z, MEANS)
  away = softmax(logits) - np.eye(3)[EPISODE.query.y]
  np.testing.assert_allclose(slope, (away * logits).sum() / len(Z), rtol=1e-9)


def test_matching_is_attention_over_the_support():
  attention = softmax(2 * unit(Z) @ unit(EPISODE.support.x).T)
  shares = attention @ np.eye(3)[EPISODE.support.y]
  np.testing.assert_allclose(outputs(matching(3, 2.0), EPISODE), np.log(shares), rtol=1e-9)


@pytest.mark.parametrize('how', ['un', 'l2n', 'cl2n', 'power'])
def test_simpleshot_is_the_nearest_mean_of_transformed_features(how):
  mean = np.linspace(-1, 1, Z.shape[1])
  transform = {
    'un': lambda z: z,
    'l2n': unit,
    'cl2n': lambda z: unit(z - mean),
    'power': lambda z: unit(np.sign(z) * np.sqrt(np.abs(z) + 1e-6)),
  }[how]
  support = EPISODE.support._replace(x=transform(EPISODE.support.x))
  expected = -squared(transform(Z), class_means(support))
  params = {'mean': mean, 'head': {}}
  np.testing.assert_allclose(outputs(simpleshot(3, how), EPISODE, params), expected, rtol=1e-9)


@in_float64
def test_calibration_measures_the_mean_of_the_training_features():
  """Padding does not count."""
  weight = np.array([1.0, 1, 0, 1, 1, 1])
  episodes = [blobs(seed) for seed in range(3)]
  episodes = [Episode(e.support._replace(weight=weight), e.query) for e in episodes]
  rows = np.concatenate([np.concatenate([e.support.x[weight > 0], e.query.x]) for e in episodes])
  stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *episodes)
  np.testing.assert_allclose(jax.jit(mean_of)(stacked), rows.mean(0), rtol=1e-12)
  params = jax.jit(simpleshot(3).calibrate)({'mean': np.zeros(5), 'head': {}}, stacked)
  np.testing.assert_allclose(params['mean'], rows.mean(0), rtol=1e-12)


def test_normalisation_reaches_the_head_inside_another():
  """Means are taken where each head sees the features."""
  head = normalised(normalised(prototypes(3), 'cl2n'), 'l2n')
  with jax.enable_x64(True):
    stacked = jax.tree.map(lambda leaf: leaf[None], Episode(*EPISODE[:2]))
    params = jax.jit(lambda: head.calibrate(head.init(KEY, EPISODE), stacked))()
  rows = np.concatenate([EPISODE.support.x, Z])
  np.testing.assert_allclose(params['head']['mean'], unit(rows).mean(0), rtol=1e-6)


def test_relation_scores_pairs_of_mean_and_query():
  head = relation(3, width=8, depth=1)
  with jax.enable_x64(True):
    params = jax.jit(head.init)(KEY, EPISODE)
  found = outputs(head, EPISODE, params)
  with jax.enable_x64(True):
    score = mlp(1, width=8, depth=1).apply
    pairs = np.array([[np.concatenate([m, z]) for m in MEANS] for z in Z])
    expected = jax.jit(score)(params, pairs.reshape(-1, 10)).reshape(found.shape)
    value, metrics = jax.jit(head.loss)(KEY, params, EPISODE)
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  away = 1 / (1 + np.exp(-found)) - np.eye(3)[EPISODE.query.y]
  np.testing.assert_allclose(value, np.square(away).sum(1).mean(), rtol=1e-6)
  assert float(metrics['accuracy']) == np.mean(found.argmax(1) == EPISODE.query.y)


def adapted(params, points):
  """The set function of FEAT, equations 4 to 6."""
  q, k, v = (points @ params[name] for name in ('query', 'key', 'value'))
  mixed = points + softmax(q @ k.T / np.sqrt(points.shape[1])) @ v @ params['out']
  centred = mixed - mixed.mean(-1, keepdims=True)
  return centred / np.sqrt(np.square(centred).mean(-1, keepdims=True) + 1e-6)


def test_feat_adapts_prototypes_to_one_another():
  head = feat(3, temperature=4.0, contrast=0.5)
  with jax.enable_x64(True):
    params = jax.device_get(jax.jit(head.init)(KEY, EPISODE))
    value, metrics = jax.jit(head.loss)(KEY, params, EPISODE)
  logits = -squared(Z, adapted(params, MEANS)) / 4
  np.testing.assert_allclose(outputs(head, EPISODE, params), logits, rtol=1e-5)
  support, query, _ = EPISODE
  both = Examples(np.concatenate([support.x, Z]), np.concatenate([support.y, query.y]))
  centres = [adapted(params, both.x[both.y == k]).mean(0) for k in range(3)]
  together = -squared(both.x, np.stack(centres)) / 4
  loss = lambda logits, y: -np.log(softmax(logits)[range(len(y)), y]).mean()
  plain = loss(logits, query.y)
  np.testing.assert_allclose(metrics['loss'], plain, rtol=1e-5)
  np.testing.assert_allclose(value, plain + 0.5 * loss(together, both.y), rtol=1e-5)
