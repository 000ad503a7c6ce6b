"""Estimators of tables: scikit-learn's checks, all kinds of cells, and tables of any size."""

import pickle
import warnings

import jax
import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import check_estimator, estimator_checks_generator

import metakit
from metakit.estimators import TabularClassifier, TabularRegressor
from metakit.estimators.codes import decode, draw_codes
from metakit.estimators.views import bags, informative, some_rows
from metakit.keys import fixed_key, learner_key
from tests.kernel_learner import INPUTS, trained
from tests.trained.test_trained import made

LEARNER, REGRESSION = trained(), trained(False)
CHECKS = {
  (type(estimator).__name__, check.func.__name__): (estimator, check)
  for made_of in (TabularClassifier(LEARNER), TabularRegressor(REGRESSION))
  for estimator, check in estimator_checks_generator(made_of)
}
QUICK = (
  'check_dtype_object',
  'check_estimators_unfitted',
  'check_methods_subset_invariance',
  'check_n_features_in_after_fitting',
  'check_parameters_default_constructible',
  'check_supervised_y_2d',
)


@pytest.mark.parametrize('name', QUICK)
@pytest.mark.parametrize('of', ['TabularClassifier', 'TabularRegressor'])
def test_scikit_learn_finds_nothing_wrong(of, name):
  estimator, check = CHECKS[of, name]
  check(estimator)


@pytest.mark.slow
@pytest.mark.parametrize('estimator', [TabularClassifier(LEARNER), TabularRegressor(REGRESSION)])
def test_all_checks_of_scikit_learn_pass(estimator):
  results = check_estimator(estimator, on_skip=None)
  skipped = {result['check_name'] for result in results if result['status'] == 'skipped'}
  assert skipped <= {'check_array_api_input'}  # needs a variable of the environment
  assert len(results) > 45


RNG = np.random.default_rng(0)
ROWS = 60
NUMBER = np.arange(ROWS) % 3
X = RNG.normal(size=(ROWS, 3)) + 4 * np.eye(3)[NUMBER]
Y = np.array(['ant', 'bee', 'cow'])[NUMBER]
TARGET = 3 * X[:, 0] - X[:, 1] ** 2


def frame():
  """One column of each kind."""
  kinds = np.array(['up', 'down', 'left'], object)[NUMBER]
  kinds[7] = None
  sizes = pd.Categorical(np.array(['S', 'M', 'L'])[NUMBER], ['S', 'M', 'L'], ordered=True)
  return pd.DataFrame(
    {
      'number': np.where(np.arange(ROWS) % 9, X[:, 0], np.nan),
      'text of a number': [f' {value:.3f}' for value in X[:, 1]],
      'kind': kinds,
      'size': sizes,
      'truth': NUMBER == 1,
      'perhaps': pd.array(NUMBER == 2, 'boolean').copy(),
      'count': pd.array([None, *NUMBER[1:]], 'Int64'),
      'day': pd.Timestamp('2020-02-01') + pd.to_timedelta(NUMBER, unit='D'),
      'constant': 'same',
      'nothing': None,
    }
  )


def test_cells_of_a_frame_are_the_numbers_that_they_stand_for():
  numbers = np.full((ROWS, 10), np.nan)
  numbers[:, 0] = np.where(np.arange(ROWS) % 9, X[:, 0], np.nan)
  numbers[:, 1] = X[:, 1].round(3)
  numbers[:, 2] = np.where(np.arange(ROWS) == 7, np.nan, np.array([2, 0, 1])[NUMBER])
  numbers[:, 3], numbers[:, 4], numbers[:, 5] = NUMBER, NUMBER == 1, NUMBER == 2
  numbers[1:, 6], numbers[:, 7], numbers[:, 8] = NUMBER[1:], NUMBER, 0
  of_frame = TabularClassifier(LEARNER).fit(frame(), Y)
  of_numbers = TabularClassifier(LEARNER).fit(numbers, Y)
  (vote,) = of_frame.votes_
  assert vote.views[0].columns.tolist() == [*range(8)]  # two say nothing
  expected = of_numbers.predict_proba(numbers)
  np.testing.assert_allclose(of_frame.predict_proba(frame()), expected, atol=1e-6)
  cells = TabularClassifier(LEARNER).fit(frame().to_numpy(), Y)  # [rows, columns] of objects
  assert np.abs(cells.predict_proba(frame().to_numpy()) - expected).max() < 0.2  # S, M, L: by text
  assert of_frame.feature_names_in_.tolist() == list(frame())


def test_named_columns_are_found_in_any_order_and_others_are_named():
  table = frame()
  fitted = TabularClassifier(LEARNER).fit(table, Y)
  expected = fitted.predict_proba(table)
  np.testing.assert_array_equal(fitted.predict_proba(table[list(table)[::-1]]), expected)
  with pytest.raises(ValueError, match="X lacks column 'kind'; it was fitted to 'number'"):
    fitted.predict(table.drop(columns='kind'))
  with pytest.raises(ValueError, match="X has another column 'more'; it was fitted to"):
    fitted.predict(table.assign(more=1))
  with pytest.raises(ValueError, match="row 3 of column 'number' holds 'x', which is no number"):
    fitted.predict(table.assign(number=['1', '2', '3', 'x', *['5'] * 56]))
  with pytest.raises(ValueError, match=r'two columns of X are named .kind.'):
    TabularClassifier(LEARNER).fit(pd.concat([table, table[['kind']]], axis=1), Y)


def test_a_category_that_was_never_seen_is_a_missing_cell():
  table = frame()
  fitted = TabularClassifier(LEARNER).fit(table, Y)
  missing = fitted.predict_proba(table.assign(kind=None))
  np.testing.assert_array_equal(fitted.predict_proba(table.assign(kind='never')), missing)


def test_constant_columns_change_nothing():
  more = np.column_stack([np.full(ROWS, 7.0), X, np.full(ROWS, np.nan)])
  expected = TabularRegressor(REGRESSION).fit(X, TARGET).predict(X)
  found = TabularRegressor(REGRESSION).fit(more, TARGET)
  np.testing.assert_array_equal(
    found.predict(more + 1), found.predict(more + np.array([0, 1, 1, 1, 0]))
  )
  np.testing.assert_allclose(found.predict(more), expected, atol=1e-5)
  assert informative(np.array([[np.nan, 1, 2], [3, 1, np.nan], [3, 1, 2]])).tolist() == [0, 2]
  alone = TabularClassifier(LEARNER).fit(np.ones((4, 2)), [0, 1, 1, 1])  # nothing but the shares
  np.testing.assert_allclose(alone.predict_proba(np.zeros((2, 2))), [[0.25, 0.75]] * 2, atol=1e-3)


def test_one_class_or_one_target_is_what_is_predicted():
  one = TabularClassifier(LEARNER).fit(X, ['ant'] * ROWS)
  assert set(one.predict(X)) == {'ant'} and (one.predict_proba(X) == 1).all()
  constant = TabularRegressor(REGRESSION).fit(X, np.full(ROWS, 2.5))
  assert (constant.predict(X) == 2.5).all()
  assert (constant.predict_quantiles(X, [0.1, 0.9]) == np.full((ROWS, 2), 2.5)).all()


def direct(learner, x, y, queries):
  """The learner's outputs without padding, for numbers of mean 0 and deviation 1."""
  of = learner.learner
  support = metakit.Examples(x.astype(np.float32), y)
  fitted = of.adapt(learner_key(fixed_key(0), 0), learner.params, support)
  return np.asarray(of.predict(fitted, queries.astype(np.float32)))


def test_padding_and_scaling_change_nothing():
  scaled = (X - X.mean(0)) / X.std(0)
  fitted, x = TabularClassifier(LEARNER).fit(1e3 * X + 1e9, Y), 1e3 * X + 1e9
  likely = fitted.predict_proba(x)
  np.testing.assert_array_equal(fitted.predict_proba(x[::3]), likely[::3])  # of one class alone
  logits = direct(LEARNER, scaled, NUMBER.astype(np.int32), scaled)[:, :3]
  np.testing.assert_allclose(likely, jax.nn.softmax(logits), atol=1e-4)
  target = ((TARGET - TARGET.mean()) / TARGET.std())[:, None].astype(np.float32)
  outputs = direct(REGRESSION, scaled, target, scaled)
  found = TabularRegressor(REGRESSION).fit(X, TARGET).predict(X)
  np.testing.assert_allclose(found, outputs[:, 0] * TARGET.std() + TARGET.mean(), atol=1e-4)


def test_quantiles_are_those_of_the_predicted_density_in_units_of_the_target():
  levels = [0.05, 0.5, 0.8]
  fitted = TabularRegressor(REGRESSION).fit(X, 1e3 * TARGET + 1e7)
  found = fitted.predict_quantiles(X, levels)
  median = fitted.predict(X)
  deviation = (found[:, 2] - median) / norm.ppf(0.8)
  assert found.shape == (ROWS, 3) and (deviation > 0).all()
  expected = median[:, None] + deviation[:, None] * norm.ppf(levels)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2)
  np.testing.assert_array_equal(fitted.predict_quantiles(X, 0.5), found[:, 1:2])
  for wrong in ([0.0, 0.5], [1.0], [np.nan], [-0.1], 2):
    with pytest.raises(ValueError, match='are no probabilities between 0 and 1'):
      fitted.predict_quantiles(X, wrong)
  point = trained(False, family=None)
  with pytest.raises(ValueError, match='predicts numbers alone'):
    TabularRegressor(point).fit(X, TARGET).predict_quantiles(X, 0.5)


def test_views_of_other_orders_say_the_same_and_are_averaged():
  """Every second view has ranks; the others are the same to this learner, which has no orders."""
  fitted = TabularClassifier(LEARNER, ensemble=4).fit(X, Y)
  codes = [vote.codes[0].tolist() for vote in fitted.votes_]
  assert codes[0] == [0, 1, 2] and len({tuple(code) for code in codes}) > 1
  columns = [vote.views[0].columns.tolist() for vote in fitted.votes_]
  assert columns[0] == [0, 1, 2] and len({tuple(each) for each in columns}) > 1
  each = []
  for number in range(4):
    alone = clone(fitted).fit(X, Y)
    alone.votes_ = alone.votes_[number : number + 1]
    each.append(alone.predict_proba(X))
  np.testing.assert_allclose(each[0], each[2], atol=1e-5)
  np.testing.assert_allclose(each[1], each[3], atol=1e-5)
  assert np.abs(each[0] - each[1]).max() > 1e-3
  np.testing.assert_allclose(fitted.predict_proba(X), np.mean(each, 0), atol=1e-12)
  ranks = TabularRegressor(REGRESSION, ensemble=2).fit(np.exp(3 * X), TARGET).views_[1]
  np.testing.assert_allclose(
    ranks.outputs(np.exp(3 * X)),
    TabularRegressor(REGRESSION, ensemble=2).fit(X, TARGET).views_[1].outputs(X),
    atol=1e-4,
  )


def test_more_classes_than_outputs_are_told_apart_by_codes():
  generator = np.random.default_rng(1)
  y = np.arange(120) % 12
  x = generator.normal(size=(12, 3))[y] * 5 + generator.normal(size=(120, 3)) * 0.1
  few = trained(outputs=4)
  with pytest.warns(UserWarning, match='12 classes, told apart by codes of 4'):
    fitted = TabularClassifier(few).fit(x[:60], y[:60])
  assert fitted.predict(x[60:]).tolist() == y[60:].tolist()
  np.testing.assert_allclose(fitted.predict_proba(x[60:]).sum(1), 1)
  assert fitted.votes_[0].codes.max() == 3


def test_codes_name_each_class_and_probabilities_are_found_again():
  generator = np.random.default_rng(2)
  for classes, symbols in ((11, 10), (30, 4), (200, 10), (9, 2)):
    codes = draw_codes(generator, classes, symbols)
    assert len({tuple(word) for word in codes.T}) == classes
    counts = [np.bincount(code, minlength=symbols) for code in codes]
    assert np.max(counts) - np.min(counts) <= 1
  codes = draw_codes(generator, 11, 10)
  p = generator.dirichlet(np.ones(11), size=5)
  sums = np.stack([p @ (code[:, None] == np.arange(10)) for code in codes])
  np.testing.assert_allclose(decode(codes, sums), p, atol=2e-2)


def test_more_columns_than_trained_for_are_seen_in_parts():
  wide = np.column_stack([X, RNG.normal(size=(ROWS, 9))])
  with pytest.warns(UserWarning, match='12 columns, of which each view has 5'):
    fitted = TabularClassifier(LEARNER, max_columns=5).fit(wide, Y)
  seen = [vote.views[0].columns for vote in fitted.votes_]
  assert [len(columns) for columns in seen] == [5, 5, 5] and set(np.concatenate(seen)) == {
    *range(12)
  }
  assert all(len({*columns}) == 5 for columns in seen)
  assert fitted.score(wide, Y) > 0.9


def test_parts_of_columns_come_equally_often():
  parts = bags(np.random.default_rng(0), np.arange(7), 3)
  drawn = [next(parts) for _ in range(14)]
  assert np.bincount(np.concatenate(drawn)).tolist() == [6] * 7
  assert all(len({*part}) == 3 for part in drawn)


def test_more_rows_than_trained_for_keep_their_shares():
  y = np.repeat(Y, 3)
  with pytest.warns(UserWarning, match='180 rows, of which each view has 30'):
    fitted = TabularClassifier(LEARNER, ensemble=2, max_rows=30).fit(np.repeat(X, 3, 0), y)
  assert fitted.score(X, Y) > 0.9
  labels = np.repeat([0, 1, 2], [70, 29, 1])
  kept = some_rows(np.random.default_rng(0), labels, rows=100, most=10)
  assert np.bincount(labels[kept]).tolist() == [6, 3, 1] and len({*kept}) == 10
  with pytest.warns(UserWarning, match='60 rows, of which each view has 30'):
    TabularRegressor(REGRESSION, max_rows=30).fit(X, TARGET)


def test_tables_of_thirty_shapes_take_few_programs():
  fresh = trained(_programs={})
  generator = np.random.default_rng(0)
  shapes = generator.integers((20, 1), (200, 11), size=(30, 2))
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    for rows, columns in shapes:
      x = generator.normal(size=(rows, columns))
      TabularClassifier(fresh).fit(x, np.arange(rows) % 2).predict_proba(x)
  (programs,) = fresh._programs.values()
  assert len({*map(tuple, shapes.tolist())}) == 30
  assert programs.adapt._cache_size() <= 10 and programs.predict._cache_size() <= 10


def test_an_estimator_is_pickled_cloned_and_cross_validated():
  for estimator, y in ((TabularClassifier(LEARNER), Y), (TabularRegressor(REGRESSION), TARGET)):
    fitted = estimator.fit(frame(), y)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict(frame()), fitted.predict(frame()))
    assert not hasattr(clone(fitted), 'columns_')
    assert cross_val_score(clone(fitted), X, y, cv=3, error_score='raise').min() > 0.4


def test_the_learner_of_tables_is_saved_and_takes_missing_cells(tmp_path):
  """As metakit.Trained, and as an estimator, with the same answers."""
  parts = metakit.trained.MadeOf('tabular:width=8,depth=1,heads=2', 'none', 10)
  inputs = INPUTS._replace(shape=(5,), missing=True, support=100)
  x = np.where(RNG.random((ROWS, 3)) < 0.2, np.nan, X)
  support = metakit.Examples(x.astype(np.float32), NUMBER.astype(np.int32))
  params = jax.jit(parts.make().init)(jax.random.key(0), metakit.Episode(support, support))
  untrained = trained(make=parts.make, params=jax.device_get(params), inputs=inputs, made_of=parts)
  metakit.save(tmp_path / 'it.safetensors', untrained)
  loaded = metakit.load(tmp_path / 'it.safetensors')
  assert loaded.inputs == inputs
  likely = loaded.adapt(x, Y).predict_proba(x)
  assert likely.shape == (ROWS, 3) and likely.std(0).min() > 1e-4
  fitted = TabularClassifier(tmp_path / 'it.safetensors').fit(x, Y)
  np.testing.assert_allclose(fitted.predict_proba(x), likely, atol=1e-5)
  with pytest.raises(ValueError, match='on vectors of at most 5 numbers; give those, or use'):
    loaded.adapt(np.ones((4, 6)), [0, 1, 0, 1])
  with pytest.raises(ValueError, match='example 1 of x holds infinity'):
    loaded.adapt([[0.0], [np.inf]], [0, 1])


def table(**cells):
  return frame().assign(**cells)


MISTAKES = {
  "learner='no': no is no workdir.*; known names: ": (TabularClassifier('no'), X, Y),
  'learner is int; give a path, a name of the zoo': (TabularClassifier(3), X, Y),
  'ensemble=0 is no positive integer': (TabularClassifier(LEARNER, ensemble=0), X, Y),
  'max_rows=-1 is no positive': (TabularClassifier(LEARNER, max_rows=-1), X, Y),
  'predicts numbers; use TabularRegressor': (TabularClassifier(REGRESSION), X, Y),
  'classifies; use TabularClassifier': (TabularRegressor(LEARNER), X, TARGET),
  r'examples of shape \(8, 8, 1\)': (TabularClassifier(made('prototypical')), X, Y),
  'Unknown label type: continuous': (TabularClassifier(LEARNER), X, TARGET),
  'Input y contains NaN': (TabularClassifier(LEARNER), X, np.where(NUMBER, NUMBER, np.nan)),
  'y contains NaN': (TabularRegressor(REGRESSION), X, np.where(NUMBER, TARGET, np.nan)),
  'Input y contains infinity': (TabularRegressor(REGRESSION), X, np.where(NUMBER, TARGET, np.inf)),
  'targets are <U3; give numbers, or use': (TabularRegressor(REGRESSION), X, Y),
  'targets are no numbers .*; use': (TabularRegressor(REGRESSION), X, Y.astype(object)),
  'inconsistent numbers of samples': (TabularClassifier(LEARNER), X, Y[:5]),
  'requires y to be passed': (TabularClassifier(LEARNER), X, None),
  'y should be a 1d array': (TabularRegressor(REGRESSION), X, X),
  r'0 sample\(s\)': (TabularClassifier(LEARNER), frame()[:0], Y[:0]),
  r'0 feature\(s\)': (TabularClassifier(LEARNER), frame()[[]], Y),
  'infinity or a value too large': (TabularClassifier(LEARNER), table(number=np.inf), Y),
  "row 0 of column 'kind' holds dict; the argument": (
    TabularClassifier(LEARNER),
    table(kind=[{}] * ROWS),
    Y,
  ),
}


@pytest.mark.parametrize('said', MISTAKES)
def test_a_mistake_is_named_in_one_line(said):
  estimator, x, y = MISTAKES[said]
  with pytest.raises((ValueError, TypeError), match=said) as error:
    estimator.fit(x, y)
  assert '\n' not in str(error.value)


@pytest.mark.skipif('tabular-classifier' in metakit.zoo.names(), reason='it is there')
def test_weights_that_are_not_there_are_one_error():
  with pytest.raises(ValueError, match=r"learner='tabular-classifier': .* no name of the zoo"):
    TabularClassifier().fit(X, Y)


assert INPUTS.shape == (10,)
