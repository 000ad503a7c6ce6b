"""What is tested of a trained learner."""

import jax
import numpy as np
import pytest

from experiments.runs import evaluation
from experiments.runs.setup import make_setup
from experiments.runs.wrap_up import say_not_finite
from tests.experiments.commands import images_file
from tests.experiments.runs.test_setup import parsed


def initial(learner, setup):
  source = setup.task.source('train')
  return jax.jit(lambda key: learner.init(key, source(key)))(jax.random.key(0))


@pytest.fixture(scope='module')
def prototypes(tmp_path_factory):
  """A learner without training; (setup, Tested)."""
  path = images_file(tmp_path_factory.mktemp('data'))
  spec = f'--task=arrays:path={path},ways=3,shots=1,queries=1'
  setup = make_setup(parsed([spec, '--network=mlp:width=4']), '', budget_gib=1)
  made = setup.learner(setup.test_task)
  params = initial(made, setup)
  return setup, evaluation.prepare(setup, params, setup.test_task, split='test', seed=0)


def test_progress_changes_no_bit_and_counts_every_chunk_but_the_last(prototypes):
  told, tested = [], prototypes[1]
  plain, watched = (
    evaluation.per_episode(tested, 150),
    evaluation.per_episode(tested, 150, told.append),
  )
  assert told == [64, 128]
  for name in plain:
    np.testing.assert_array_equal(plain[name], watched[name])


def test_a_curve_is_whole_short_or_left_out(prototypes, monkeypatch, capsys):
  monkeypatch.setattr(evaluation, 'CURVE_EPISODES', 6)
  monkeypatch.setattr(evaluation, 'SHORT_EPISODES', 4)
  whole = evaluation.adaptation_curves(*prototypes, 8)
  assert [int(point.amount) for point in whole.learner] == [1, 2, 3, 5]  # of six, one is a query
  assert 'adaptation curve: 4 points x 6 episodes\n' in capsys.readouterr().err
  short = evaluation.adaptation_curves(*prototypes, 8, curve='short')
  assert ([int(point.amount) for point in short.learner], short.episodes) == ([1, 5], 4)
  assert 'adaptation curve: 2 points x 4 episodes\n' in capsys.readouterr().err
  assert evaluation.adaptation_curves(*prototypes, 8, curve='none').learner == []
  assert capsys.readouterr().err == ''


def test_what_is_not_finite_is_said_once(prototypes, monkeypatch, capsys):
  """By the command; the library would warn for the test and for each point of a curve."""
  monkeypatch.setattr(evaluation, 'CURVE_EPISODES', 4)
  setup, tested = prototypes
  broken = tested._replace(source=tested.source, quick=(tested.learner, tested.source))
  broken = broken._replace(params=jax.tree.map(lambda leaf: leaf * np.nan, tested.params))
  values = evaluation.per_episode(broken, 8)
  evaluation.adaptation_curves(setup, broken, 8)
  capsys.readouterr()
  say_not_finite(values)
  assert capsys.readouterr().err.count('8 of 8 episodes have a loss that is not finite; ') == 1
  say_not_finite(evaluation.per_episode(tested, 4))
  assert capsys.readouterr().err == ''


@pytest.mark.slow
def test_a_curve_over_inner_steps_of_a_learner_of_features(tmp_path, monkeypatch):
  """Its table is embedded once; after as many steps as its spec says the curve is the result."""
  monkeypatch.setattr(evaluation, 'CURVE_STEPS', (0, 3))
  monkeypatch.setattr(evaluation, 'CURVE_EPISODES', 8)
  task = f'--task=arrays:path={images_file(tmp_path)},ways=3,shots=1,queries=4'
  learner = '--learner=anil:inner_steps=2,test_steps=3,protocol=inductive'
  setup = make_setup(parsed([task, learner, '--network=conv4:width=4,depth=1']), '', budget_gib=1)
  made = setup.learner(setup.test_task)
  params = initial(made, setup)
  tested = evaluation.prepare(setup, params, setup.test_task, split='test', seed=0)
  assert tested.quick[0] is not tested.learner
  before, after = evaluation.adaptation_curves(setup, tested, 8).learner
  assert (before.amount, after.amount) == (0, 3) and before.mean != after.mean
  assert np.isclose(after.mean, evaluation.per_episode(tested, 8)['accuracy'].mean(), atol=1e-6)
