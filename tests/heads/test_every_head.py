"""Laws that hold for every head, of features of any kind; tests/heads/judged.py computes them."""

import jax
import numpy as np
import pytest

from metakit.heads.common import ABSENT
from metakit.types import Examples
from tests.heads.judged import (
  COUNTED,
  EVERY,
  EXACT,
  FAR_APART,
  SURE,
  answer,
  asked,
  assert_same_answers,
  double,
  in_float32,
  judge,
  single,
)
from tests.heads.made import blobs

TASKWIDE = {'soft_kmeans'}  # what examples without a label are for
# These decide by the last bit of a sum, or by the random weights that they start from.
TOSSES_A_COIN = {'baseline', 'transductive_tuning'}
# Their programs are slow to compile. Of pt_map test_transductive.py and test_transport.py ask, of
# logistic test_closed_form.py, and alpha_tim descends as tim does. A new head is quick.
SLOW = ('pt_map', 'alpha_tim', 'logistic')
# Distances, a system, variances and covariances, a graph, a descent. The values of all in float64
# are quick in test_closed_form.py, test_metric.py and test_transductive.py.
IN_FLOAT64 = ('prototypes', 'ridge', 'naive_bayes', 'mahalanobis', 'slk', 'tim')
# Of two ways to leave a class out: a system, and assignments.
SLOPES = ('ridge', 'soft_kmeans')


def slow_if(condition, names=EVERY):
  marks = lambda name: [pytest.mark.slow] if condition(name) else []
  return pytest.mark.parametrize('name', [pytest.param(n, marks=marks(n)) for n in names])


def each_head(names=EVERY):
  return slow_if(lambda name: name in SLOW, names)


every_head = each_head()


def assert_same(found, expected):
  """Of outputs and losses."""
  size = np.abs(expected[0]).max()
  np.testing.assert_allclose(found[0], expected[0], rtol=2e-3, atol=2e-3 * size)
  assert found[1] == pytest.approx(expected[1], rel=2e-3)


def assert_undecided(outputs, name):
  assert np.isfinite(outputs).all()
  if name not in TOSSES_A_COIN:
    tolerance = 1e-6 + 1e-2 * np.abs(outputs).max()
    np.testing.assert_allclose(outputs, outputs[:, :1] * np.ones(3), atol=tolerance)


@each_head(sorted(set(EVERY) - TASKWIDE))
def test_an_example_without_a_label_is_as_none(name):
  """In predictions and in the training loss."""
  says = lambda found: (found['outputs'][:, :3], float(found['loss']))
  assert_same(says(single(name)['unlabelled']), says(single(name)['plain']))


@each_head(sorted(set(EVERY) - {'baseline'}))
def test_one_example_of_one_class_is_enough(name):
  """And its class is predicted however far the query is: the others have no support."""
  outputs, loss = (single(name)['one example'][part] for part in ('outputs', 'loss'))
  assert np.isfinite(outputs).all() and np.isfinite(loss)
  assert (outputs.argmax(1) == 0).all()


@every_head
def test_identical_examples_give_numbers(name):
  """Singular systems, no variance, distances of zero: the answer is finite, and undecided."""
  if name in ('alpha_tim', 'slk'):  # ties are broken by the rows that are absent too
    same = (in_float32(part._replace(x=np.ones_like(part.x))) for part in blobs()[:2])
    assert_undecided(asked(name, *same)[0], name)
  else:
    assert_undecided(single(name)['identical']['outputs'][:, :3], name)


# A head of each kind, but for those of SLOW, which take numbers of rows as baseline and tim do.
# tests/learners/test_laws.py says of all that an absent row is as none.
OF_FEW_ROWS = (
  *('prototypes', 'feat', 'ridge', 'svm', 'baseline', 'naive_bayes', 'mahalanobis'),
  *('soft_kmeans', 'slk', 'tim'),
)


@pytest.mark.slow
@pytest.mark.parametrize('name', OF_FEW_ROWS)
def test_supports_of_few_rows_are_as_those_with_rows_that_are_absent(name):
  """The three laws above, of arrays that hold what is there alone."""
  support, query = map(in_float32, blobs()[:2])
  more = 3 * np.random.default_rng(1).normal(size=(4, 5)).astype(np.float32)
  more = Examples(np.concatenate([support.x, more]), np.append(support.y, np.full(4, -1, np.int32)))
  if name not in TASKWIDE:
    assert_same(asked(name, more, query), asked(name, support, query))
  same = (part._replace(x=np.ones_like(part.x)) for part in (support, query))
  assert_undecided(asked(name, *same)[0], name)
  if name != 'baseline':
    one = Examples(np.full((1, 4), 3, np.float32), np.zeros(1, np.int32))
    two = Examples(np.array([[-1.0] * 4, [3.0] * 4], np.float32), np.zeros(2, np.int32))
    outputs, loss = asked(name, one, two)
    assert np.isfinite(loss) and (outputs.argmax(1) == 0).all()


@every_head
def test_a_class_without_support_leaves_gradients_numbers(name):
  """With respect to features of support and queries."""
  assert all(np.isfinite(leaf).all() and np.any(leaf) for leaf in single(name)['plain']['slopes'])


@each_head(SURE)
def test_gradients_are_finite_where_classes_are_far_apart(name):
  """Then every assignment is sure, and the squares of what is left are small."""
  found = [single(name)[variant][part] for variant in FAR_APART for part in ('loss', 'slopes')]
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


@slow_if(lambda name: name not in SLOPES, [n for n in EVERY if n == 'svm' or n not in COUNTED])
def test_a_class_without_support_leaves_the_gradients_of_the_others(name):
  """Those without it are computed in float64; learned heads may differ."""
  expected = double(name, judge, ('plain',))['plain']['slopes']
  for a, b in zip(single(name)['plain']['slopes'], expected, strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=2e-3 * np.abs(b).max())


@every_head
def test_absent_is_below_every_logit_of_a_class_with_support(name):
  outputs = single(name)['plain']['outputs']
  assert (outputs[:, 3] < outputs[:, :3].min()).all()
  assert (outputs[:, 3] <= ABSENT / 2).all() or name in ('paddle', 'slk', 'laplacian_shot')


@pytest.mark.parametrize('name', ['matching', 'prototypes', 'ridge', 'naive_bayes'])
def test_no_support_at_all_is_finite(name):
  assert np.isfinite(single(name)['no support']['outputs']).all()


@slow_if(lambda name: name not in IN_FLOAT64)
def test_a_head_says_what_it_says_in_float64(name):
  found, expected = (
    {variant: each[variant]['outputs'][:, :3] for variant in EXACT}
    for each in (single(name), double(name, answer, tuple(EXACT)))
  )
  assert_same_answers(found, expected)
