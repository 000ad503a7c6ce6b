"""Measures against their definitions on learners whose answer is known."""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metakit.episodes import functions as f
from metakit.episodes.categorical import categorical, categorical_tasks
from metakit.evaluation import in_context as measures
from metakit.evaluation import judge_beside, predict_prefixes
from metakit.evaluation.in_context import (
  attention_to_support,
  judge_mixture_weight,
  judge_regret,
  likeness_to_descent,
  mixture_weight,
  regret,
  spectrum,
  state_size,
)
from metakit.learners.bayes import bayes, bayes_categorical
from metakit.learners.descent import Descent
from metakit.learners.in_context import in_context
from metakit.learners.maml import maml
from metakit.learners.prototypical import prototypical
from metakit.models import identity
from metakit.networks.mlp import mlp
from metakit.networks.recurrent import recurrent
from metakit.networks.transformer import transformer
from metakit.objectives import classification, cross_entropy, squared_error
from metakit.types import Episode, Examples, join
from tests.episodes.test_chance import SMALLEST_P, follows
from tests.episodes.test_few_shot import many
from tests.heads.made import softmax

KEY = jax.random.key(0, impl='threefry2x32')


@functools.cache
def six_tasks():
  return jax.jit(partial(categorical_tasks, tasks=6, inputs=3, classes=4))()


def drawn(sampler):
  """An episode, in NumPy."""
  return jax.device_get(jax.jit(sampler)(KEY))


def in_one_program(measure):
  """What `measure()` returns, compiled as one program rather than operation by operation."""
  return jax.device_get(jax.jit(measure)())


def test_tasks_are_drawn_by_their_weight_and_labels_by_the_table():
  episodes = many(categorical(six_tasks(), 3, 2), 6000)
  weight = 1 / np.arange(1, 7) / np.sum(1 / np.arange(1, 7))
  np.testing.assert_allclose(np.exp(six_tasks().log_weight), weight, rtol=1e-5)
  assert follows(episodes.info['task'], weight) > SMALLEST_P
  first = episodes.info['task'] == 0
  for part in episodes[:2]:
    place = part.x[first].argmax(-1)
    for x in range(3):
      probability = np.exp(np.asarray(six_tasks().log_probability[0, x], np.float64))
      drawn = part.y[first][place == x]
      expected = probability / probability.sum()
      seen = np.bincount(drawn, minlength=4) / len(drawn)
      np.testing.assert_allclose(seen, expected, atol=4 * 0.5 / len(drawn) ** 0.5)


def test_the_mixture_is_that_of_all_tasks():
  episode = drawn(categorical(six_tasks(), 5, 2))
  tables = np.exp(np.asarray(six_tasks().log_probability, np.float64))
  places = np.asarray(episode.support.x).argmax(1)
  likelihood = np.prod(tables[:, places, np.asarray(episode.support.y)], axis=1)
  posterior = np.exp(np.asarray(six_tasks().log_weight, np.float64)) * likelihood
  asked = np.asarray(episode.query.x).argmax(1)
  expected = np.einsum('t,tnc->nc', posterior / posterior.sum(), tables[:, asked])
  learner = bayes_categorical(six_tasks())
  predict = lambda: learner.predict(learner.adapt(KEY, {}, episode.support), episode.query.x)
  outputs = in_one_program(predict)
  np.testing.assert_allclose(np.exp(outputs), expected, atol=1e-5)


def test_the_regret_of_the_mixture_is_bounded_by_the_weight_of_the_task():
  """For every sequence, and close to it once the task is known."""
  sampler, learner = categorical(six_tasks(), 60, 1), bayes_categorical(six_tasks())
  measure = jax.jit(jax.vmap(lambda key: regret(learner, key, {}, sampler(key))))
  excess, bound = measure(jax.random.split(KEY, 200))
  assert (excess <= bound[:, None] + 1e-3).all()
  assert np.abs(excess[:, -1] - bound).mean() < 0.1


def test_beside_the_mixture_a_classifier_differs_by_the_divergence():
  """In nats, against the sum over classes by hand; and the mixture itself not at all."""
  learner, episode = bayes_categorical(six_tasks()), drawn(categorical(six_tasks(), 4))
  zeros = lambda fitted, x: jnp.zeros((len(x), 4))
  uniform = learner._replace(predict=zeros, prefixes=None)
  one_by_one = learner._replace(prefixes=None)

  def measure():
    itself, judged = (
      judge_beside(learner)(own, cross_entropy, {}, KEY, episode) for own in (learner, uniform)
    )
    outputs = predict_prefixes(one_by_one, KEY, {}, join(episode.support, episode.query))
    mixture, other = (
      judge_regret(own, cross_entropy, {}, KEY, episode) for own in (learner, uniform)
    )
    return itself, judged, outputs, mixture, other

  itself, judged, outputs, mixture, other = in_one_program(measure)
  assert np.abs(itself['difference']).max() < 1e-6
  best = softmax(outputs)
  np.testing.assert_allclose(judged['difference'], (best * np.log(4 * best)).sum(-1), atol=1e-5)
  own, known = (judged[name].sum() for name in ('loss', 'reference/loss'))
  assert other['regret'] - mixture['regret'] == pytest.approx(float(own - known), abs=1e-4)
  assert mixture['weight'] == pytest.approx(-float(episode.info['log_weight']))


def smoothed(share, logits, y):
  labels = optax.smooth_labels(jax.nn.one_hot(y, logits.shape[-1]), share)
  return optax.softmax_cross_entropy(logits, labels)


def test_any_classification_has_the_divergence_of_classifications():
  """Of a label-smoothed cross-entropy and a partial it was the squared difference of logits."""
  learner, episode = bayes_categorical(six_tasks()), drawn(categorical(six_tasks(), 4))
  uniform = learner._replace(predict=lambda fitted, x: jnp.zeros((len(x), 4)), prefixes=None)
  beside = lambda objective: judge_beside(learner)(uniform, objective, {}, KEY, episode)
  both = cross_entropy, classification(partial(smoothed, 0.1))
  expected, judged = in_one_program(lambda: [beside(objective) for objective in both])
  np.testing.assert_array_equal(judged['difference'], expected['difference'])
  assert (judged['reference/loss'] != expected['reference/loss']).any()
  with pytest.raises(ValueError, match='make an objective of it'):
    in_one_program(lambda: beside(partial(cross_entropy.judge)))


def test_the_regret_of_ignorance_grows():
  uniform = prototypical(identity, 4)._replace(
    prefixes=lambda key, params, examples: jnp.zeros((len(examples.y), 4))
  )
  episode = drawn(categorical(six_tasks(), 20, 1))
  excess, _ = in_one_program(lambda: regret(uniform, KEY, {}, episode))
  x, y = (np.concatenate([part[i] for part in episode[:2]]) for i in range(2))
  table = np.asarray(episode.info['log_probability'])
  expected = np.cumsum(table[x.argmax(1), y] + np.log(4))
  np.testing.assert_allclose(excess, expected, rtol=1e-4)


@pytest.mark.parametrize('wave', [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 3))])
def test_the_spectrum_of_a_wave_is_its_amplitude(wave):
  """Ridge on a Fourier basis, almost without noise, finds the wave that it was shown."""
  series = f.fourier(4, 5.0)
  x = np.linspace(-5, 5, 40, endpoint=False, dtype=np.float32)[:, None]
  # n half waves in [-L, L) are n periods of 2 L / n
  support = Examples(x, 1.5 * np.cos(2 * np.pi * wave * x / 10))
  amplitudes = in_one_program(
    lambda: spectrum(bayes(series, 0.0), KEY, {}, support=support, grid=jnp.asarray(x))
  )
  np.testing.assert_allclose(amplitudes, 1.5 * (np.arange(21) == wave), atol=0.01)


def test_the_state_is_what_predictions_can_depend_on():
  def size(model, count):
    learner, examples = (
      in_context(model, 3),
      Examples(np.zeros((count, 4), 'f'), np.zeros(count, 'i')),
    )
    params = jax.eval_shape(learner.init, KEY, Episode(examples, examples))
    return state_size(learner, params, examples)

  attention, lstm = transformer(3, width=8, depth=2, heads=2), recurrent(3, width=8, depth=2)
  # keys and values of two layers and a flag for each, one counter, and the last label
  assert [size(attention, n) for n in (1, 5)] == [n * 2 * (2 * 8 + 1) + 1 + 3 for n in (1, 5)]
  assert size(lstm, 1) == size(lstm, 5) == 2 * 2 * 8 + 3
  # MAML's state is all its adapted parameters.
  adapted = maml(mlp(3, width=4, depth=1), Descent(optax.sgd(0.1)))
  support = Examples(np.zeros((5, 4), 'f'), np.zeros(5, 'i'))
  params = jax.eval_shape(adapted.init, KEY, Episode(support, support))
  assert state_size(adapted, params, support) == 4 * 4 + 4 + 4 * 3 + 3


def random_transformer(depth=2, **options):
  model = transformer(3, width=8, depth=depth, heads=2, **options)
  rng = np.random.default_rng(0)
  episode = Episode(
    Examples(rng.normal(size=(6, 4)).astype('f'), np.tile(np.arange(3, dtype='i'), 2)),
    Examples(rng.normal(size=(2, 4)).astype('f'), np.zeros(2, 'i')),
  )
  shapes = jax.eval_shape(in_context(model, 3).init, KEY, episode)
  return model, jax.tree.map(lambda s: rng.normal(size=s.shape).astype('f'), shapes), episode


@pytest.mark.slow  # one layer by hand is quick, below
def test_likeness_is_a_cosine_and_chance_is_near_0():
  """Of layers in a scan; that of one alone is computed by hand below."""
  model, params, episode = random_transformer(scan=True)
  measure = lambda key: likeness_to_descent(model, 3, key, params=params, episode=episode)
  values = np.stack(in_one_program(lambda: jax.lax.map(measure, jax.random.split(KEY, 20))), 1)
  assert (np.abs(values) <= 1).all()
  assert np.ptp(values[:, 0]) < 1e-6  # the key draws the random change alone
  assert abs(values[:, 1].mean()) < 0.15


@pytest.mark.parametrize(
  ('attention', 'scan', 'depth'),
  [
    ('softmax', True, 2),
    *(
      pytest.param(*each, marks=pytest.mark.slow)
      for each in (('softmax', False, 2), ('momentum', False, 2), ('softmax', False, 11))
    ),
  ],
)
def test_attention_weights_are_those_that_average_the_values(attention, scan, depth):
  """Weights times cached values, and the rest times its own, is what a query attended to."""
  options = {'attention': attention, 'decay': 0.0, 'scan': scan, 'depth': depth}
  model, params, (support, query, _) = random_transformer(**options)
  asked = np.hstack([query.x, np.zeros((2, 3)), np.ones((2, 1))]).astype('f')
  nothing = np.zeros(2, int), np.zeros(0, bool)

  def measure():
    fitted = in_context(model, 3).adapt(KEY, params, support)
    shown = model.inspect(params, asked[:0], asked, *nothing, fitted[1])
    own, attended = (measures._shown(shown, name) for name in ('.value', 'attended'))
    return attention_to_support(model, fitted, query.x), fitted[1][1], own, attended

  weights, state, own, attended = in_one_program(measure)
  assert weights.shape == (depth, 2, 2, 6)
  value = getattr(state, 'cache', state).value
  rest = (1 - weights.sum(-1)).transpose(0, 2, 1)[..., None]
  expected = np.einsum('lhqk,lkhf->lqhf', weights, value) + rest * own
  np.testing.assert_allclose(attended, expected, atol=1e-4)


@pytest.mark.slow
def test_layers_are_in_their_order():
  """Layer 2 comes before layer 10, whose name is the lower."""
  model, params, (support, _, _) = random_transformer(11)
  _, state, _ = jax.eval_shape(in_context(model, 3).adapt, KEY, params, support)
  asked = np.zeros((2, 8), 'f')
  nothing = np.zeros(2, int), np.zeros(0, bool)
  shown = jax.eval_shape(model.inspect, params, asked[:0], asked, *nothing, state)
  layer = lambda path: jax.tree_util.keystr(path).partition('Block_')[2].partition("'")[0]
  filled = jax.tree_util.tree_map_with_path(
    lambda path, leaf: np.full(leaf.shape, int(layer(path)), leaf.dtype), shown
  )
  layers = in_one_program(lambda: measures._shown(filled, 'attended'))
  np.testing.assert_array_equal(layers[:, 0, 0, 0], np.arange(11))


def test_descent_changes_keys_and_values_alone():
  _, params, _ = random_transformer()
  kept = in_one_program(lambda: measures._keys_and_values(params))
  for path, leaf in jax.tree_util.tree_leaves_with_path(kept):
    changed = 'projections' in jax.tree_util.keystr(path)
    assert (leaf != 0).any() == changed
    if changed:
      assert (leaf[..., 0, :, :] == 0).all()
      assert (leaf[..., 1:, :, :] != 0).all()


def test_descent_is_gradient_descent_on_keys_and_values():
  """One example, one layer: the update by hand, and the cosine with what reading changes."""
  model, params, (support, query, _) = random_transformer(depth=1)
  one = jax.tree.map(lambda leaf: leaf[:1], support)
  learner, episode = in_context(model, 3), Episode(one, query)

  def loss(params):
    nothing = jax.tree.map(lambda leaf: leaf[:0], one)
    outputs = learner.predict(learner.adapt(KEY, params, nothing), one.x)
    return cross_entropy(outputs, one)[0]

  def attended(params, support):
    _, state, _ = learner.adapt(KEY, params, support)
    asked = np.hstack([query.x, np.zeros((2, 3)), np.ones((2, 1))]).astype('f')
    shown = model.inspect(params, asked[:0], asked, np.zeros(2, int), np.zeros(0, bool), state)
    return measures._shown(shown, 'attended')[0].reshape(2, -1)

  def measure():
    kept = measures._keys_and_values(jax.grad(loss)(params))
    tuned = jax.tree.map(lambda p, g: p - 0.01 * g, params, kept)
    nothing = jax.tree.map(lambda leaf: leaf[:0], one)
    before = attended(params, nothing)
    return attended(params, one) - before, attended(tuned, nothing) - before

  read, learned = in_one_program(measure)
  cosines = (read * learned).sum(1) / np.linalg.norm(read, axis=1) / np.linalg.norm(learned, axis=1)
  options = {'params': params, 'episode': episode, 'learning_rate': 0.01}
  found = in_one_program(lambda: likeness_to_descent(model, 3, KEY, **options))
  assert float(found.to_descent) == pytest.approx(cosines.mean(), abs=1e-3)
  assert abs(cosines.mean()) > 0.01  # a wrong sign would be seen


def mixture_of_two():
  function_class = f.gaussian_mixture(3)
  ((_, prior),) = function_class.priors
  return function_class, prior


def test_absent_examples_do_not_count():
  """Regret and mixture weight of an episode with padding are those without it."""
  learner, (support, query, info) = (
    bayes_categorical(six_tasks()),
    drawn(categorical(six_tasks(), 5)),
  )
  weighted = support._replace(weight=np.array([1, 1, 0, 0, 1], 'f'))
  kept = jax.tree.map(lambda leaf: leaf[np.array([0, 1, 4])], support)
  measure = lambda part: regret(learner, KEY, {}, Episode(part, query, info))[0][-1]
  excess = in_one_program(lambda: [measure(part) for part in (weighted, kept)])
  assert float(excess[0]) == pytest.approx(float(excess[1]), abs=1e-5)
  function_class, prior = mixture_of_two()
  support, query, _ = drawn(f.functions(function_class, 4, 32, noise=0.3))
  judge, absent = judge_mixture_weight(prior, 0.3), np.array([1, 0, 0, 0], 'f')
  short = Episode(support._replace(weight=absent), query)
  learner = bayes(function_class, 0.3)
  posterior = in_one_program(lambda: judge(learner, squared_error, {}, KEY, short))['posterior']
  np.testing.assert_allclose(posterior[1:], posterior[1], atol=1e-5)
  with pytest.raises(ValueError, match='queries=2 do not tell a weight'):
    few = Episode(support, jax.tree.map(lambda leaf: leaf[:2], query))
    judge(learner, squared_error, {}, KEY, few)


def test_a_network_without_attention_is_refused():
  with pytest.raises(ValueError, match='without attention'):
    likeness_to_descent(recurrent(3), 3, KEY, params={}, episode=random_transformer()[2])
  model, params, episode = random_transformer(attention='linear')
  adapt = lambda: in_context(model, 3).adapt(KEY, params, episode.support)
  with pytest.raises(ValueError, match='no attention weights'):
    attention_to_support(model, jax.eval_shape(adapt), episode.query.x)


@pytest.mark.parametrize(
  ('options', 'named'),
  [({'tasks': 0}, 'tasks=0'), ({'concentration': 0.0}, 'concentration'), ({'power': -1}, 'power')],
)
def test_what_makes_no_sense_is_refused(options, named):
  with pytest.raises(ValueError, match=named):
    categorical_tasks(**options)
  with pytest.raises(ValueError, match='shots=0'):
    categorical(six_tasks(), 0)


def test_the_bayes_predictor_implies_the_posterior_weight():
  """And a learner that believes in one component alone implies 1, whatever it has seen."""
  (function_class, prior), noise = mixture_of_two(), 0.3
  judge = judge_mixture_weight(prior, noise)
  first = prior._replace(
    mean=prior.mean[:1], variance=prior.variance[:1], log_weight=np.zeros(1, 'f')
  )
  convinced = bayes(function_class._replace(priors=((0.0, first),)), noise)

  @jax.jit
  def measure(seed):
    episode = f.functions(function_class, 4, 32, noise=noise)(jax.random.key(seed))
    learners = bayes(function_class, noise), convinced
    return episode, [judge(each, squared_error, {}, KEY, episode) for each in learners]

  for seed in range(3):
    episode, (judged, believed) = jax.device_get(measure(seed))
    assert judged['posterior'].shape == (5,) and judged['posterior'][0] == pytest.approx(0.5)
    np.testing.assert_allclose(judged['implied'], judged['posterior'], atol=1e-3)
    np.testing.assert_allclose(believed['implied'], 1, atol=1e-3)
    apart = np.abs(believed['implied'] - believed['posterior'])
    assert believed['mixture_weight'] == pytest.approx(apart.mean())
  # Bayes' rule by hand, after one example: the components differ in the mean of y alone.
  x, y = (np.asarray(leaf[0], np.float64) for leaf in episode.support[:2])
  variance = noise**2 + 1e-8 * x[0] ** 2 + np.square(x[1:]).sum()
  likelihood = np.exp(-0.5 * np.square(y[0] - 3 * x[0] * np.array([1, -1])) / variance)
  expected = likelihood[0] / likelihood.sum()
  assert judged['posterior'][1] == pytest.approx(expected, rel=1e-3)


def test_a_prior_of_three_components_has_no_one_weight():
  prior = f.Gaussians(lambda x: x, np.zeros(3), np.zeros((3, 2)), np.ones((3, 2)))
  with pytest.raises(ValueError, match='3 components'):
    mixture_weight(None, prior, 0.1, key=KEY, params={}, support=None, asked=None)
