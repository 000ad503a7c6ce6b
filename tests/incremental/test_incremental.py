"""New classes in sessions: closed forms, brute force, and weights that keep their bits."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metakit.data.table import class_table
from metakit.episodes import Sessions
from metakit.heads import class_mean_stream, ridge
from metakit.incremental import (
  Tricks,
  base_learner,
  base_sessions,
  equiangular_frame,
  free_weights,
  least_sensitive,
  masked_descent,
  mixed_pairs,
  pair_number,
  training_rows,
  tuned_in_sessions,
)
from metakit.incremental.base_training import turned
from metakit.incremental.subnetwork import session_loss
from metakit.keys import stream
from metakit.losses.supervised_contrastive import contrast
from metakit.networks import conv4, mlp
from metakit.roles import CONSTANT, NORM, WEIGHT
from metakit.types import Episode, Examples
from tests.episodes.test_few_shot import many

KEY = jax.random.key(0)
WAYS, BASE, WIDTH = 6, 4, 8
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(size=(12, 4, 4, 1)).astype(np.float32)
NETWORK, HEAD = mlp(width=WIDTH, depth=1), class_mean_stream(WAYS, 'cosine')
# An episode of the base classes 3, 0 and 2.
PARTS = [Examples(IMAGES[k : k + 6], np.repeat(np.arange(3, dtype=np.int32), 2)) for k in (0, 6)]
EPISODE = Episode(*PARTS, {'classes': np.array([3, 0, 2], np.int32)})


@pytest.mark.parametrize(('classes', 'features'), [(2, 2), (5, 5), (6, 20)])
def test_prototypes_have_equal_lengths_and_angles(classes, features):
  frame = np.asarray(jax.jit(equiangular_frame, static_argnums=(1, 2))(KEY, classes, features))
  expected = np.full((classes, classes), -1 / (classes - 1))
  np.fill_diagonal(expected, 1)
  np.testing.assert_allclose(frame @ frame.T, expected, atol=1e-6)
  np.testing.assert_allclose(frame.sum(0), 0, atol=1e-6)


def test_each_pair_of_classes_has_a_number_of_its_own():
  for classes in (3, 7):
    pairs = np.array(list(itertools.combinations(range(classes), 2)))
    number = jax.jit(lambda pairs: pair_number(*pairs.T, classes))  # noqa: B023
    for each in (pairs, pairs[:, ::-1]):
      assert number(each).tolist() == list(range(len(pairs)))


def test_mixtures_are_of_two_classes_and_say_which():
  """Inputs are one-hot, so a mixture shows of which examples it is, and in which shares."""
  y, x = np.array([0, 0, 1, 2, 2, 3, -1]), np.eye(7, dtype=np.float32)
  weight = np.array([1, 1, 1, 1, 1, 0.5, 1], np.float32)
  numbers = {pair: n for n, pair in enumerate(itertools.combinations(range(4), 2))}
  mix = jax.jit(lambda key: mixed_pairs(key, Examples(x, y, weight), 4))
  partners = set()
  for seed in range(8):
    mixed = jax.tree.map(np.asarray, mix(jax.random.key(seed)))
    partner = (mixed.x * (1 - np.eye(7))).argmax(1)
    partners |= {*enumerate(partner.tolist())}
    assert sorted(partner) == list(range(7)) and not (partner == np.arange(7)).any()
    assert ((mixed.x.diagonal() > 0.4) & (mixed.x.diagonal() < 0.6)).all()
    np.testing.assert_allclose(mixed.x.sum(1), 1, rtol=1e-6)
    for i, j in enumerate(partner):
      pair = min(y[i], y[j]), max(y[i], y[j])
      counts = pair in numbers
      assert mixed.y[i] == numbers.get(pair, -1)
      assert mixed.weight[i] == (weight[i] * weight[j] if counts else 0)
  assert len(partners) > 25  # of 42


def test_each_example_is_turned_and_says_how_often():
  some = jax.jit(turned)(Examples(IMAGES[:6], np.arange(6), np.arange(6)))
  assert some.y.tolist() == [0, 0, 1, 1, 2, 3]
  assert some.weight.tolist() == [0, 4, 1, 5, 2, 3]
  for image, turns, number in zip(some.x, some.y, some.weight, strict=True):
    np.testing.assert_array_equal(image, np.rot90(IMAGES[number], turns))


embed = jax.jit(lambda params, x: NETWORK.apply(params['body'], x))  # always of 12 images


def trained(tricks):
  learner = base_learner(NETWORK, HEAD, BASE, tricks=tricks)
  params = jax.jit(learner.init)(KEY, EPISODE)
  return params, jax.jit(jax.value_and_grad(learner.loss, 1, has_aux=True))(KEY, params, EPISODE)


def by_hand(params, z, y):
  """The cross-entropy of 16 times the cosines, with NumPy."""
  points = [*params.get('prototypes', ()), *np.asarray(params.get('layer', np.zeros((WIDTH, 0)))).T]
  direction = lambda v: v / np.linalg.norm(v, axis=-1, keepdims=True)
  logits = 16 * direction(np.asarray(z)) @ direction(np.asarray(points)).T
  logs = logits - np.log(np.exp(logits - 16).sum(1, keepdims=True)) - 16
  return logs[np.arange(len(y)), y]


BOTH, LABELS = IMAGES, np.tile(np.repeat([3, 0, 2], 2), 2)


def test_the_baseline_is_the_cross_entropy_of_cosines():
  params, ((loss, _), _) = trained(Tricks())
  z = embed(params, BOTH)
  assert float(loss) == pytest.approx(-by_hand(params, z, LABELS).mean(), rel=1e-5)
  assert params['layer'].shape == (WIDTH, BASE)


def test_losses_are_added_with_their_weights():
  """The contrastive loss of the features, and the cross-entropy of turns by a layer of its own."""
  params, ((loss, _), _) = trained(Tricks(contrastive=0.5, turning=2.0))
  z = embed(params, BOTH)
  some = jax.tree.map(np.asarray, jax.jit(turned)(Examples(BOTH, LABELS)))
  turns = np.asarray(embed(params, some.x)) @ np.asarray(params['turns']['kernel'])
  logs = turns[np.arange(12), some.y] - np.log(np.exp(turns).sum(1))
  expected = -by_hand(params, z, LABELS).mean() + 0.5 * jax.jit(contrast)(Examples(z, LABELS))
  assert float(loss) == pytest.approx(float(expected) - 2 * logs.mean(), rel=1e-5)


def test_prototypes_stand_still_and_mixtures_have_outputs_after_them():
  params, ((loss, _), slopes) = trained(Tricks(prototypes=WAYS, pairs=True))
  assert params['prototypes'].shape == (WAYS, WIDTH) and params['layer'].shape == (WIDTH, 6)
  assert not np.any(slopes['prototypes']) and np.any(slopes['layer'])
  mixed = jax.jit(mixed_pairs, static_argnums=2)(stream(KEY, 'pairs'), Examples(BOTH, LABELS), BASE)
  plain = by_hand(params, embed(params, BOTH), LABELS)
  known = np.asarray(mixed.weight) > 0
  assert 0 < known.sum() < 12
  z = np.asarray(embed(params, mixed.x))[known]
  both = by_hand(params, z, WAYS + np.asarray(mixed.y)[known])
  assert float(loss) == pytest.approx(-np.concatenate([plain, both]).mean(), rel=1e-5)


@pytest.mark.parametrize(
  ('tricks', 'said'),
  [
    (Tricks(contrastive=-1), 'contrastive=-1 is negative'),
    (Tricks(turning=float('nan')), 'turning=nan is negative'),
    (Tricks(prototypes=3), 'prototypes=3 are too few for 4 base classes'),
    (Tricks(prototypes=9), 'classes=9 exceeds the 8 features'),
  ],
)
def test_tricks_that_make_no_sense_are_refused(tricks, said):
  with pytest.raises(ValueError, match=said):
    base_learner(NETWORK, HEAD, BASE, tricks=tricks).init(KEY, EPISODE)


def test_other_bad_input_is_said():
  flat = Episode(*(part._replace(x=part.x[:, :3]) for part in PARTS), EPISODE.info)
  with pytest.raises(ValueError, match='rotations need square images'):
    base_learner(NETWORK, HEAD, BASE, tricks=Tricks(turning=1)).init(KEY, flat)
  with pytest.raises(ValueError, match='classes=1 have no angles'):
    equiangular_frame(KEY, 1, 4)
  with pytest.raises(ValueError, match=r'share=1\.5 is no share'):
    least_sensitive({'w': np.zeros(3)}, 1.5)
  with pytest.raises(ValueError, match='cannot go on learning'):
    tuned_in_sessions(NETWORK, ridge(WAYS))
  with pytest.raises(ValueError, match='steps=-1 is negative'):
    tuned_in_sessions(NETWORK, HEAD, steps=-1)
  with pytest.raises(ValueError, match='rate=0 is not positive'):
    tuned_in_sessions(NETWORK, HEAD, rate=0)


def test_the_least_sensitive_weights_of_each_layer_are_free():
  found = {'a': np.array([[4.0, 1.0], [2.0, 3.0]]), 'b': np.arange(5.0), 'c': np.zeros(4)}
  roles = {'a': WEIGHT, 'b': NORM, 'c': CONSTANT}
  free = least_sensitive(found, 0.6, roles)
  assert free['a'].tolist() == [[False, True], [True, False]]
  assert not free['b'].any() and not free['c'].any()
  assert least_sensitive(found, 0.6)['b'].tolist() == [True, True, True, False, False]


def test_masked_descent_moves_what_is_free_and_nothing_else():
  start, goal = RANDOM.normal(size=(2, 5)).astype(np.float32)
  free = np.array([True, False, True, False, True])
  loss = lambda w: 0.5 * jnp.square(w - goal).sum()
  ended = np.asarray(masked_descent(loss, start, free, steps=3, rate=0.25))
  np.testing.assert_array_equal(ended[~free], start[~free])
  np.testing.assert_allclose(ended[free], (goal + 0.75**3 * (start - goal))[free], rtol=1e-5)


SMALL = conv4(width=3, depth=1)  # its normalisation has measured statistics


@functools.cache
def session():
  """A session of two classes, with half of the weights free, and with none.

  Returns the params, the mask, and of each: what is known, answers, and losses before and after.
  The last answers are those of a frozen network.
  """
  support = Examples(IMAGES[:8], np.repeat(np.arange(4, dtype=np.int32), 2))
  more = Examples(IMAGES[8:], np.array([4, 4, 5, 5], np.int32))
  params = {'body': jax.jit(SMALL.init)(KEY, IMAGES), 'head': {}}
  free = free_weights(SMALL, HEAD, params, base=support, share=0.5)
  learner = tuned_in_sessions(SMALL, HEAD, steps=5, rate=0.05)
  embedded = lambda params, part: part._replace(x=SMALL.stored.apply(params['body'], part.x))

  @jax.jit
  def run(free):
    after = learner.extend(learner.adapt(KEY, {**params, 'free': free}, support), more)
    first = HEAD.adapt(KEY, {}, embedded(params, support))
    known = HEAD.extend(first, embedded(params, more))
    loss = lambda params: session_loss(HEAD, known, embedded(params, more))
    frozen = HEAD.predict(known, SMALL.stored.apply(params['body'], IMAGES))
    losses = loss(params), loss(after[0])
    return after, learner.predict(after, IMAGES), losses, first, frozen

  runs = (run(each) for each in (free, jax.tree.map(np.zeros_like, free)))
  return params, free, *(jax.tree.map(np.asarray, each) for each in runs)


def test_sessions_change_free_weights_alone():
  params, free, ((after, _), *_), _ = session()
  kernels = 0
  bodies = map(jax.tree.leaves, (params['body'], after['body'], free))
  for old, new, mask in zip(*bodies, strict=True):
    assert np.asarray(old)[~mask].tobytes() == new[~mask].tobytes()
    if old.ndim == 4:
      kernels += 1
      assert mask.sum() == mask.size // 2 and ((old != new) == mask).mean() > 0.9
    else:
      assert not mask.any()  # normalisation, and its statistics
  assert kernels == 1


def test_a_session_lowers_its_own_loss_and_keeps_what_was_known():
  _, _, ((_, known), _, (before, after), first, _), _ = session()
  assert after < before
  np.testing.assert_array_equal(known[0][:4], first[0][:4])  # of the base, from before


def test_without_free_weights_the_network_is_frozen():
  _, _, _, (_, answers, (before, after), _, frozen) = session()
  np.testing.assert_allclose(answers, frozen, atol=1e-5)
  assert before == pytest.approx(after, rel=1e-6)


def test_streams_begin_with_the_base_and_ask_for_rows_it_was_not_trained_on():
  sizes = Sessions(base_ways=3, base_shots=4, ways=2, shots=2, number=2, queries=3)
  base = class_table(np.arange(24), np.repeat(np.arange(3), 8))
  novel = class_table(np.arange(100, 135), np.repeat(np.arange(5), 7))
  source, kept = base_sessions(base, novel, sizes), set(training_rows(base, 3).x.tolist())
  episodes = many(source.plan, 50)
  support, query = (source.data[part.x] for part in episodes[:2])
  of_class = np.where(source.data < 100, source.data // 8, (source.data - 100) // 7 + 3)
  later = set()
  for seen, asked, classes in zip(support, query, episodes.info['classes'], strict=True):
    assert set(seen[:12]) <= kept and kept.isdisjoint(asked[:9])
    assert len({*seen, *asked}) == len(seen) + len(asked)
    assert classes[:3].tolist() == [0, 1, 2] and len(set(classes)) == 7
    later |= set(classes[3:])
  assert later == {3, 4, 5, 6, 7}
  for part, count in ((episodes.support, 20), (episodes.query, 21)):
    assert part.y.shape == (50, count)
    named = np.take_along_axis(episodes.info['classes'], part.y, axis=1)
    assert (of_class[part.x] == named).all()


@pytest.mark.parametrize(
  ('sizes', 'said'),
  [
    ({'base_ways': 4}, 'base_ways=4, but there are 3 classes'),
    ({'base_shots': 7}, r'base_shots\+queries=9 exceeds the 8 examples'),
    ({'number': 6}, r'number\*ways=6 exceeds the 3 classes'),
    ({'shots': 8}, r'shots\+queries=10 exceeds the 8 examples'),
    ({'ways': 0}, 'ways=0 is not positive'),
  ],
)
def test_streams_that_cannot_be_drawn_are_refused(sizes, said):
  table = class_table(np.arange(24), np.repeat(np.arange(3), 8))
  usual = Sessions(base_ways=3, base_shots=2, ways=1, shots=1, number=2, queries=2)
  with pytest.raises(ValueError, match=said):
    base_sessions(table, table, usual._replace(**sizes))
