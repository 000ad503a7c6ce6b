"""A learner is told apart from guessing and from its untrained network, on the same episodes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.output.text import format_baselines
from experiments.runs import evaluation, learned
from experiments.runs.report_of import answers_of
from experiments.runs.seen import FREQUENT, MEAN, ZERO, guess, see
from experiments.runs.setup import make_setup
from metakit.keys import roots
from metakit.objectives import cross_entropy, squared_error
from metakit.training import begin
from metakit.types import Episode, Examples
from tests.experiments.runs.test_setup import parsed

INFORMATIVE = 4  # numbers of an example; the others are noise


@pytest.fixture(scope='module')
def setup(tmp_path_factory):
  random = np.random.default_rng(0)
  x = 30 * random.normal(size=(20, 20, 40))
  x[..., :INFORMATIVE] = 10 * random.normal(size=(20, 1, INFORMATIVE)) + 5 * random.normal(
    size=(20, 20, INFORMATIVE)
  )
  path = tmp_path_factory.mktemp('data') / 'noisy.npz'
  np.savez(path, x=x.reshape(400, 40).astype(np.float32), y=np.repeat(np.arange(20), 20))
  flags = [f'--task=arrays:path={path},ways=3,shots=1,queries=4', '--network=mlp:width=8,depth=1']
  return make_setup(parsed(flags), '', budget_gib=1)


def with_params(setup, change):
  """The initial parameters, changed, ready for a test."""
  learner, source = setup.learner(setup.task), setup.task.source('train')
  state = begin(learner, learned.make_optimizer(setup.specs), source, roots(0))
  params = jax.tree.map(change, state.params)
  return evaluation.prepare(setup, params, setup.test_task, split='test', seed=0)


def quiet_noise(leaf):
  """Takes the noise out of the first layer, as training would."""
  return np.asarray(leaf) * (np.arange(40) < INFORMATIVE)[:, None] if len(leaf) == 40 else leaf


def test_a_good_learner_is_better_and_an_unchanged_one_is_not(setup, capsys):
  good, idle = with_params(setup, quiet_noise), with_params(setup, np.asarray)
  seen = see(good, 1000)
  assert len(seen.y) == 200
  known = learned.beside_baselines(setup, good, seen)
  learned.say_learned(known)
  assert 'no better' not in capsys.readouterr().err and format_baselines(known) == []
  assert known['guessing']['mean'] == pytest.approx(1 / 3) and known['untrained']['episodes'] == 100
  values = evaluation.per_episode(good, 100)['accuracy']
  before = evaluation.per_episode(idle, 100)['accuracy']
  assert known['untrained']['gain'] == pytest.approx((values - before).mean(), abs=1e-6)
  learned.say_learned(learned.beside_baselines(setup, idle, see(idle, 100)))
  said = capsys.readouterr().err
  assert 'is no better than the same network untrained' in said and 'better by 0.00 ± 0.00%' in said


def test_answers_are_those_that_the_metrics_judge(setup):
  good = with_params(setup, quiet_noise)
  seen = see(good, 30)
  answers = answers_of(good, seen)
  accuracy = [answers.right[answers.episode == number].mean() for number in range(30)]
  np.testing.assert_allclose(accuracy, seen.metrics['accuracy'], atol=1e-6)
  for number in range(30):
    ways = answers.ways[number]
    assert set(answers.predicted[answers.episode == number]) <= set(ways)
    np.testing.assert_array_equal(np.unique(answers.true[answers.episode == number]), np.sort(ways))


def test_guesses_by_hand():
  """Two classes have two examples each, once padding and what has no label are left out."""
  support = Examples(
    jnp.zeros(8), jnp.array([0, 0, 1, 1, 2, 2, 2, -1]), jnp.array([1.0] * 5 + [0, 0, 1])
  )
  query = Examples(jnp.zeros(5), jnp.array([0, 1, 2, 2, -1]))
  found = guess(cross_entropy, jnp.zeros((5, 3)), Episode(support, query))
  assert found[FREQUENT] == pytest.approx((0.5 + 0.5) / 4)
  support = Examples(jnp.zeros(3), jnp.array([[1.0], [3.0], [99.0]]), jnp.array([1.0, 1.0, 0.0]))
  query = Examples(jnp.zeros(2), jnp.array([[2.0], [4.0]]))
  found = guess(squared_error, jnp.zeros((2, 1)), Episode(support, query))
  assert found[MEAN] == pytest.approx(2.0) and found[ZERO] == pytest.approx(10.0)
