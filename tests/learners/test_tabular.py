"""The tabular learner: what it reads of a table, its network in NumPy, orders and padding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metakit.densities import gaussian, objective_of
from metakit.learners.tabular import LOWEST, cells_of, columns_of, tabular, targets_of
from metakit.models import Cells
from metakit.networks.two_way import two_way
from metakit.objectives import cross_entropy, squared_error
from metakit.types import Episode, Examples

KEY = jax.random.key(0)
ROWS, COLUMNS, WAYS, ASKED = 7, 4, 3, 5
SIZES = {'width': 8, 'depth': 2, 'heads': 2, 'hidden': 12}


def table(seed=0):
  """A table with a missing cell in the support and one in the query."""
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(ROWS + ASKED, COLUMNS)).astype('f')
  x[1, 2] = x[ROWS + 1, 0] = np.nan
  y = (np.arange(ROWS + ASKED) % WAYS).astype(np.int32)
  return Episode(Examples(x[:ROWS], y[:ROWS], np.ones(ROWS, 'f')), Examples(x[ROWS:], y[ROWS:]))


def random_params(learner, episode):
  shapes = jax.eval_shape(learner.init, KEY, episode)
  rng = np.random.default_rng(0)
  return jax.tree.map(lambda leaf: 0.5 * rng.normal(size=leaf.shape).astype('f'), shapes)


@functools.partial(jax.jit, static_argnums=0)
def run(learner, params, support, x):
  return learner.predict(learner.adapt(KEY, params, support), x)


def answers(learner, params, support, x):
  return np.asarray(run(learner, params, support, x))


@functools.cache
def given(ways=WAYS):
  learner = tabular(ways, **SIZES)
  return learner, random_params(learner, table())


@functools.cache
def known():
  learner, params = given()
  return answers(learner, params, table().support, table().query.x)


@jax.jit
def read(support, x):
  """What a network reads of a table, and of cells x."""
  columns, targets = columns_of(support), targets_of(support, WAYS, cross_entropy)
  return columns, targets, cells_of(columns, x, clip=10.0)


def test_cells_are_values_ranks_and_gaps_of_their_column_in_the_support():
  x = np.array([[1.0, 5.0, 0], [3.0, 5.0, 1], [np.nan, 5.0, np.inf], [8.0, 5.0, -1]], 'f')
  weight = np.array([1, 1, 1, 0], 'f')
  asked = np.array([[2.0, 9.0, -np.inf], [3.0, 5.0, 1e30]], 'f')
  columns, _, cells = read(Examples(x, np.zeros(4, np.int32), weight), asked)
  assert columns.informative.tolist() == [True, False, True]  # a constant says nothing
  np.testing.assert_allclose(cells[0, 0], [0, 0, 0], atol=1e-6)
  np.testing.assert_allclose(cells[1, 0], [1, 0.5, 0], atol=1e-6)  # above one of two, and a tie
  np.testing.assert_allclose(cells[:, 2], [[0, 0, 1], [10, 1, 0]], atol=1e-6)
  np.testing.assert_allclose(cells[:, 1], [[0, 1, 0], [0, 0, 0]], atol=1e-6)


def test_values_of_any_size_are_normalised():
  x = np.array([[1e30], [-1e30], [0], [7]], 'f') * np.array([1, 1e-60, 1e-30])
  support = Examples(x.astype('f'), np.zeros(4, np.int32), np.array([1, 1, 1, 0], 'f'))
  value = read(support, support.x[:2])[2][..., 0]
  np.testing.assert_allclose(value[:, [0, 2]], 1.5**0.5 * np.array([[1, 1], [-1, -1]]), rtol=1e-5)


def norm(x, params):
  away = x - x.mean(-1, keepdims=True)
  scale = 1 / np.sqrt(np.square(away).mean(-1, keepdims=True) + 1e-6)
  return away * scale * params['scale'] + params['bias']


def gelu(x):
  return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def dense(x, params):
  return x @ params['kernel'] + params['bias']


def attended(asked, read, params, name):
  """Each of some cells [asked, width] sees others [read, width], one head after the other."""
  queries, keys = params[f'{name}_queries'], params[f'{name}_keys']
  total = np.zeros_like(asked)
  for head in range(SIZES['heads']):
    q = asked @ queries['kernel'][:, head] + queries['bias'][head]
    k, v = (read @ keys['kernel'][:, i, head] + keys['bias'][i, head] for i in (0, 1))
    scores = np.exp(q @ k.T / np.sqrt(q.shape[1]))
    mean = scores @ v / scores.sum(1, keepdims=True)
    total += mean @ params[f'{name}_outputs']['kernel'][head]
  return total + params[f'{name}_outputs']['bias']


def in_numpy(params, features, targets, read, kind):
  """The network on all rows at once, of which the first `read` are the support."""
  params = params['params']
  x = np.concatenate([dense(features, params['features']), dense(targets, params['targets'])], 1)
  for layer in range(SIZES['depth']):
    p = params[f'block_{layer}']
    before = lambda x, name: norm(x, p[name]) if kind == 'pre' else x  # noqa: B023
    after = lambda x, name: norm(x, p[name]) if kind == 'post' else x  # noqa: B023
    z = before(x, 'column_norm')
    x = after(x + np.stack([attended(row, row, p, 'column') for row in z]), 'column_norm')
    z = before(x, 'row_norm').swapaxes(0, 1)
    seen = np.stack([attended(column, column[:read], p, 'row') for column in z])
    x = after(x + seen.swapaxes(0, 1), 'row_norm')
    x = after(x + dense(gelu(dense(before(x, 'norm'), p['hidden'])), p['outputs']), 'norm')
  x = x[read:, -targets.shape[1] :]
  x = norm(x, params['norm']) if kind == 'pre' else x
  return dense(gelu(dense(x, params['hidden'])), params['outputs'])[..., 0]


@pytest.mark.parametrize('kind', ['post', pytest.param('pre', marks=pytest.mark.slow)])
def test_predictions_from_the_cache_are_those_of_all_cells_in_numpy(kind):
  learner, (support, query, _) = tabular(WAYS, norm=kind, **SIZES), table()
  params = random_params(learner, table())
  _, targets, features = read(support, np.concatenate([support.x, query.x]))
  share, asked = np.asarray(targets.mean), np.arange(ROWS + ASKED) >= ROWS
  shown = np.where(asked[:, None], 0, np.pad(targets.values, [(0, ASKED), (0, 0)]) - share)
  shown = np.stack([shown, share + 0 * shown, asked[:, None] + 0 * shown], -1)
  wide = jax.tree.map(lambda leaf: np.asarray(leaf, float), (params, features, shown))
  expected = in_numpy(*wide, ROWS, kind)
  found = known() if kind == 'post' else answers(learner, params, support, query.x)
  np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_the_order_of_columns_does_not_matter():
  learner, params = given()
  (support, query, _), order = table(), np.array([2, 0, 3, 1])
  found = answers(learner, params, support._replace(x=support.x[:, order]), query.x[:, order])
  np.testing.assert_allclose(found, known(), atol=1e-5)


def test_padding_of_rows_columns_and_classes_changes_nothing():
  """Rows of weight 0, columns without a value, classes that do not occur."""
  (support, query, _), params = table(), given()[1]
  wider = lambda x: np.pad(x, [(0, 0), (1, 2)], constant_values=np.nan)
  x = np.pad(wider(support.x), [(2, 1), (0, 0)], constant_values=np.nan)
  weight = np.pad(np.ones(ROWS, 'f'), (2, 1))
  padded = Examples(x, np.pad(support.y, (2, 1)), weight)
  found = answers(given(WAYS + 2)[0], params, padded, wider(query.x))
  np.testing.assert_allclose(found[:, :WAYS], known(), atol=1e-5)
  assert (found[:, WAYS:] == LOWEST).all()


def test_one_class_has_all_probability_and_no_rows_are_no_knowledge():
  learner, params = given()
  support, query, _ = table()
  alone = answers(learner, params, support._replace(y=np.ones_like(support.y)), query.x)
  assert (alone[:, [0, 2]] == LOWEST).all() and (np.abs(alone[:, 1]) < 1e3).all()
  none = answers(learner, params, support._replace(weight=np.zeros(ROWS, 'f')), query.x)
  assert np.isfinite(none).all() and (none == none[0]).all()


def test_a_regression_predicts_in_the_units_of_its_targets():
  learner, (support, query, _) = tabular(2, objective=squared_error, **SIZES), table()
  y = np.random.default_rng(3).normal(size=(ROWS, 2)).astype('f')
  episode = Episode(support._replace(y=y), query._replace(y=y[:ASKED]))
  params, scale = random_params(learner, episode), np.array([100.0, 0.1], 'f')
  first = answers(learner, params, support._replace(y=y), query.x)
  second = answers(learner, params, support._replace(y=scale * y + 7), query.x)
  np.testing.assert_allclose(second, scale * first + 7, rtol=1e-3, atol=1e-3)
  with pytest.raises(ValueError, match='num_outputs=2'):
    learner.init(KEY, table()._replace(support=support._replace(y=y[:, :1])))


def test_a_density_has_its_parameters_for_each_target():
  learner, (support, query, _) = tabular(2, objective=objective_of(gaussian()), **SIZES), table()
  y = np.zeros((ROWS, 2), 'f')
  params = jax.eval_shape(learner.init, KEY, Episode(support._replace(y=y), query))
  fitted = jax.eval_shape(learner.adapt, KEY, params, support._replace(y=y))
  assert jax.eval_shape(learner.predict, fitted, query.x).shape == (ASKED, 4)


@pytest.mark.parametrize(
  'option', [{'attention': 'fused'}, pytest.param({'remat': True}, marks=pytest.mark.slow)]
)
def test_other_ways_to_compute_change_nothing(option):
  """Neither predictions nor the gradient."""
  params = random_params(tabular(WAYS, **{**SIZES, 'depth': 1}), table())

  def judged(learner, params):
    loss = lambda params: learner.loss(KEY, params, table())[0]
    return jax.value_and_grad(loss)(params)

  one = {**SIZES, 'depth': 1}
  forms = tabular(WAYS, **one), tabular(WAYS, **one, **option)
  ours, theirs = jax.jit(lambda params: [judged(each, params) for each in forms])(params)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, theirs)


def test_on_a_gpu_half_precision_is_the_kernel_of_cudnn(monkeypatch):
  checks = 'jax._src.cudnn.fused_attention_stablehlo'
  monkeypatch.setattr('jax.default_backend', lambda: 'gpu')
  monkeypatch.setattr(f'{checks}.check_cudnn_version', lambda: 91000)
  monkeypatch.setattr(f'{checks}.check_compute_capability', lambda least: True)
  monkeypatch.setattr(f'{checks}.is_cuda_compute_capability_equal', lambda given: False)
  learner = tabular(WAYS, width=16, depth=2, heads=2, attention='fused', dtype='bfloat16')
  params = jax.eval_shape(learner.init, KEY, table())
  loss = lambda params: learner.loss(KEY, params, table())[0]
  traced = jax.jit(jax.grad(loss)).trace(params)
  lowered = traced.lower(lowering_platforms=('cuda',)).as_text()
  assert lowered.count('__cudnn$fmhaScaleBiasSoftmax(') > 3
  assert '__cudnn$fmhaScaleBiasSoftmaxBackward' in lowered


@pytest.mark.parametrize(
  ('name', 'value'),
  [('width', 0), ('heads', 3), ('attention', 'set'), ('norm', 'none'), ('clip', 0.0)],
)
def test_options_without_sense_are_refused_by_name(name, value):
  with pytest.raises(ValueError, match=name):
    tabular(WAYS, **{**SIZES, name: value})


def test_targets_have_equal_numbers_of_outputs():
  cells = Cells(jnp.ones((2, 1, 3)), jnp.ones((2, 3, 3)), jnp.ones(4, bool), jnp.ones(2, bool))
  with pytest.raises(ValueError, match='num_outputs=4'):
    two_way(num_outputs=4, **SIZES).init(KEY, cells)
