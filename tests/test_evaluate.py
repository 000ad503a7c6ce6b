import functools
import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metakit import (
  Episode,
  EpisodeSource,
  Examples,
  compare,
  cross_entropy,
  embed_source,
  estimate,
  evaluate,
  roots,
  task_key,
)
from metakit.estimates import IDENTITY
from metakit.evaluation import (
  calibrate,
  judge_gain,
  judge_prefixes,
  judge_queries,
  not_finite,
  usual_chunk,
)
from metakit.evaluation.calibration import _measurer
from metakit.evaluation.kept import keep_programs_of
from metakit.heads import prototypes
from metakit.keys import learner_key
from metakit.learners.embedded import embedded
from metakit.models import Model
from metakit.objectives import squared_error
from metakit.sources import gather_rows
from metakit.types import MetaLearner
from tests import tiny
from tests.tiny import WAYS

ROOT = roots(3).test
SLOW = partial(pytest.param, marks=pytest.mark.slow)


tiny_source = functools.cache(tiny.source)  # `evaluate` keeps the programs of a source


@functools.cache
def calibrated(name):
  learner, source = tiny.learners()[name], tiny_source()

  @jax.jit
  def made():
    params = learner.init(jax.random.key(0), source(jax.random.key(1)))
    return calibrate(learner, params, source, root=roots(3).calibration)

  return learner, made()


def losses(learner, params, source, episodes=10, chunk=4):
  return evaluate(
    learner, cross_entropy, params, source=source, root=ROOT, episodes=episodes, chunk=chunk
  )['loss']


@pytest.mark.parametrize('name', [SLOW('maml'), 'drawing'])
def test_episode_i_is_made_from_the_key_of_seed_and_index(name):
  learner, params = calibrated(name)
  source = tiny_source()

  @jax.jit
  def loss(key, planned, data):
    episode = gather_rows(planned, data)
    fitted = learner.adapt(key, params, episode.support)
    return cross_entropy(learner.predict(fitted, episode.query.x), episode.query)[0]

  expected = []
  for i in range(5):
    planned = source.plan(task_key(ROOT, 0, i))
    expected.append(loss(learner_key(ROOT, i), planned, source.data))
  np.testing.assert_allclose(losses(learner, params, source, 5), expected, rtol=1e-5)


def test_every_validation_calibrates_with_one_program():
  """Parameters are its arguments: as constants, each validation would compile anew."""
  learner, params = calibrated('mlp')
  source = tiny_source()
  for each in params, jax.device_put(jax.tree.map(np.zeros_like, params)):
    calibrate(learner, each, source, root=ROOT)
  assert _measurer(learner.calibrate, source.plan, source.finish)._cache_size() == 1


def test_the_chunk_size_does_not_matter():
  learner, params = calibrated('mlp')
  results = [losses(learner, params, tiny_source(), 10, chunk) for chunk in (1, 3, None)]
  for each in results[1:]:
    np.testing.assert_allclose(each, results[0], rtol=1e-5)
  assert len(results[0]) == 10


@pytest.mark.parametrize(('numbers', 'chunk'), [(64, 64), (2**17, 4), (2**30, 1)])
def test_on_a_cpu_large_episodes_are_evaluated_few_at_a_time(numbers, chunk):
  half = lambda: Examples(jnp.zeros((1, numbers // 2)), jnp.zeros(1, int))
  assert usual_chunk(EpisodeSource(lambda key: Episode(half(), half()))) == chunk


@pytest.mark.parametrize(
  ('parallel', 'on_device'),
  [
    ('shard_map', True),
    *(SLOW(*c) for c in (('shard_map', False), ('pmap', True), ('pmap', False))),
  ],
)
def test_eight_devices_give_what_one_gives(parallel, on_device):
  learner, params = calibrated('drawing')
  judge = partial(
    evaluate, learner, cross_entropy, params, source=tiny_source(on_device), root=ROOT, episodes=13
  )
  one, eight = judge(chunk=2), judge(chunk=2, parallel=parallel)
  np.testing.assert_allclose(eight['loss'], one['loss'], rtol=1e-5)
  assert len(eight['loss']) == 13


def test_the_first_episodes_do_not_depend_on_how_many_there_are():
  learner, params = calibrated('mlp')
  few, many = (losses(learner, params, tiny_source(), n) for n in (6, 20))
  np.testing.assert_array_equal(few, many[:6])


def test_episodes_read_by_the_host_are_the_same():
  learner, params = calibrated('mlp')
  device, host = (losses(learner, params, tiny_source(where)) for where in (True, False))
  assert len(set(device)) > 5
  np.testing.assert_array_equal(device, host)


@pytest.mark.parametrize('on_device', [True, SLOW(False)])
def test_embedding_the_table_once_changes_no_prediction(on_device):
  learner, params = calibrated('prototypical')
  source = tiny_source(on_device)
  head, embedded = embed_source(learner, params, source, chunk=50)  # 96 rows: a padded chunk
  assert embedded.data.shape == (96, 16)
  slow = evaluate(learner, cross_entropy, params, source=source, root=ROOT, episodes=20)
  quick = evaluate(head, cross_entropy, params, source=embedded, root=ROOT, episodes=20)
  np.testing.assert_allclose(quick['loss'], slow['loss'], rtol=1e-4)
  np.testing.assert_array_equal(quick['accuracy'], slow['accuracy'])


def test_a_learner_that_cannot_be_embedded_is_left_alone():
  learner, params = calibrated('maml')
  source = tiny_source()
  assert embed_source(learner, params, source) == (learner, source)


def test_rows_that_are_still_to_be_finished_are_not_embedded_before():
  learner, params = calibrated('prototypical')
  dimmed = lambda examples: examples._replace(x=examples.x // 2)
  finish = lambda e: e._replace(support=dimmed(e.support), query=dimmed(e.query))
  source = tiny_source().replace(finish=finish)
  assert embed_source(learner, params, source) == (learner, source)


def test_the_gain_is_of_the_last_example_over_the_first():
  """Of accuracies; in a regression, by how much the loss falls."""
  labels = Examples(np.zeros((3, 1)), np.zeros(3, np.int32))
  episode = Episode(labels, jax.tree.map(lambda leaf: leaf[:1], labels))
  outputs = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]], 'f')
  stub = tiny.learners()['in_context']._replace(prefixes=lambda key, params, examples: outputs)
  gain = lambda stub, objective, episode: jax.jit(
    lambda: judge_gain(stub, objective, {}, ROOT, episode)['gain']
  )()
  assert gain(stub, cross_entropy, episode) == 1
  curve = Examples(np.zeros((3, 1)), np.zeros((3, 1)))
  episode = Episode(curve, jax.tree.map(lambda leaf: leaf[:1], curve))
  stub = stub._replace(prefixes=lambda *_: np.array([[2.0], [3.0], [1.0], [1.0]], 'f'))
  assert gain(stub, squared_error, episode) == 3


def test_calibration_changes_the_statistics_alone():
  learner, source = tiny.learners()['prototypical'], tiny_source()
  before = jax.jit(learner.init)(jax.random.key(0), source(jax.random.key(1)))
  device = calibrate(learner, before, source, root=ROOT)
  host = calibrate(learner, before, tiny_source(on_device=False), root=ROOT)
  jax.tree.map(np.testing.assert_array_equal, device['body']['params'], before['body']['params'])
  assert not np.allclose(jax.tree.leaves(device['body']['statistics'])[0], 0)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), device, host)


def test_calibrating_again_plans_by_the_same_program():
  (learner, params), source, calls = calibrated('mlp'), tiny_source(), []

  def plan(key):
    calls.append(key)
    return source.plan(key)

  again = source.replace(plan=plan)
  for root in (ROOT, roots(4).test):
    calibrate(learner, params, again, root=root)
  assert len(calls) == 1


def test_the_interval_is_that_of_the_mean():
  values = np.arange(10.0)
  mean, ci95, episodes = estimate(values)
  assert (mean, episodes) == (4.5, 10)
  assert ci95 == pytest.approx(1.959964 * values.std(ddof=1) / np.sqrt(10), rel=1e-6)
  assert estimate([1.0]).ci95 == np.inf


def test_the_interval_covers_the_true_mean_95_times_in_100():
  random = np.random.default_rng(0)
  estimates = [estimate(random.normal(size=200)) for _ in range(2000)]
  covered = np.mean([abs(e.mean) < e.ci95 for e in estimates])
  assert 0.935 < covered < 0.965


def test_a_paired_comparison_sees_a_difference_that_the_two_intervals_hide():
  random = np.random.default_rng(0)
  episode = random.normal(size=500)
  one, other = episode + 0.01, episode + 0.001 * random.normal(size=500)
  difference = compare(one, other)
  assert difference.mean == pytest.approx(0.01, abs=1e-3)
  assert difference.ci95 < 1e-3 < estimate(one).ci95


@pytest.mark.parametrize('call', [lambda: estimate([]), lambda: compare([1.0], [1.0, 2.0])])
def test_values_that_mean_nothing_are_refused(call):
  with pytest.raises(ValueError, match='values'):
    call()


def test_no_episodes_are_refused():
  learner, params = calibrated('mlp')
  with pytest.raises(ValueError, match='episodes=0'):
    losses(learner, params, tiny_source(), 0)


@pytest.mark.parametrize('parallel', ['none', 'pmap', SLOW('shard_map')])
def test_a_learner_is_compiled_once_and_judged_with_the_parameters_given(parallel):
  learner, params = calibrated('mlp')
  source, traced, counts = tiny_source(), [], []

  def judge(*given):
    traced.append(given)
    return judge_queries(*given)

  run = partial(evaluate, learner, cross_entropy, source=source, episodes=5, chunk=4)
  others = jax.tree.map(lambda leaf: 2 * leaf, params)
  for trained, root in ((params, ROOT), (others, roots(4).test)):
    ours = run(trained, root=root, parallel=parallel, judge=judge)
    counts.append(len(traced))
    np.testing.assert_allclose(ours['loss'], run(trained, root=root)['loss'], rtol=1e-5)
  assert counts[0] == counts[1]


def test_a_judge_that_cannot_be_hashed_is_compiled_each_time():
  learner, params = calibrated('mlp')

  class Named(dict):
    def __call__(self, *given):
      return judge_queries(*given)

  run = partial(
    evaluate, learner, cross_entropy, params, source=tiny_source(), root=ROOT, episodes=5, chunk=4
  )
  np.testing.assert_array_equal(run(judge=Named())['loss'], run()['loss'])


@pytest.mark.parametrize('judge', [judge_queries, SLOW(judge_prefixes)])
def test_predictions_that_are_not_finite_are_wrong_and_said_to_be(judge):
  learner, params = calibrated('mlp')
  broken = jax.tree.map(lambda leaf: leaf * np.nan, params)
  run = partial(evaluate, learner, cross_entropy, source=tiny_source(), root=ROOT, judge=judge)
  said = (
    r'^5 of 5 episodes have a loss that is not finite; predictions that are not finite count as '
  )
  with pytest.warns(UserWarning, match=said) as warned:
    values = run(broken, episodes=5)
  assert len(warned) == 1 and warned[0].filename == __file__
  assert not values['accuracy'].reshape(5, -1)[:, -1].any()  # before any example no class is there
  run(broken, episodes=5, warn=False)
  run(params, episodes=5)


def test_losses_that_are_not_finite_are_counted_by_episode():
  assert not_finite({'loss': np.array([1.0, 2.0])}) == not_finite({'accuracy': np.zeros(2)}) == ''
  assert not_finite({'loss': np.array([1.0, np.inf, np.nan])}).startswith('2 of 3 episodes')
  assert not_finite({'loss': np.array([[np.nan, np.nan], [0, 0]])}).startswith('1 of 2 episodes')


def test_an_estimate_of_what_is_not_finite_has_no_interval():
  """And no warning, which every test takes for an error."""
  mean, ci95, episodes = estimate([1.0, np.inf])
  assert (mean, episodes) == (np.inf, 2) and np.isnan(ci95)


def guesses(key):
  """Labels that a sampler draws of its second key, and a learner of the key it is given."""
  return jax.random.randint(key, (40,), 0, WAYS, jnp.int32)


def lottery(key):
  """An episode whose labels have nothing to do with its inputs."""
  examples = Examples(jnp.zeros((40, 1)), guesses(jax.random.split(key)[1]))
  return Episode(examples, examples)


@pytest.mark.parametrize('judge', [judge_queries, SLOW(judge_prefixes), judge_gain])
def test_a_learner_cannot_know_what_the_sampler_draws(judge):
  """split(key)[1] is fold_in(key, 1): whoever is given the latter has the former."""
  answer = lambda key, count: jax.nn.one_hot(guesses(key)[jnp.arange(count) % 40], WAYS)
  blind = MetaLearner(
    init=lambda key, episode: {},
    adapt=lambda key, params, support: key,
    predict=lambda key, x: answer(key, len(x)),
    loss=lambda key, params, episode: (0.0, {}),
    prefixes=lambda key, params, examples: answer(key, len(examples.y)),
  )
  values = evaluate(
    blind, cross_entropy, {}, source=EpisodeSource(lottery), root=ROOT, episodes=20, judge=judge
  )
  assert 0.1 < values['accuracy'].mean() < 0.6  # a third, by chance


def test_network_and_head_start_from_keys_of_their_own():
  """Whatever small number, or part of a split, the network takes for its own arrays."""
  seen = []
  numbers = lambda key: tuple(jax.random.key_data(key).tolist())
  network = Model(lambda key, x: {}, lambda params, x, weight=None: x)
  head = prototypes(WAYS)._replace(init=lambda key, episode: seen.append(numbers(key)) or {})
  episode = Episode(*2 * [Examples(jnp.zeros((3, 2)), jnp.arange(3))])
  key = jax.random.key(0)
  embedded(network, head).init(key, episode)
  assert seen[0] not in {numbers(jax.random.fold_in(key, i)) for i in range(100)} | {numbers(key)}


def test_files_of_other_episodes_are_not_compared(tmp_path):
  """Those of one task, split and seed are, whatever else differs; older ones name nothing."""
  identity = {'episodes': 'a5', 'root': [1, 2], 'generator': 'threefry2x32'}

  def file(name, accuracy, **changed):
    said = np.array(json.dumps(identity | changed))
    np.savez(tmp_path / name, accuracy=np.array(accuracy), **{IDENTITY: said})
    return tmp_path / f'{name}.npz'

  ours = file('ours', [1.0, 0.5])
  assert compare(ours, file('theirs', [0.5, 0.5])).mean == 0.25
  np.savez(tmp_path / 'old.npz', accuracy=np.array([0.5, 0.5]))
  assert compare(ours, str(tmp_path / 'old.npz')).mean == 0.25
  for changed in ({'root': [1, 3]}, {'episodes': 'b6'}):
    with pytest.raises(ValueError, match=f'other episodes: their {next(iter(changed))} is'):
      compare(ours, file('others', [0.5, 0.5], **changed))


def test_a_difference_is_as_small_as_it_is():
  assert compare([1e-13, 3e-13], [0.0, 0.0]).mean == pytest.approx(2e-13)


def test_twenty_tests_in_turn_make_their_programs_once():
  """A comparison of ten heads once compiled each of them anew in every round."""
  made = []
  kept = keep_programs_of(lambda part: made.append(part))
  for _ in range(3):
    for part in range(20):
      kept(part)
  assert made == list(range(20))
  kept([0]), kept([0])  # cannot be hashed
  assert made[20:] == [[0], [0]]
