"""Estimators of scikit-learn: its own checks, and what a user does with them."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator, estimator_checks_generator

import metakit
from metakit.estimators import FewShotClassifier, FewShotRegressor, head_on_features
from tests.trained.test_trained import examples, made


def checks(learner):
  """{name: (estimator, check)} of scikit-learn."""
  generated = estimator_checks_generator(FewShotClassifier(learner))
  return {check.func.__name__: (estimator, check) for estimator, check in generated}


QUICK = (
  'check_estimators_pickle',
  'check_fit_check_is_fitted',
  'check_methods_subset_invariance',
  'check_n_features_in_after_fitting',
  'check_no_attributes_set_in_init',
  'check_supervised_y_2d',
)


@pytest.mark.parametrize('name', QUICK)
@pytest.mark.parametrize(
  'learner', ['discriminant', pytest.param('logistic', marks=pytest.mark.slow)]
)
def test_scikit_learn_finds_nothing_wrong(learner, name):
  """In closed form, and by a descent, whose every fit takes long."""
  estimator, check = checks(learner)[name]
  check(estimator)


@pytest.mark.slow
@pytest.mark.parametrize('learner', ['discriminant', 'ridge', 'prototypical', 'logistic'])
def test_all_checks_of_scikit_learn_pass(learner):
  results = check_estimator(FewShotClassifier(learner), on_skip=None)
  skipped = {result['check_name'] for result in results if result['status'] == 'skipped'}
  assert skipped <= {'check_array_api_input'}  # needs a variable of the environment
  assert len(results) > 50


RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 3)) + 4 * np.eye(3)[np.arange(24) % 3]
Y = np.array(['ant', 'bee', 'cow'])[np.arange(24) % 3]


def test_a_search_over_a_pipeline_compiles_each_head_once():
  steps = make_pipeline(StandardScaler(), FewShotClassifier())
  heads = ['discriminant:shrinkage=0.4', 'prototypical:temperature=2.0']  # of no other test
  head_on_features.cache_clear()
  search = GridSearchCV(steps, {'fewshotclassifier__learner': heads}, cv=4, error_score='raise')
  search.fit(X, Y)
  assert search.best_score_ > 0.9 and search.score(X, Y) > 0.9
  assert head_on_features.cache_info().currsize == 2
  for head in heads:
    (programs,) = head_on_features(head, 3, 3)._programs.values()
    assert programs.adapt._cache_size() == 1 and programs.predict._cache_size() <= 2


def test_probabilities_decisions_and_labels_agree():
  for classes in ('ant', 'bee'), ('ant', 'bee', 'cow'):
    chosen = np.isin(Y, classes)
    fitted = FewShotClassifier('prototypical').fit(X[chosen], Y[chosen])
    likely, decided = fitted.predict_proba(X), fitted.decision_function(X)
    assert fitted.classes_.tolist() == list(classes) == fitted.fitted_.classes.tolist()
    assert likely.shape == (24, len(classes))
    np.testing.assert_array_equal(fitted.classes_[likely.argmax(1)], fitted.predict(X))
    if len(classes) == 2:
      assert decided.shape == (24,)
      np.testing.assert_allclose(decided, np.log(likely[:, 1] / likely[:, 0]), rtol=1e-4)
    else:
      np.testing.assert_array_equal(decided.argmax(1), likely.argmax(1))


def test_what_is_learned_in_parts_is_what_is_learned_at_once():
  fitted = FewShotClassifier('prototypical').partial_fit(
    X[:8], Y[:8], classes=['ant', 'cow', 'bee']
  )
  fitted.partial_fit(X[8:], Y[8:])
  at_once = FewShotClassifier('prototypical').fit(X, Y)
  np.testing.assert_allclose(fitted.predict_proba(X), at_once.predict_proba(X), atol=1e-5)


def test_classes_may_come_later_or_be_announced():
  fitted = FewShotClassifier('prototypical').partial_fit(
    X[:1], Y[:1], classes=['ant', 'bee', 'eel']
  )
  assert set(fitted.predict(X)) == {'ant'} and fitted.predict_proba(X[:1]).tolist() == [[1, 0, 0]]
  fitted.partial_fit(X[1:2], ['bee']).partial_fit(X[2:3], Y[2:3])
  assert fitted.classes_.tolist() == ['ant', 'bee', 'cow', 'eel']
  assert fitted.predict(X[:3]).tolist() == Y[:3].tolist()
  assert (fitted.predict_proba(X)[:, 3] == 0).all()
  assert (fitted.decision_function(X)[:, 3] == -np.inf).all()
  with pytest.raises(ValueError, match="y holds 'cow', which is none of classes"):
    FewShotClassifier().partial_fit(X[:3], Y[:3], classes=['ant', 'bee'])


def test_pictures_are_taken_by_a_trained_learner_and_its_file(tmp_path):
  """The file is read once, and again when it was written anew."""
  trained, path = made('prototypical'), tmp_path / 'it.safetensors'
  metakit.save(path, trained)
  pictures, y = examples(trained.inputs, 12), np.arange(12) % 2
  scores = [
    cross_val_score(FewShotClassifier(learner), pictures, y, cv=3, error_score='raise')
    for learner in (trained, path, str(path))
  ]
  np.testing.assert_array_equal(scores, [scores[0]] * 3)
  of_file = FewShotClassifier(path).fit(list(pictures), y)
  assert of_file.fitted_.trained is FewShotClassifier(str(path)).fit(pictures, y).fitted_.trained
  other = made('maml')
  metakit.save(path, other)
  again = FewShotClassifier(path).fit(examples(other.inputs, 4), [0, 1, 0, 1])
  assert again.fitted_.trained.made_of == other.made_of


@pytest.mark.parametrize('name', ['prototypical', 'regression'])
def test_a_fitted_estimator_is_pickled_and_a_clone_is_unfitted(name):
  trained = made(name)
  x = examples(trained.inputs, 6)
  make, y = FewShotClassifier, np.arange(6) % 2
  if not trained.classifies:
    make, y = FewShotRegressor, x[:, :2]
  fitted = make(trained, seed=3).fit(x, y)
  again = pickle.loads(pickle.dumps(fitted))
  np.testing.assert_array_equal(again.predict(x), fitted.predict(x))
  np.testing.assert_array_equal(
    again.partial_fit(x, y).predict(x), fitted.partial_fit(x, y).predict(x)
  )
  other = clone(fitted)
  assert other.seed == 3 and not hasattr(other, 'fitted_')
  assert other.learner._programs is trained._programs  # nothing is compiled again


def test_a_regression_is_scored():
  trained = made('regression')
  x = examples(trained.inputs, 12)
  scores = cross_val_score(FewShotRegressor(trained), x, x[:, :2], cv=3, error_score='raise')
  expected = [
    trained.adapt(np.delete(x, part, 0), np.delete(x, part, 0)[:, :2]).predict(x[part])
    for part in np.arange(12).reshape(3, 4)
  ]
  variances = [
    np.square(x[part, :2] - x[part, :2].mean(0)).sum(0) for part in np.arange(12).reshape(3, 4)
  ]
  errors = [
    np.square(each - x[part, :2]).sum(0)
    for each, part in zip(expected, np.arange(12).reshape(3, 4), strict=True)
  ]
  np.testing.assert_allclose(scores, (1 - np.divide(errors, variances)).mean(1), rtol=1e-4)


MISTAKES = {
  "learner='no': no is no workdir.*; known heads: .*ridge": (FewShotClassifier, 'no', Y),
  'learner is int; give a head .*, a path, a name': (FewShotClassifier, 3, Y),
  'learner ridge has no argument .a.': (FewShotClassifier, 'ridge:a=1', Y),
  'head .feat. has to be trained first; give': (FewShotClassifier, 'feat', Y),
  'classifies; use FewShotClassifier': (FewShotRegressor, 'maml', np.ones(24)),
  'predicts numbers; use FewShotRegressor': (FewShotClassifier, 'regression', Y),
  'Unknown label type: continuous': (FewShotClassifier, 'ridge', X[:, 0]),
  'inconsistent numbers of samples': (FewShotClassifier, 'ridge', Y[:5]),
  'requires y to be passed': (FewShotClassifier, 'ridge', None),
}


@pytest.mark.parametrize('said', MISTAKES)
def test_a_mistake_is_named_in_one_line(said):
  make, learner, y = MISTAKES[said]
  learner = made(learner) if learner in ('maml', 'regression') else learner
  with pytest.raises(ValueError, match=said) as error:
    make(learner).fit(X, y)
  assert '\n' not in str(error.value)
