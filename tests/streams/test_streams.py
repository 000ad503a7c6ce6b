"""Streams of tasks: known transfer, additive costs, and the same bits after a stop."""

import functools

import jax
import numpy as np
import pytest

from metakit.checkpoint import checkpoints
from metakit.costs import Resources, together
from metakit.heads import prototypes
from metakit.networks import conv4, mlp
from metakit.networks.last_layer import init_last_layer
from metakit.objectives import squared_error
from metakit.streams import (
  Event,
  Tuning,
  adapting,
  dynamic_knn,
  independent,
  made_stream,
  make_stream,
  meta_initialised,
  previous,
  run_stream,
)
from metakit.streams.strategies import nearest
from metakit.streams.tuning import make_tuner
from metakit.types import Examples

WAYS, WIDTH, INPUTS = 4, 16, 32
TUNING = Tuning(rates=(1e-6, 1e-2), steps=150, batch=32)
NETWORK = mlp(width=WIDTH, depth=1)
MAKE = {'independent': independent, 'previous': previous, 'dynamic_knn': dynamic_knn}
KEY = jax.random.key(0)


@functools.cache
def strategy(name):
  return MAKE[name](NETWORK, WAYS, TUNING)


@functools.cache
def log(name, transfer):
  return run_stream(strategy(name), made_stream(transfer), KEY)


def mean_errors(transfer):
  return {name: log(name, transfer).error[1:].mean() for name in MAKE}


def test_the_event_before_helps_where_transfer_is_positive():
  errors = mean_errors('positive')
  assert errors['previous'] < errors['independent'] - 0.05


def test_the_event_before_harms_where_transfer_is_negative():
  errors = mean_errors('negative')
  assert errors['previous'] > errors['independent'] + 0.02
  assert errors['dynamic_knn'] < errors['previous']


@pytest.mark.slow
def test_the_event_before_makes_no_difference_where_there_is_no_transfer():
  errors = mean_errors('none')
  assert abs(errors['previous'] - errors['independent']) < 0.02


def test_the_nearest_neighbours_find_the_family_and_win():
  errors = mean_errors('mixed')
  assert errors['dynamic_knn'] < min(errors['previous'], errors['independent']) - 0.05
  starts = log('dynamic_knn', 'mixed').start
  later = np.arange(2, len(starts))
  assert (starts[later] % 2 == later % 2).mean() > 0.6  # of the same family


def test_a_start_that_goes_all_the_way_is_the_event_before():
  stream = make_stream(made_stream('mixed').events[:3])
  ours = run_stream(meta_initialised(NETWORK, WAYS, TUNING, rate=1.0), stream, KEY)
  assert ours.error.tolist() == log('previous', 'mixed').error[:3].tolist()


def test_an_event_costs_its_steps_times_its_trials():
  """Products of matrices by hand; sums and element-wise functions come on top."""
  event = made_stream('mixed').events[0]
  first, last = INPUTS * WIDTH, WIDTH * WAYS
  of_step = 2 * TUNING.batch * (2 * first + 3 * last)  # no gradient of the inputs
  of_dev = 2 * len(event.dev.x) * (first + last)
  products = len(TUNING.rates) * (TUNING.steps * of_step + of_dev)
  measured = log('independent', 'mixed')
  assert products < measured.train_flops[0] < 1.4 * products
  asked = 2 * len(event.test.x) * (first + last)
  assert asked < measured.predict_flops[0] < 1.4 * asked
  assert measured.parameters[0] == first + WIDTH + last + WAYS
  assert measured.peak_bytes[0] > 4 * len(event.train.x) * INPUTS


def test_each_network_that_is_tried_is_paid_for():
  tried = log('dynamic_knn', 'mixed').train_flops - log('independent', 'mixed').train_flops
  one = tried[2] / 3  # two earlier networks and a new one; later events are as large
  np.testing.assert_allclose(tried[2:], one * np.arange(3, 9), rtol=1e-12)
  event = made_stream('mixed').events[2]
  rows = len(event.train.x) + len(event.dev.x)
  products = 2 * rows * INPUTS * WIDTH + 2 * len(event.train.x) * len(event.dev.x) * WIDTH
  assert products < one < 1.5 * products


def test_resources_add_up_and_memory_does_not():
  one, other = Resources(3.0, 10, 5), Resources(4.0, 7, 6)
  assert together(one, other, one) == Resources(10.0, 10, 6) == together(together(one, other), one)
  assert together() == Resources()


class Stopped(Exception):
  pass


def test_a_stream_that_was_stopped_ends_with_the_same_bits(tmp_path):
  stream, reports = make_stream(made_stream('mixed').events[:3]), []

  def stop(log):
    reports.append(log)
    if log.done == 2:
      raise Stopped

  with pytest.raises(Stopped), checkpoints(tmp_path) as saved:
    run_stream(strategy('dynamic_knn'), stream, KEY, saved=saved, on_event=stop)
  with checkpoints(tmp_path) as saved:
    whole = run_stream(strategy('dynamic_knn'), stream, KEY, saved=saved, on_event=reports.append)
    again = run_stream(strategy('dynamic_knn'), stream, KEY, saved=saved)  # nothing is left to do
  assert [int(each.done) for each in reports] == [1, 2, 3]
  for name, values in log('dynamic_knn', 'mixed')._asdict().items():
    if name != 'done':
      assert getattr(whole, name).tolist() == getattr(again, name).tolist() == values[:3].tolist()
  with checkpoints(tmp_path) as saved, pytest.raises(ValueError, match='another configuration'):
    run_stream(strategy('dynamic_knn'), made_stream('mixed'), KEY, saved=saved)


def test_the_labels_of_the_test_part_change_no_prediction():
  event = made_stream('mixed').events[0]
  other = event._replace(test=event.test._replace(y=(event.test.y + 1) % WAYS))
  for name in ('dynamic_knn', 'previous'):
    each = strategy(name)
    answers = []
    for asked in (event, other):
      state = each.init(KEY, make_stream([asked]))
      answers.append(each.predict(each.learn(KEY, state, asked).fitted, asked)[0])
    np.testing.assert_array_equal(*answers)


def test_classes_that_an_event_does_not_have_are_not_learned():
  event = made_stream('mixed').events[0]
  two = [Examples(part.x, part.y % 2) for part in (event.train, event.dev, event.test)]
  event = Event('two', *two, outputs=2)
  tuner = make_tuner(NETWORK, WAYS, TUNING)
  tuned, _ = tuner.fit(KEY, tuner.fresh(KEY, event), event)
  begun = init_last_layer(jax.random.fold_in(KEY, 0), WIDTH, WAYS)
  assert tuned.params['head']['kernel'].shape == begun['kernel'].shape
  assert not np.any(tuned.params['head']['bias'][2:]) and np.any(tuned.params['head']['bias'][:2])
  assert tuner.predict(tuned.params, event)[0].shape == (len(event.test.x), 2)


def test_the_best_trial_is_kept():
  """One rate is too small to learn anything."""
  assert log('independent', 'mixed').trial.tolist() == [1] * 8
  event, tuner = made_stream('mixed').events[0], make_tuner(NETWORK, WAYS, TUNING)
  tuned, _ = tuner.fit(KEY, tuner.fresh(KEY, event), event)
  outputs, _ = tuner.predict(tuned.params, event._replace(test=event.dev))
  assert (outputs.argmax(-1) != event.dev.y).mean() == pytest.approx(float(tuned.dev_error))


def test_numbers_are_learned_in_a_stream_too():
  random = np.random.default_rng(0)
  part = lambda count: Examples(x := random.standard_normal((count, 3)), x[:, :1] + x[:, 1:2])
  parts = [part(count) for count in (100, 50, 200)]
  parts = [Examples(*(leaf.astype(np.float32) for leaf in each[:2])) for each in parts]
  event = Event('sum', *parts, outputs=1, objective=squared_error)
  measured = run_stream(strategy('independent'), make_stream([event]), KEY)
  assert measured.error[0] < 0.3 < 2 * parts[2].y.var()
  assert 0.5 < measured.dev_error[0] / measured.error[0] < 2


@pytest.mark.parametrize('neighbours', [3, pytest.param(50, marks=pytest.mark.slow)])
def test_neighbours_are_those_of_brute_force(neighbours):
  random = np.random.default_rng(0)
  x, asked = random.standard_normal((20, 3)), random.standard_normal((7, 3))
  labels, targets = random.integers(0, WAYS, 20), random.standard_normal((20, 2))
  both = jax.jit(lambda *ys: [nearest(Examples(x, y), asked, neighbours, outputs=WAYS) for y in ys])
  shares, means = both(labels, targets)
  for row, share, mean in zip(asked, shares, means, strict=True):
    near = np.argsort(np.square(x - row).sum(1))[:neighbours]
    expected = np.bincount(labels[near], minlength=WAYS) / len(near)
    np.testing.assert_allclose(share, expected, rtol=1e-5)
    np.testing.assert_allclose(mean, targets[near].mean(0), rtol=1e-5, atol=1e-6)


def test_a_learner_that_needs_no_training_adapts_to_each_event():
  head = prototypes(WAYS)
  stream = made_stream('mixed', events=2)
  measured = run_stream(adapting(lambda event: head, {}), stream, KEY)
  for event, error in zip(stream.events, measured.error, strict=True):
    means = np.stack([event.train.x[event.train.y == c].mean(0) for c in range(WAYS)])
    away = np.square(event.test.x[:, None] - means).sum(-1)
    assert error == pytest.approx((away.argmin(1) != event.test.y).mean(), abs=0.011)


PART = Examples(np.zeros((3, 2), np.float32), np.array([0, 1, 0]))
EVENT = Event('one', PART, PART, PART, outputs=2)


@pytest.mark.parametrize(
  ('events', 'said'),
  [
    ([], 'no events'),
    ([EVENT._replace(dev=Examples(PART.x[:0], PART.y[:0]))], "event 'one' has no dev examples"),
    ([EVENT, EVENT._replace(train=PART._replace(x=PART.x[:, :1]))], 'does not fit the state'),
    ([EVENT._replace(outputs=1)], 'labels that are none of its outputs=1'),
    ([EVENT._replace(objective=squared_error)], r'give \[examples, outputs\]'),
    ([EVENT._replace(test=PART._replace(weight=np.ones(3)))], 'with weights'),
  ],
)
def test_events_that_make_no_stream_are_refused(events, said):
  with pytest.raises(ValueError, match=said):
    make_stream(events)


def test_what_a_state_has_no_room_for_is_refused():
  event = made_stream('mixed').events[0]
  each = strategy('dynamic_knn')
  state = each.init(KEY, make_stream([event]))
  with pytest.raises(ValueError, match='it has 5 outputs and the last layer 4'):
    each.learn(KEY, state, event._replace(outputs=5))
  with pytest.raises(ValueError, match='all its events are seen'):
    each.learn(KEY, state._replace(seen=np.int32(1)), event)
  with pytest.raises(ValueError, match='batch statistics'):
    independent(conv4(norm='batch'), WAYS)
  with pytest.raises(ValueError, match='positive learning rates'):
    previous(NETWORK, WAYS, Tuning(rates=()))
  with pytest.raises(ValueError, match='transfer='):
    made_stream('some')
  with pytest.raises(ValueError, match='too few for 20 families'):
    made_stream('none', events=20)
