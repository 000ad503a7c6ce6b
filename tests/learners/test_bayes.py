"""The Bayes predictor against closed forms, brute force over hypotheses, and its own error."""

import itertools

import jax
import numpy as np
import pytest

from metakit.episodes import functions as f
from metakit.episodes.function_combinators import mix_classes, scale_outputs, task_pool
from metakit.estimates import estimate
from metakit.evaluation import evaluate, judge_prefixes, predict_prefixes
from metakit.learners.bayes import bayes
from metakit.objectives import squared_error
from metakit.types import Examples

KEY = jax.random.key(0, impl='threefry2x32')
NOISE = 0.5


def episode(function_class, shots=6, queries=3, noise=NOISE, key=KEY):
  return jax.device_get(jax.jit(f.functions(function_class, shots, queries, noise=noise))(key))


def predictor(function_class, noise=NOISE):
  """(support, x) -> predictions in float64, by one program."""
  learner = bayes(function_class, noise)
  wide = lambda tree: jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)
  ask = jax.jit(lambda support, x: learner.predict(learner.adapt(KEY, {}, support), x))

  def run(support, x):
    with jax.enable_x64(True):
      return np.asarray(ask(wide(support), wide(x)))[:, 0]

  return run


def predict(function_class, support, x, noise=NOISE):
  return predictor(function_class, noise)(support, x)


def first(support, shots):
  """The first of the support alone, and the same where the others are there and absent."""
  absent = support._replace(weight=(np.arange(len(support.x)) < shots).astype(np.float32))
  return jax.tree.map(lambda leaf: leaf[:shots], support), absent


def ridge(features, y, asked, noise):
  gram = features.T @ features + noise**2 * np.eye(features.shape[1])
  return asked @ np.linalg.solve(gram, features.T @ y)


# Those that are slow are other bases of the same one Gaussian.
@pytest.mark.parametrize(
  'make',
  [f.dense, *(pytest.param(m, marks=pytest.mark.slow) for m in (f.monomials, f.fourier, f.haar))],
)
def test_one_gaussian_is_ridge_regression(make):
  function_class = make()
  support, query, _ = episode(function_class, 40)
  basis = function_class.priors[0][1].basis
  features, asked = (np.asarray(basis(part.x), np.float64) for part in (support, query))
  ask = predictor(function_class)
  for shots in (3, 40):
    alone, padded = first(support, shots)
    expected = ridge(features[:shots], alone.y[:, 0].astype(np.float64), asked, NOISE)
    ours = ask(padded, query.x)
    np.testing.assert_allclose(ours, expected, atol=1e-5 * max(1, np.abs(expected).max()))


def weighted(log_likelihoods, predictions):
  weights = np.exp(log_likelihoods - np.max(log_likelihoods))
  return weights @ predictions / weights.sum()


def log_likelihood(weights, support, noise):
  return -np.square(support.y[:, 0] - support.x @ weights).sum() / (2 * noise**2)


def test_sign_vectors_are_enumerated():
  support, query, _ = episode(f.sign_vectors(5), 9)
  every = [np.array(signs) for signs in itertools.product([-1.0, 1.0], repeat=5)]
  ask = predictor(f.sign_vectors(5))
  for shots in (1, 4, 9):
    alone, padded = first(support, shots)
    likelihoods = [log_likelihood(w, alone, NOISE) for w in every]
    expected = weighted(likelihoods, np.stack([query.x @ w for w in every]))
    np.testing.assert_allclose(ask(padded, query.x), expected, atol=1e-5)


@pytest.mark.slow  # as sign vectors are
def test_a_pool_is_enumerated():
  """The discrete minimum-mean-squared-error estimator of Raventos et al. 2023, eq. 3."""
  pool = task_pool(f.dense(4), 7)
  support, query, _ = episode(pool, 2)
  drawn = jax.jit(lambda key: jax.vmap(pool.draw)(jax.random.split(key, 200)))(jax.random.key(0))
  every = list(np.unique(np.asarray(drawn), axis=0))
  assert len(every) == 7
  likelihoods = [log_likelihood(w, support, NOISE) for w in every]
  expected = weighted(likelihoods, np.stack([query.x @ w for w in every]))
  np.testing.assert_allclose(predict(pool, support, query.x), expected, atol=1e-5)


def evidence(support, mean, variance):
  """log N(y; x mean, x diag(variance) x^T + noise^2), and the posterior mean of w."""
  x, y = support.x.astype(np.float64), support.y[:, 0].astype(np.float64)
  covariance = (x * variance) @ x.T + NOISE**2 * np.eye(len(y))
  residual = y - x @ mean
  log = -0.5 * residual @ np.linalg.solve(covariance, residual)
  log -= 0.5 * np.linalg.slogdet(covariance)[1]
  return log, mean + variance * (x.T @ np.linalg.solve(covariance, residual))


def test_a_mixture_follows_the_weight_of_its_components():
  support, query, _ = episode(f.gaussian_mixture(4, distance=1.0), 8)
  variance, ask = np.array([1e-8, 1, 1, 1]), predictor(f.gaussian_mixture(4, distance=1.0))
  for shots in (1, 3, 8):
    alone, padded = first(support, shots)
    each = (evidence(alone, sign * np.array([1.0, 0, 0, 0]), variance) for sign in (1, -1))
    logs, weights = zip(*each, strict=True)
    expected = weighted(np.array(logs), np.stack([query.x @ w for w in weights]))
    np.testing.assert_allclose(ask(padded, query.x), expected, atol=1e-5)


@pytest.mark.slow  # a mixture of more components than the one above
def test_sparse_functions_sum_over_all_places():
  support, query, _ = episode(f.sparse(5, 2), 3)
  places = itertools.combinations(range(5), 2)
  logs, weights = zip(
    *(evidence(support, np.zeros(5), np.isin(np.arange(5), p) * 1.0) for p in places), strict=True
  )
  expected = weighted(np.array(logs), np.stack([query.x @ w for w in weights]))
  np.testing.assert_allclose(predict(f.sparse(5, 2), support, query.x), expected, atol=1e-5)


def test_a_gaussian_process_is_conditioned():
  """Rasmussen and Williams 2006, eq. 2.25."""
  support, query, _ = episode(f.gaussian_process())
  kernel = lambda a, b: np.exp(-np.square(a - b.T) / 2)
  covariance = kernel(support.x, support.x) + NOISE**2 * np.eye(6)
  expected = kernel(query.x, support.x) @ np.linalg.solve(covariance, support.y[:, 0])
  np.testing.assert_allclose(predict(f.gaussian_process(), support, query.x), expected, atol=1e-5)


def test_a_mixture_of_classes_weighs_them_by_evidence():
  both = mix_classes([f.dense(3), f.sign_vectors(3)], [1, 3])
  support, query, _ = episode(both, 4)
  every = [np.array(signs) for signs in itertools.product([-1.0, 1.0], repeat=3)]
  log_signs = [log_likelihood(w, support, NOISE) - 4 * np.log(NOISE) for w in every]
  log_dense, dense = evidence(support, np.zeros(3), np.ones(3))
  logs = np.array([np.log(0.25) + log_dense, *(np.log(0.75 / 8) + np.array(log_signs))])
  expected = weighted(logs, np.stack([query.x @ w for w in (dense, *every)]))
  np.testing.assert_allclose(predict(both, support, query.x), expected, atol=1e-5)


@pytest.mark.slow  # outputs of the mixture below are scaled
def test_scaled_outputs_scale_the_prediction():
  support, query, _ = episode(f.dense(3))
  doubled = support._replace(y=2 * support.y)
  for make in (f.dense(3), f.gaussian_process()):
    ours = predict(scale_outputs(make, 2.0), doubled, query.x, 2 * NOISE)
    np.testing.assert_allclose(ours, 2 * predict(make, support, query.x), atol=1e-5)


CLASSES = {
  'dense': lambda: f.dense(3),
  'sparse': lambda: f.sparse(4, 2),
  'sign_vectors': lambda: f.sign_vectors(4),
  'gaussian_mixture': lambda: f.gaussian_mixture(3, distance=1.0),
  'haar': lambda: f.haar(1),
  'gaussian_process': f.gaussian_process,
  'task_pool': lambda: task_pool(f.dense(3), 5),
  'mixture': lambda: mix_classes([f.dense(3), scale_outputs(f.sign_vectors(3), 2.0)]),
}


MANY = {'many components': lambda: f.sparse(9, 3), 'many': lambda: task_pool(f.dense(2), 1500)}


# One Gaussian, and a process; mixtures are those of the tests above.
QUICK = ('dense', 'gaussian_process')
QUICK_WITHOUT_NOISE = ('dense',)


def by_class(names, quick):
  marked = lambda name: pytest.param(name, marks=[] if name in quick else [pytest.mark.slow])
  return pytest.mark.parametrize('name', list(map(marked, names)))


@pytest.mark.parametrize(
  ('name', 'noise'),
  [
    pytest.param(name, noise, marks=[pytest.mark.slow] if slow else [])
    for name in [*CLASSES, *MANY]
    for noise, slow in ((NOISE, name not in QUICK), (0.0, name not in QUICK_WITHOUT_NOISE))
  ],
)
def test_all_prefixes_at_once_are_those_one_by_one(name, noise):
  """In float64; two examples are absent, and predicted all the same."""
  function_class = (CLASSES | MANY)[name]()
  examples = episode(function_class, 8, noise=noise).support
  examples = examples._replace(weight=np.array([1, 1, 0, 1, 1, 1, 0, 1.0]))
  with jax.enable_x64(True):
    wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), examples)
    at_once = bayes(function_class, noise)
    both = at_once, at_once._replace(prefixes=None)
    ask = jax.jit(lambda e: [predict_prefixes(learner, KEY, {}, e) for learner in both])
    given, wanted = ask(wide)
  assert (at_once.prefixes is None) == (noise == 0 and name in ('dense', 'haar'))
  np.testing.assert_allclose(given, wanted, atol=1e-7)


@by_class(CLASSES, ('mixture',))
def test_the_error_of_the_posterior_mean_is_orthogonal_to_it(name):
  """E[(y - m) m] = 0 at every length, which the prior and only the right posterior give."""
  function_class, shots = CLASSES[name](), 5
  source = f.functions(function_class, shots, noise=NOISE)

  def product(outputs, examples):
    return outputs.sum(), {'product': ((examples.y - outputs) * outputs).sum()}

  values = evaluate(
    bayes(function_class, NOISE),
    squared_error._replace(judge=product),
    {},
    source=source,
    root=KEY,
    episodes=4000,
    judge=judge_prefixes,
  )['product']
  assert values.shape == (4000, shots + 1)
  for column in values.T:
    mean, ci95, _ = estimate(column)
    assert abs(mean) <= 2.5 * ci95 + 1e-6


@by_class([*CLASSES, 'large outputs'], ('gaussian_process', 'large outputs'))
def test_without_noise_predictions_are_finite_and_become_right(name):
  """Before any example, and after more than there are weights, those of y of any size."""
  make = {**CLASSES, 'large outputs': lambda: scale_outputs(f.dense(4), 1000.0)}[name]
  source = f.functions(make(), 12)
  values = evaluate(
    bayes(make(), 0.0),
    squared_error,
    {},
    source=source,
    root=KEY,
    episodes=200,
    judge=judge_prefixes,
  )
  error = values['loss']
  assert np.isfinite(error).all()
  smooth = name == 'gaussian_process'  # its 12 examples do not determine it
  assert np.median(error[:, -1]) < (0.2 if smooth else 1e-6) * error[:, 0].mean()


def test_without_noise_the_posterior_mean_is_of_minimum_norm():
  support, query, _ = episode(f.dense(8), 5, noise=0.0)
  weights = np.linalg.lstsq(support.x.astype(np.float64), support.y[:, 0], rcond=None)[0]
  ours = predict(f.dense(8), support, query.x, noise=0.0)
  np.testing.assert_allclose(ours, query.x @ weights, atol=1e-5)


@pytest.mark.parametrize('noise', [-1.0, float('nan')])
def test_what_is_no_noise_is_refused(noise):
  with pytest.raises(ValueError, match='no standard deviation'):
    bayes(f.dense(2), noise)
  two = Examples(np.ones((3, 2)), np.ones((3, 2)))
  with pytest.raises(ValueError, match=r'y of shape \(3, 2\)'):
    bayes(f.dense(2), 0.1).adapt(KEY, {}, two)


def test_many_functions_are_mixed_in_parts():
  """2,048 sign vectors are more than are mixed at once, by brute force."""
  support, query, _ = episode(f.sign_vectors(11), 5)
  every = np.array(list(itertools.product([-1.0, 1.0], repeat=11)))
  likelihoods = np.array([log_likelihood(w, support, NOISE) for w in every])
  expected = weighted(likelihoods, every @ query.x.T)
  np.testing.assert_allclose(predict(f.sign_vectors(11), support, query.x), expected, atol=1e-5)


@pytest.mark.slow  # that they are mixed in parts is quick
def test_many_functions_take_no_memory_for_the_values_of_all():
  """2^20 sign vectors at 41 inputs would be 160 MiB a sequence."""
  function_class, sequences = f.sign_vectors(16), 4
  learner, support = bayes(function_class, NOISE), episode(function_class, 41).support
  batch = jax.tree.map(lambda leaf: np.stack([leaf] * sequences), support)
  predict_all = jax.jit(jax.vmap(lambda one: learner.prefixes(KEY, {}, one)))
  program = predict_all.lower(batch).compile()
  assert program.memory_analysis().temp_size_in_bytes < sequences * 2**16 * 41 * 4 / 2


def test_a_class_without_a_posterior_is_refused():
  with pytest.raises(ValueError, match='no exact reference is known for the class decision_trees'):
    bayes(f.decision_trees(), 0.1)
  with pytest.raises(ValueError, match='sign_vectors'):
    bayes(f.sign_vectors(21), 0.1)


def test_the_loss_is_that_of_the_queries():
  learner, whole = bayes(f.dense(3), NOISE), episode(f.dense(3))

  @jax.jit
  def both(whole):
    outputs = learner.predict(learner.adapt(KEY, {}, whole.support), whole.query.x)
    return learner.loss(KEY, learner.init(KEY, whole), whole)[0], squared_error(
      outputs, whole.query
    )[0]

  loss, expected = both(whole)
  assert loss == expected
