"""In-context learners: what each layout feeds the model, what each prediction may depend on."""

import functools
import itertools

import jax
import numpy as np
import pytest

from metakit.evaluation import evaluate, judge_prefixes
from metakit.learners.in_context import LAYOUTS, in_context
from metakit.learners.prototypical import prototypical
from metakit.models import Reading, SequenceModel, identity
from metakit.networks.recurrent import recurrent
from metakit.networks.transformer import transformer
from metakit.objectives import cross_entropy
from metakit.sources import EpisodeSource
from metakit.types import Episode, Examples
from tests.learners.judged import compiled_fast

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
WAYS, SUPPORT, QUERIES = 3, 6, 4
X = RNG.normal(size=(SUPPORT, 4)).astype(np.float32)
Y = np.tile(np.arange(WAYS, dtype=np.int32), 2)
ASKED = RNG.normal(size=(QUERIES, 4)).astype(np.float32)
WEIGHT = np.array([1, 1, 0, 1, 0, 1], np.float32)
# Of one layer, but where costs are counted; test_in_context_float32.py has two.
MODELS = {
  'softmax': lambda outputs: transformer(outputs, width=8, depth=1, heads=2),
  'momentum': lambda o: transformer(o, width=8, depth=1, heads=2, attention='momentum'),
  'linear': lambda o: transformer(o, width=8, depth=1, heads=2, attention='linear'),
  'lstm': lambda outputs: recurrent(outputs, width=8),
}
DEEP = {'two layers': lambda outputs: transformer(outputs, width=8, depth=2, heads=2)}
# Every layout, with and without absent examples, of three models (linear attention is asked of its
# loss); the slow tier has all pairs, and the other half of these.
QUICK = {
  ('softmax', 'shifted'): False,
  ('momentum', 'interleaved'): True,
  ('lstm', 'pairs'): True,
}


def slow_unless(quick, *case):
  return pytest.param(*case, marks=[] if quick else [pytest.mark.slow])


every_layout = pytest.mark.parametrize('layout', [slow_unless(n == 'pairs', n) for n in LAYOUTS])
every_pair = pytest.mark.parametrize(
  ('model', 'layout'),
  [slow_unless(pair in QUICK, *pair) for pair in itertools.product(MODELS, LAYOUTS)],
)
every_case = pytest.mark.parametrize(
  ('model', 'layout', 'weight'),
  [
    *(slow_unless(True, *pair, WEIGHT if absent else None) for pair, absent in QUICK.items()),
    *(slow_unless(False, *pair, None if absent else WEIGHT) for pair, absent in QUICK.items()),
    *(
      slow_unless(False, *pair, WEIGHT if number % 2 else None)
      for number, pair in enumerate(itertools.product(MODELS, LAYOUTS))
      if pair not in QUICK
    ),
  ],
)


@functools.cache
def made(model, layout):
  learner = in_context((MODELS | DEEP)[model](WAYS), WAYS, layout)
  shapes = jax.eval_shape(learner.init, KEY, Episode(Examples(X, Y), Examples(ASKED, None)))
  rng = np.random.default_rng(1)
  return learner, jax.tree.map(lambda s: 0.7 * rng.normal(size=s.shape), shapes)


@pytest.fixture(autouse=True)
def float64():
  with jax.enable_x64(True):
    yield


def assert_close(ours, theirs):
  np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-11)


def part(of, support=slice(None)):
  return Examples(X[support], Y[support], None if of is None else of[support])


@every_case
def test_learning_on_equals_learning_from_all(model, layout, weight):
  learner, params = made(model, layout)

  @compiled_fast
  def both(params):
    whole = learner.adapt(KEY, params, part(weight))
    fitted = learner.adapt(KEY, params, part(weight, slice(3)))
    for piece in (slice(3, 4), slice(4, 6)):
      fitted = learner.extend(fitted, part(weight, piece))
    return learner.predict(fitted, ASKED), learner.predict(whole, ASKED)

  assert_close(*both(params))


@every_case
def test_one_pass_equals_an_adaptation_for_each_prefix(model, layout, weight):
  learner, params = made(model, layout)
  ours = compiled_fast(learner.prefixes)(KEY, params, part(weight))

  @compiled_fast
  def one(params, before):
    shown = before * (1.0 if weight is None else weight)
    return learner.predict(learner.adapt(KEY, params, Examples(X, Y, shown)), X)

  for k in range(SUPPORT) if weight is None else np.flatnonzero(weight):
    assert_close(ours[k], one(params, np.arange(SUPPORT) < k)[k])


# test_laws.py asks the same of pairs.
@pytest.mark.parametrize(
  ('model', 'layout'),
  [
    slow_unless(pair == ('momentum', 'interleaved'), *pair)
    for pair in itertools.product(MODELS, LAYOUTS)
  ],
)
def test_padding_equals_absence(model, layout):
  learner, params = made(model, layout)
  there = WEIGHT > 0
  predict = compiled_fast(lambda p, s: learner.predict(learner.adapt(KEY, p, s), ASKED))
  assert_close(predict(params, part(WEIGHT)), predict(params, Examples(X[there], Y[there])))


@every_pair
def test_no_prediction_depends_on_its_own_label_or_a_later_one(model, layout):
  learner = in_context(MODELS[model](1), 1, layout)
  shapes = jax.eval_shape(learner.init, KEY, Episode(Examples(X, X[:, :1]), None))
  rng = np.random.default_rng(1)
  params = jax.tree.map(lambda s: 0.7 * rng.normal(size=s.shape), shapes)
  predict = lambda x, y: learner.prefixes(KEY, params, Examples(x, y))[:, 0]
  on_x, on_y = compiled_fast(jax.jacobian(predict, (0, 1)))(X * 1.0, X[:, :1] * 1.0)
  earlier = np.tril(np.ones((SUPPORT, SUPPORT), bool), -1)
  np.testing.assert_array_equal(np.abs(on_y[..., 0]) > 0, earlier)
  np.testing.assert_array_equal(np.abs(on_x).max(-1) > 0, earlier | np.eye(SUPPORT, dtype=bool))


@every_layout
def test_the_loss_is_that_of_every_prefix_and_of_the_queries(layout):
  learner, params = made('linear', layout)
  episode = Episode(part(WEIGHT), Examples(ASKED, np.array([0, 1, 2, 0], np.int32)))

  @compiled_fast
  def both(params):
    prefixes = learner.prefixes(KEY, params, episode.support)
    answers = learner.predict(learner.adapt(KEY, params, episode.support), ASKED)
    return prefixes, answers, learner.loss(KEY, params, episode)

  prefixes, answers, (loss, metrics) = both(params)
  outputs = np.concatenate([np.asarray(prefixes)[WEIGHT > 0], answers])
  labels = np.concatenate([Y[WEIGHT > 0], episode.query.y])
  shifted = outputs - outputs.max(1, keepdims=True)
  nats = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(labels)), labels]
  assert_close(loss, nats.mean())
  assert_close(metrics['accuracy'], (outputs.argmax(1) == labels).mean())
  half = int(WEIGHT[: (len(WEIGHT) + len(ASKED)) // 2].sum())  # of all, absent ones included
  assert_close(metrics['gain'], nats[:half].mean() - nats[half:].mean())


def test_a_set_has_no_order_and_no_prefixes():
  learner = in_context(transformer(WAYS, width=8, depth=1, heads=2, attention='set'), WAYS)
  params = made('softmax', 'pairs')[1]
  order = RNG.permutation(SUPPORT)
  predict = compiled_fast(lambda p, s: learner.predict(learner.adapt(KEY, p, s), ASKED))
  shuffled = Examples(X[order], Y[order], WEIGHT[order])
  assert_close(predict(params, shuffled), predict(params, part(WEIGHT)))
  assert learner.extend is learner.prefixes is None


def spy():
  """A model that hands out the tokens it was given."""

  def apply(params, tokens, asked, seen, present=None, state=None):
    return Reading(tokens, asked, {'tokens': tokens, 'seen': seen, 'present': present})

  return SequenceModel(lambda key, tokens: {}, apply)


def test_the_tokens_of_each_layout():
  """x and y of the example; the label of the one before; x and y in turn."""
  one_hot, zero = 2 * np.eye(3)[Y], np.zeros((SUPPORT, 3))  # as heavy as the 4 features of x
  read = lambda layout, s, **options: jax.jit(
    lambda: in_context(spy(), WAYS, layout, **options).adapt(KEY, {}, s)[1]['tokens']
  )()
  join = lambda *parts: np.hstack(parts)
  column = lambda value: np.full((SUPPORT, 1), value)
  support = part(None)
  assert_close(read('pairs', support), join(X, one_hot, column(0)))
  shifted = np.vstack([zero[:1], one_hot[:-1]])
  assert_close(read('shifted', support), join(X, shifted))
  interleaved = read('interleaved', support)
  assert_close(interleaved[0::2], join(X, zero, column(1)))
  assert_close(interleaved[1::2], join(0 * X, one_hot, column(0)))
  absent = read('shifted', part(WEIGHT))  # the last label there is, example 2 being absent
  assert_close(absent[3, 4:], one_hot[1])
  published = read('shifted', support, label_scale=1)
  assert_close(published[1:, 4:], np.eye(3)[Y[:-1]])


@pytest.mark.parametrize(
  'model', [slow_unless(m == 'two layers', m) for m in (*DEEP, 'linear', 'lstm')]
)
def test_learning_on_costs_as_much_as_the_new_examples(model):
  """Of 64 examples known, one more costs a sixteenth or less of reading all; so does a query."""
  learner, params = made(model, 'pairs')
  x, y = RNG.normal(size=(64, 4)), RNG.integers(0, WAYS, 64)
  many, one = Examples(x, y), Examples(x[:1], y[:1])
  fitted = jax.eval_shape(learner.adapt, KEY, params, many)

  def flops(function, *given):
    """By XLA, which counts the body of a loop once: an LSTM's tokens are counted by hand."""
    return jax.jit(function).lower(*given).compile().cost_analysis()['flops']

  reading = flops(learner.adapt, KEY, params, many) * (64 if model == 'lstm' else 1)
  assert flops(learner.extend, fitted, one) < reading / 16
  assert flops(learner.predict, fitted, x[:1]) < reading / 16


def test_a_fixed_state_costs_nothing_to_grow():
  """The state of an LSTM does not grow with the support, a transformer's does."""

  def size(model, n):
    learner, params = made(model, 'pairs')
    fitted = jax.eval_shape(learner.adapt, KEY, params, part(None, slice(n)))
    return sum(leaf.size for leaf in jax.tree.leaves(fitted[1:]))

  assert size('lstm', 6) == size('lstm', 2)
  assert size('linear', 6) == size('linear', 2)
  per_example = 2 * 2 * 8 + 2  # keys and values of two layers, and two flags
  assert size('two layers', 6) - size('two layers', 2) == 4 * per_example


def test_integer_inputs_do_not_round_the_targets():
  learner = in_context(spy(), 1)
  targets = np.array([[0.5], [1.5]], np.float32)
  examples = Examples(np.array([[1], [2]], np.int32), targets)
  tokens = jax.jit(lambda: learner.adapt(KEY, {}, examples)[1]['tokens'])()
  np.testing.assert_array_equal(tokens, [[1, 0.5, 0], [2, 1.5, 0]])


@pytest.mark.filterwarnings('ignore:the sampler gives the same episode')
def test_the_learning_curve_of_any_learner():
  """By an adaptation for each prefix where a learner has no pass over all."""
  episode = Episode(part(None), Examples(ASKED, np.array([0, 1, 2, 0], np.int32)))
  learner = prototypical(identity, WAYS)
  params, source = learner.init(KEY, episode), EpisodeSource(lambda key: episode)
  judged = evaluate(
    learner, cross_entropy, params, source=source, root=KEY, episodes=2, judge=judge_prefixes
  )
  curve = judged['accuracy']
  assert curve.shape == (2, SUPPORT + 1)  # of the queries the first
  x, y = np.concatenate([X, ASKED]), np.concatenate([Y, episode.query.y])
  for k in range(3, SUPPORT + 1):  # all classes have been seen
    prototypes = np.stack([x[:k][y[:k] == c].mean(0) for c in range(WAYS)])
    nearest = np.square(x[k] - prototypes).sum(1).argmin()
    assert (curve[:, k] == float(nearest == y[k])).all()


@pytest.mark.parametrize(
  ('make', 'named'),
  [
    (lambda: in_context(spy(), 3, 'triples'), "layout='triples' is unknown"),
    (lambda: in_context(transformer(3, attention='set'), 3, 'shifted'), 'needs a causal model'),
  ],
)
def test_what_makes_no_sense_is_refused(make, named):
  with pytest.raises(ValueError, match=named):
    make()
