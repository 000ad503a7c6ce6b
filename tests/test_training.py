"""A training from Python: it stops anywhere, goes on with the same bits, and keeps no bad state."""

import jax
import numpy as np
import optax
import pytest

from metakit.checkpoint import checkpoints
from metakit.dispatch import make_dispatch
from metakit.divergence import NonFiniteLoss
from metakit.interruptions import Interruptions
from metakit.keys import roots
from metakit.training import Course, begin, saving, train_on
from tests import tiny

KEYS, RATE = roots(0), optax.adam(1e-2)
COURSE = Course(steps=7, steps_per_dispatch=2, save_every=3, validate_every=5)


@pytest.fixture(scope='module')
def parts():
  learner, source = tiny.learners()['mlp'], tiny.source()
  return learner, source, make_dispatch(learner, RATE, source, KEYS, tasks_per_step=2)


def train(parts, course=COURSE, folder=None, **options):
  learner, source, dispatch = parts
  if folder is None:
    return train_on(dispatch, begin(learner, RATE, source, KEYS), course, **options)
  with checkpoints(folder) as saved:
    state = begin(learner, RATE, source, KEYS, saved=saved)
    return train_on(dispatch, state, course, save=saving(saved), **options)


def equal(one, other):
  return jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(a, b), one, other))


def test_saves_and_validations_are_at_multiples_and_at_the_end(parts):
  saved, validated, told, order = [], [], [], []
  validate = lambda params, step: {'loss': float(step)}
  state = train(
    parts,
    save=lambda kept: (saved.append(kept), order.append(f'saved {kept.step}')),
    validate=validate,
    on_validation=lambda step, means: validated.append(step),
    on_metrics=lambda step, means: (told.append(step), order.append(step)),
  )
  assert int(state.step) == 7
  assert [(each.step, each.score) for each in saved] == [(3, None), (6, None), (7, -7.0)]
  assert all(int(each.state.step) == each.step for each in saved)
  assert validated == [5, 7] and told == [2, 3, 5, 6, 7]
  # A state is saved when the losses after it are known to be finite.
  assert order == [2, 3, 'saved 3', 5, 6, 'saved 6', 7, 'saved 7']


def test_steps_to_stop_at_are_multiples_wherever_a_run_begins_and_the_end():
  course = Course(steps=13, save_every=6, validate_every=4)
  assert [course.next_stop(step) for step in (0, 3, 4, 6, 8, 12)] == [4, 4, 6, 8, 12, 13]
  assert [course.is_due(step, 4) for step in (4, 6, 12, 13)] == [True, False, True, True]


def test_what_was_stopped_goes_on_with_the_same_bits(parts, tmp_path):
  whole = train(parts)
  stopped = []
  ends = Interruptions(lambda: bool(stopped), lambda: bool(stopped), lambda: None)
  part = train(
    parts, folder=tmp_path, interruption=ends, on_metrics=lambda step, means: stopped.append(step)
  )
  assert 0 < int(part.step) < 7 and not equal(part, whole)
  assert equal(train(parts, folder=tmp_path), whole)
  assert equal(train(parts, folder=tmp_path), whole)  # there is nothing left to do


def test_a_state_before_a_loss_that_is_not_finite_is_not_saved(parts):
  learner, source, _ = parts
  saved = []
  broken = optax.chain(RATE, optax.stateless(lambda updates, params: bad_after(updates, params)))
  dispatch = make_dispatch(learner, broken, source, KEYS, tasks_per_step=2)
  state = begin(learner, broken, source, KEYS)
  with pytest.raises(NonFiniteLoss):
    train_on(dispatch, state, COURSE._replace(save_every=1), save=saved.append)
  assert not saved  # the first step's own loss is finite, its parameters are not


def bad_after(updates, params):
  del params
  return jax.tree.map(lambda leaf: leaf * np.nan, updates)


def test_a_training_begins_with_given_parameters(parts):
  """Without a step they are what they were; those of another learner are refused."""
  learner, source, _ = parts
  before = train(parts).params
  state = begin(learner, RATE, source, KEYS, params=before)
  assert equal(state.params, before) and not int(state.step)
  assert not equal(before, begin(learner, RATE, source, KEYS).params)
  wider = jax.tree.map(lambda leaf: np.ones((*leaf.shape, 2)), before)
  with pytest.raises(ValueError, match=r'begin with are of another learner: .* is \(.*, 2\), not'):
    begin(learner, RATE, source, KEYS, params=wider)


def test_a_course_of_no_length_is_refused(parts):
  with pytest.raises(ValueError, match=r'save_every=0 is not positive'):
    train(parts, COURSE._replace(save_every=0))
