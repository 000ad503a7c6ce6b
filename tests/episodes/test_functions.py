"""Function classes: their formulas by hand, their moments, their pools and curricula."""

import jax
import numpy as np
import pytest

from metakit.episodes import functions as f
from metakit.episodes.function_combinators import mix_classes, task_pool, truncate_inputs
from metakit.learners.bayes import bayes
from metakit.types import Examples
from tests.episodes.test_chance import SMALLEST_P, equally_likely, standard_errors_apart
from tests.episodes.test_few_shot import many, one

# name: (class, variance of y under the prior)
CLASSES = {
  'dense': (f.dense, 20.0),
  'sparse': (f.sparse, 3.0),
  'sign_vectors': (f.sign_vectors, 20.0),
  'low_rank': (f.low_rank, 100.0),
  'gaussian_mixture': (f.gaussian_mixture, 18.0),
  'fourier': (f.fourier, 1.1),  # (1 + N) / N with cos^2 + sin^2 = 1
  'haar': (f.haar, 16.0),  # 1 + (1 + 2 + 4 + 8): one wavelet of height 2^(l / 2) a level
  'decision_trees': (f.decision_trees, 1.0),
  'two_layer_networks': (f.two_layer_networks, 20.0),  # (2 / h) h E[relu(w x)^2], |x|^2 = 20
  'gaussian_process': (f.gaussian_process, 1.0),
}


def by_class(quick):
  marked = lambda name: pytest.param(name, marks=[pytest.mark.slow] * (name not in quick))
  return pytest.mark.parametrize('name', list(map(marked, CLASSES)))


# The formulas of the others are asked below.
@by_class(('dense', 'low_rank', 'decision_trees', 'gaussian_process'))
def test_y_has_mean_0_and_the_variance_of_the_prior(name):
  make, variance = CLASSES[name]
  y = many(f.functions(make(), 1, 1), 4000).query.y[:, 0, 0].astype(np.float64)
  error = lambda values: values.std() / len(values) ** 0.5
  assert abs(y.mean()) < 4 * error(y)
  assert abs((y**2).mean() - variance) < 4 * error(y**2)


def test_monomials_are_products_of_two_inputs():
  episode = one(f.functions(f.monomials(4, 10), 40))  # all 10 of them
  x, w = np.asarray(episode.support.x), np.asarray(episode.info['function'])
  products = np.stack([x[:, i] * x[:, j] for i in range(4) for j in range(i, 4)], axis=1)
  fitted = np.linalg.lstsq(products, np.asarray(episode.support.y)[:, 0], rcond=None)[0]
  np.testing.assert_allclose(products @ fitted, episode.support.y[:, 0], atol=1e-4)
  assert w.shape == (10,)
  chosen = f.monomials(4, 3, seed=1), f.monomials(4, 3, seed=2)
  first, second = (jax.jit(c.priors[0][1].basis)(x) for c in chosen)
  assert np.abs(np.sort(first) - np.sort(second)).max() > 1e-2


@pytest.mark.parametrize(('make', 'period'), [(f.fourier, 10.0), (lambda: f.fourier(3, 2.0), 4.0)])
def test_fourier_series_are_periodic(make, period):
  function_class = make()
  w, values = one(function_class.draw), jax.jit(function_class.values)
  x = np.linspace(-1, 1, 7, dtype=np.float32)[:, None]
  np.testing.assert_allclose(values(w, x), values(w, x + np.float32(period)), atol=1e-4)


def test_haar_wavelets_are_orthonormal():
  x = (np.arange(4096, dtype=np.float32)[:, None] + 0.5) / 4096
  basis = np.asarray(jax.jit(f.haar(3).priors[0][1].basis)(x))
  np.testing.assert_allclose(basis.T @ basis / 4096, np.eye(16), atol=1e-5)


def walk(tree, x, depth):
  """The leaf of one example, by if and else."""
  node = 0
  for _ in range(depth):
    right = x[tree['nodes'][node]] > 0
    node = 2 * node + 2 if right else 2 * node + 1
  return tree['leaves'][node - (2**depth - 1)]


def test_trees_go_right_where_the_coordinate_is_positive():
  trees = f.decision_trees(5, 3)
  tree = one(trees.draw)
  x = np.random.default_rng(0).normal(size=(50, 5)).astype(np.float32)
  expected = [walk(tree, example, 3) for example in x]
  np.testing.assert_array_equal(jax.jit(trees.values)(tree, x), expected)
  assert len(set(expected)) > 4


def test_networks_are_their_formula():
  networks = f.two_layer_networks(3, 7)
  network = one(networks.draw)
  x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
  hidden = np.maximum(x @ np.asarray(network['inner']), 0)
  expected = np.sqrt(2 / 7) * hidden @ np.asarray(network['outer'])
  np.testing.assert_allclose(jax.jit(networks.values)(network, x), expected, rtol=1e-5)


def test_a_process_has_the_covariance_of_its_kernel():
  """Of values at fixed inputs, over many draws."""
  process, x = f.gaussian_process(), np.array([[0.0], [0.5], [2.0]], np.float32)
  draw = lambda key: process.values(process.draw(key), x)
  kernel = jax.jit(process.priors[0][1].kernel)(x, x)
  np.testing.assert_allclose(np.cov(many(draw, 20000).T), kernel, atol=0.04)


@pytest.mark.slow
def test_sparse_places_are_equally_likely():
  w = many(f.functions(f.sparse(6, 2), 1), 6000).info['function']
  assert ((w != 0).sum(1) == 2).all()
  assert equally_likely(np.nonzero(w)[1], 6) > SMALLEST_P


@pytest.mark.slow
def test_low_rank_is_low():
  w = many(f.functions(f.low_rank(5, 2), 1), 20).info['function'].reshape(-1, 5, 5)
  assert (np.linalg.matrix_rank(w, tol=1e-4) == 2).all()


def test_components_are_drawn_for_each_episode():
  w = many(f.functions(f.gaussian_mixture(), 1), 2000).info['function']
  assert equally_likely((w[:, 0] > 0).astype(int), 2) > SMALLEST_P
  np.testing.assert_allclose(np.abs(w[:, 0]), 3, atol=1e-3)


@by_class(('gaussian_mixture', 'haar'))
def test_the_prior_is_that_of_the_draw(name):
  """Mean and second moments of the weights, in those classes that have them."""
  function_class = CLASSES[name][0]()
  prior = function_class.priors[0][1] if function_class.priors else None
  if not isinstance(prior, f.Gaussians):
    pytest.skip('it has none, or its own tests enumerate it')
  w = many(f.functions(function_class, 1), 4000).info['function']
  weight = np.exp(np.asarray(prior.log_weight))
  mean, variance = np.asarray(prior.mean), np.asarray(prior.variance)
  moments = weight @ mean, weight @ (variance + mean**2)
  samples = np.random.default_rng(0).choice(len(weight), 4000, p=weight / weight.sum())
  theirs = mean[samples] + np.sqrt(variance[samples]) * np.random.default_rng(1).normal(
    size=(4000, mean.shape[1])
  )
  assert np.max(standard_errors_apart(w, theirs)) < 4.5
  assert np.max(standard_errors_apart(w**2, theirs**2)) < 4.5
  np.testing.assert_allclose(moments[0], 0, atol=1e-5)
  np.testing.assert_allclose((w**2).mean(0), moments[1], rtol=0.25, atol=0.02)


def test_sign_vectors_list_each_once():
  prior = f.sign_vectors(6).priors[0][1]
  assert len({tuple(row) for row in np.asarray(prior.weights).tolist()}) == 2**6
  assert set(np.unique(prior.weights)) == {-1.0, 1.0}
  np.testing.assert_allclose(np.exp(prior.log_weight).sum(), 1, atol=1e-5)


def test_a_pool_holds_so_many_functions_and_is_a_function_of_its_seed():
  draws = lambda seed: many(f.functions(task_pool(f.dense(3), 4, seed), 1), 2000).info['function']
  first, again, other = draws(0), draws(0), draws(1)
  tasks, numbers = np.unique(first, axis=0, return_inverse=True)
  assert len(tasks) == 4
  assert equally_likely(numbers, 4) > SMALLEST_P
  np.testing.assert_array_equal(first, again)
  assert not np.isin(other, first).any()
  larger = many(f.functions(task_pool(f.dense(3), 8), 1), 2000).info['function']
  assert set(map(tuple, tasks)) <= set(map(tuple, larger))  # a larger pool holds the smaller


def test_a_pool_of_traced_size_is_the_pool_of_that_size():
  keys = jax.random.split(jax.random.key(0), 50)
  draws = lambda n: jax.vmap(f.functions(task_pool(f.dense(3), n), 1))(keys).info['function']
  np.testing.assert_allclose(jax.jit(draws)(5), jax.jit(lambda: draws(5))(), rtol=1e-6)
  x, y = np.ones((2, 3), np.float32), np.ones((2, 1), np.float32)

  def mean(n, **options):
    reference = bayes(task_pool(f.dense(3), n, **options), 0.5)
    return reference.predict(reference.adapt(jax.random.key(0), {}, Examples(x, y)), x)

  traced = jax.jit(lambda n: mean(n, most=9))(5)
  np.testing.assert_allclose(traced, jax.jit(lambda: mean(5))(), rtol=1e-5)
  assert task_pool(f.dense(3), 2**31 - 1).priors is None  # and nothing of that size is made


def test_noise_is_on_support_and_query_and_not_on_what_is_clean():
  episodes = many(f.functions(f.dense(3), 2, 3, noise=0.5), 3000)
  w = episodes.info['function'][..., None]
  for part in episodes[:2]:
    error = part.y - part.x @ w
    assert abs(error.std() - 0.5) < 0.02
    assert abs(error.mean()) < 0.03
  np.testing.assert_allclose(episodes.info['clean'], episodes.query.x @ w, atol=1e-5)


@pytest.mark.slow  # tests/learners/test_bayes.py weighs them
def test_mixed_classes_are_drawn_in_proportion():
  both = mix_classes([f.dense(3), f.sign_vectors(3)], [1, 3])
  episodes = many(f.functions(both, 2), 4000)
  component = episodes.info['function']['component']
  assert abs(component.mean() - 0.75) < 4 * np.sqrt(0.75 * 0.25 / 4000)
  signs = episodes.info['function']['each'][1][component == 1]
  np.testing.assert_allclose(
    episodes.query.y[component == 1][:, 0, 0],
    np.einsum('ni,ni->n', signs, episodes.query.x[component == 1][:, 0]),
    atol=1e-5,
  )


def test_truncated_inputs_are_0_and_do_not_reach_y():
  sampler = lambda n: f.functions(truncate_inputs(f.dense(5), n), 4)
  episode = jax.jit(lambda n: sampler(n)(jax.random.key(0)))(3)  # a traced number
  assert (np.asarray(episode.support.x)[:, 3:] == 0).all()
  assert (np.asarray(episode.support.x)[:, :3] != 0).all()
  w = np.asarray(episode.info['function'])
  np.testing.assert_allclose(
    episode.support.y[:, 0], np.asarray(episode.support.x)[:, :3] @ w[:3], atol=1e-5
  )


@pytest.mark.parametrize(
  ('make', 'named'),
  [
    (lambda: f.sparse(3, 4), 'nonzeros=4 exceeds dim=3'),
    (lambda: f.low_rank(3, 4), 'rank=4 exceeds size=3'),
    (lambda: f.monomials(3, 7), 'number=7 exceeds the 6 monomials'),
    (lambda: f.haar(-1), 'levels=-1'),
    (lambda: f.gaussian_process(0.0), 'length_scale=0.0'),
    (lambda: task_pool(f.dense(), 2**31), 'exceeds the index of a pool'),
    (lambda: task_pool(f.dense(), 0), 'tasks=0'),
    (lambda: task_pool(f.dense(), np.int64(2**40)), 'exceeds the index of a pool'),
    (lambda: f.fourier(half_period=-5.0), 'half_period=-5.0'),
    (lambda: f.gaussian_mixture(distance=float('nan')), 'distance=nan'),
    (lambda: mix_classes([f.dense()], [float('inf')]), 'weights'),
    (lambda: mix_classes([f.dense(2), f.dense(4)]), 'dense 2, dense 4'),
    (lambda: task_pool(f.decision_trees(), 4), 'decision_trees'),
    (lambda: task_pool(f.gaussian_process(), 4), 'gaussian_process are no vectors'),
    (lambda: task_pool(mix_classes([f.dense(2)]), 4), 'dense are no vectors'),
    (lambda: mix_classes([f.dense(2), f.sparse(4)]), 'dense 2, sparse 4'),
    (lambda: mix_classes([f.dense()], [0]), r'weights=\[0\]'),
    (lambda: mix_classes([]), 'weights=None for 0 classes'),
  ],
)
def test_what_makes_no_sense_is_refused(make, named):
  with pytest.raises(ValueError, match=named):
    make()
