"""Heads that solve a small problem: optimality conditions, and scikit-learn on the same support."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import LinearSVC

from metakit.heads import baseline, discriminant, logistic, mahalanobis, naive_bayes, ridge, svm
from metakit.heads.baseline import epochs
from metakit.heads.common import ABSENT
from metakit.heads.ridge import ridge_weights
from metakit.heads.solve import minimise
from metakit.types import Episode, Examples
from tests.heads.made import KEY, blobs, class_means, in_float64, outputs, softmax, unit

FEW, MANY = blobs(shots=1, features=7), blobs(shots=9, features=4)
BOTH = pytest.mark.parametrize('episode', [FEW, MANY], ids=['few', 'many'])


@pytest.mark.parametrize(('examples', 'features'), [(4, 9), (9, 4), (5, 5)])
@in_float64
def test_ridge_is_stationary(examples, features):
  """The gradient of the penalised error is zero, whichever system is solved."""
  rng = np.random.default_rng(0)
  x, t = rng.normal(size=(examples, features)), rng.normal(size=(examples, 3))
  weight = rng.uniform(0, 2, examples)
  found = np.asarray(jax.jit(partial(ridge_weights, penalty=0.3))(x, t, weight))
  slope = x.T @ (weight[:, None] * (x @ found - t)) + 0.3 * found
  assert np.abs(slope).max() < 1e-12


@BOTH
def test_ridge_is_scikit_learns(episode):
  """Which codes labels as 1 and -1: twice the weights of 1 and 0, less those of a constant."""
  support = episode.support
  theirs = RidgeClassifier(alpha=0.5, fit_intercept=False).fit(support.x, support.y).coef_.T
  constant = np.linalg.solve(
    support.x.T @ support.x + 0.5 * np.eye(support.x.shape[1]), support.x.sum(0)
  )
  expected = episode.query.x @ (theirs + constant[:, None]) / 2
  np.testing.assert_allclose(outputs(ridge(3, 0.5, learned=False), episode), expected, rtol=1e-9)


def test_a_learned_ridge_scales_and_shifts():
  params = {'log_penalty': np.log(0.5), 'scale': np.float64(3), 'bias': np.float64(-1)}
  plain = outputs(ridge(3, 0.5, learned=False), FEW)
  np.testing.assert_allclose(outputs(ridge(3), FEW, params), 3 * plain - 1, rtol=1e-12)


def of_both(quick, slow):
  """A test of few or many examples with some numbers; each of `quick` is (episode, number)."""
  episodes = {'few': FEW, 'many': MANY}
  rows = [(row, ()) for row in quick] + [(row, pytest.mark.slow) for row in slow]
  cases = [
    pytest.param(episodes[name], number, marks=marks, id=f'{name}-{number}')
    for (name, number), marks in rows
  ]
  return pytest.mark.parametrize(('episode', 'strength'), cases)


# test_precision.py asks the same of few examples with many features.
@of_both(
  [('many', 0.1)], [('few', 0.1), ('few', 1.0), ('few', 100.0), ('many', 1.0), ('many', 100.0)]
)
def test_logistic_is_scikit_learns(episode, strength):
  support, query, _ = episode
  theirs = LogisticRegression(C=strength, tol=1e-12, max_iter=10_000).fit(support.x, support.y)
  found = outputs(logistic(3, strength, 2000, tolerance=1e-10), episode)
  np.testing.assert_allclose(softmax(found), theirs.predict_proba(query.x), rtol=1e-5, atol=1e-9)


@in_float64
def test_the_solution_of_a_minimum_is_differentiated_by_its_optimality():
  """x = A^-1 b: dx/db = A^-1, however few steps the solver took."""
  rng = np.random.default_rng(0)
  root = rng.normal(size=(4, 4))
  a, b = root @ root.T + np.eye(4), rng.normal(size=4)
  solution = lambda b: minimise(lambda x: x @ a @ x / 2 - b @ x, jnp.zeros(4), 100, tolerance=1e-12)

  @jax.jit
  def both(b):
    found, backwards = jax.vjp(solution, b)
    return found, jax.lax.map(backwards, jnp.eye(4))[0]

  found, slopes = both(b)
  np.testing.assert_allclose(found, np.linalg.solve(a, b), rtol=1e-10)
  np.testing.assert_allclose(slopes, np.linalg.inv(a), atol=1e-10)


@of_both([('few', 1.0)], [('few', 0.1), ('many', 0.1), ('many', 1.0)])
def test_the_support_vector_machine_is_scikit_learns(episode, strength):
  """Crammer and Singer's, without a bias. The jitter is as one more feature for each support
  example, of which queries have none."""
  support, query, _ = episode
  count = len(support.x)
  extra = 1e-3**0.5 * np.eye(count)
  theirs = LinearSVC(
    multi_class='crammer_singer', C=strength, fit_intercept=False, tol=1e-10, max_iter=1_000_000
  ).fit(np.hstack([support.x, extra]), support.y)
  expected = theirs.decision_function(np.hstack([query.x, np.zeros((len(query.x), count))]))
  params = {'scale': np.float64(1)}
  found = outputs(svm(3, strength), episode, params)
  level = lambda a: a - a.mean(1, keepdims=True)  # a shift of all classes is no difference
  np.testing.assert_allclose(level(found), level(expected), atol=1e-6)


@in_float64
def test_the_support_vector_machine_is_differentiated_by_its_optimality():
  """The derivative of the loss with respect to a support example is the finite difference."""
  head, support = svm(3, 1.0), FEW.support
  params, step = {'scale': np.ones(())}, 1e-5

  @jax.jit
  @jax.value_and_grad
  def loss(x):
    return head.loss(KEY, params, FEW._replace(support=support._replace(x=x)))[0]

  direction = np.random.default_rng(0).normal(size=support.x.shape)
  exact = (np.asarray(loss(support.x)[1]) * direction).sum()
  ahead, behind = (float(loss(support.x + way * direction)[0]) for way in (step, -step))
  np.testing.assert_allclose((ahead - behind) / (2 * step), exact, rtol=1e-5)


@pytest.mark.parametrize('smoothing', [1e-9, 0.1])
def test_naive_bayes_with_own_variances_is_scikit_learns(smoothing):
  theirs = GaussianNB(var_smoothing=smoothing).fit(MANY.support.x, MANY.support.y)
  found = softmax(outputs(naive_bayes(3, pooled=False, smoothing=smoothing), MANY))
  np.testing.assert_allclose(found, theirs.predict_proba(MANY.query.x), rtol=1e-6, atol=1e-12)


def test_pooled_naive_bayes_is_a_discriminant_with_a_diagonal_covariance():
  """Linear: the quadratic term is the same for all classes."""
  support, z = MANY.support, MANY.query.x
  within = np.square(support.x - class_means(support)[support.y]).mean(0)
  variance = within + 0.1 * support.x.var(0).max()
  away = np.square(z[:, None] - class_means(support)) / variance
  found = outputs(naive_bayes(3, smoothing=0.1), MANY)
  np.testing.assert_allclose(softmax(found), softmax(-away.sum(-1) / 2), rtol=1e-9)


# A half is that of the next test.
@pytest.mark.parametrize(
  'shrinkage', [0.1, *(pytest.param(s, marks=pytest.mark.slow) for s in (0.5, 1.0))]
)
def test_linear_discriminant_is_scikit_learns(shrinkage):
  """scikit-learn standardises features before it shrinks; of unit variance they are left alone."""
  support, query, _ = MANY
  within = support.x - class_means(support)[support.y]
  scale = within.std(0)
  episode = MANY._replace(
    support=support._replace(x=support.x / scale), query=query._replace(x=query.x / scale)
  )
  theirs = LinearDiscriminantAnalysis(solver='lsqr', shrinkage=shrinkage)
  theirs.fit(episode.support.x, support.y)
  found = softmax(outputs(discriminant(3, True, shrinkage, smoothing=1e-9), episode))
  np.testing.assert_allclose(found, theirs.predict_proba(episode.query.x), rtol=1e-4, atol=1e-9)


def test_linear_discriminant_of_classes_of_several_sizes_is_scikit_learns():
  """The covariance that classes share is that of all examples, not the mean over the classes."""
  kept = np.flatnonzero((MANY.support.y != 1) | (np.cumsum(MANY.support.y == 1) <= 3))
  support = jax.tree.map(lambda leaf: leaf[kept], MANY.support)
  within = (support.x - class_means(support)[support.y]).std(0)
  support = support._replace(x=support.x / within)
  query = MANY.query._replace(x=MANY.query.x / within)
  theirs = LinearDiscriminantAnalysis(solver='lsqr', shrinkage=0.5).fit(support.x, support.y)
  found = softmax(outputs(discriminant(3, True, 0.5, smoothing=1e-9), Episode(support, query)))
  np.testing.assert_allclose(found, theirs.predict_proba(query.x), rtol=1e-4, atol=1e-9)


def density(z, mean, covariance):
  away = z - mean
  distance = np.einsum('nf,fg,ng->n', away, np.linalg.inv(covariance), away)
  return distance, np.linalg.slogdet(covariance)[1]


def test_quadratic_discriminant_is_its_densities():
  support, z = MANY.support, MANY.query.x
  expected = []
  for k in range(3):
    own = support.x[support.y == k]
    covariance = np.cov(own.T, bias=True)
    size = np.trace(covariance) / 4
    ridge = 0.3 * size + 0.1 * support.x.var(0).mean()
    distance, volume = density(z, own.mean(0), 0.7 * covariance + ridge * np.eye(4))
    expected.append(np.log(9) - (distance + volume) / 2)
  found = outputs(discriminant(3, False, 0.3, smoothing=0.1), MANY)
  np.testing.assert_allclose(found, np.stack(expected, 1), rtol=1e-9)


@pytest.mark.parametrize('shots', [2, pytest.param(9, marks=pytest.mark.slow)])
def test_mahalanobis_mixes_the_covariances_of_class_and_task(shots):
  """With fewer examples than features, and with more."""
  episode = blobs(shots=shots, features=15)
  support, z = episode.support, episode.query.x
  everything, expected, share = np.cov(support.x.T), [], shots / (shots + 1)
  for k in range(3):
    own = support.x[support.y == k]
    mixed = share * np.cov(own.T) + (1 - share) * everything + 2 * np.eye(15)
    expected.append(-density(z, own.mean(0), mixed)[0] / 2)
  found = outputs(mahalanobis(3, ridge=2.0), episode)
  np.testing.assert_allclose(found, np.stack(expected, 1), rtol=1e-9)


@pytest.mark.parametrize('cosine', [False, pytest.param(True, marks=pytest.mark.slow)])
def test_baseline_is_gradient_descent_with_dampened_momentum(cosine):
  """By hand: m <- 0.9 m + 0.1 (g + 0.001 w), w <- w - rate m, on the whole support."""
  support, z = FEW.support, FEW.query.x
  with jax.enable_x64(True):
    start = baseline(3, cosine, 1, batch=0, learning_rate=1e-12)  # where it starts
    head, *_ = jax.device_get(jax.jit(start.adapt)(KEY, {}, support))
  kernel, bias = head['kernel'].copy(), head['bias'].copy()
  momentum = [np.zeros_like(kernel), np.zeros_like(bias)]

  def logits(x):
    return 2 * unit(x) @ unit(kernel.T).T if cosine else x @ kernel + bias

  for _ in range(20):
    away = (softmax(logits(support.x)) - np.eye(3)[support.y]) / len(support.y)
    slopes = [support.x.T @ away, away.sum(0)]
    if cosine:
      raw, size = unit(support.x).T @ away * 2, np.linalg.norm(kernel, axis=0)
      direction = kernel / size
      slopes = [(raw - direction * (raw * direction).sum(0)) / size, np.zeros_like(bias)]
    for place, (weights, slope) in enumerate(zip((kernel, bias), slopes, strict=True)):
      momentum[place] = 0.9 * momentum[place] + 0.1 * (slope + 1e-3 * weights)
      weights -= 0.5 * momentum[place]
  found = outputs(baseline(3, cosine, 20, batch=0, learning_rate=0.5), FEW, {})
  np.testing.assert_allclose(found, logits(z), rtol=1e-6)


def test_baseline_takes_a_hundred_epochs():
  """As the released code: 7 minibatches of 4 for 25 examples."""
  assert [epochs(5, 4), epochs(25, 4), epochs(25, 0)] == [200, 700, 100]
  program = lambda steps: jax.make_jaxpr(baseline(3, steps=steps).adapt)(KEY, {}, FEW.support)
  assert str(program(None)) == str(program(100)) != str(program(101))


@pytest.mark.parametrize(
  'head',
  [
    *(ridge(4), naive_bayes(4)),
    *(
      pytest.param(head, marks=pytest.mark.slow)
      for head in (svm(4), discriminant(4), mahalanobis(4), logistic(4))
    ),
  ],
)
def test_a_class_without_support_is_never_predicted_and_changes_nothing(head):
  """Class 3 of four has no examples, and an example of weight 0 is none."""
  support = FEW.support
  ghost = Examples(
    np.concatenate([support.x, 99 * np.ones((1, 7))]),
    np.append(support.y, np.int32(3)),
    np.append(np.ones(3), 0.0),
  )
  without = outputs(head, FEW)
  assert (without[:, 3] <= ABSENT / 2).all()
  np.testing.assert_allclose(outputs(head, FEW._replace(support=ghost)), without, rtol=1e-5)


@pytest.mark.slow  # tests/test_linear_algebra.py asks it of one system
def test_support_vector_machines_are_solved_one_after_the_other_on_a_cpu():
  """A batch of large factorisations has stopped for ever on two cores: it waited for itself."""
  support = FEW.support._replace(x=np.float32(FEW.support.x))
  head, supports = svm(3), jax.tree.map(lambda leaf: np.stack([leaf] * 4), support)
  params = {'scale': np.float32(1)}
  run = jax.jit(jax.vmap(lambda support: head.adapt(KEY, params, support)[0]))
  compiled = run.lower(supports).compile()
  text = compiled.as_text()
  sizes = re.findall(r'= \(?f32\[([\d,]+)\].*custom_call_target="lapack', text)
  assert sizes and all(size.count(',') <= 1 or size.startswith('1,') for size in sizes), sizes
  alone = jax.jit(head.adapt)(KEY, params, support)[0]
  np.testing.assert_allclose(compiled(supports), np.stack([alone] * 4), atol=1e-5)
