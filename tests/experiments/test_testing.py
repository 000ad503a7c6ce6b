"""What is tested of a trained learner."""

import jax
import numpy as np

from experiments import testing
from experiments.setup import make_setup
from metakit.episodes.few_shot import sampler_of
from tests.experiments.test_setup import parsed


def test_a_curve_over_inner_steps_of_a_learner_of_features(monkeypatch):
  """Its table is embedded once; after as many steps as its spec says the curve is the result."""
  monkeypatch.setattr(testing, 'CURVE_STEPS', (0, 3))
  monkeypatch.setattr(testing, 'CURVE_EPISODES', 8)
  task = '--task=glyphs:ways=3,shots=1,queries=4'
  learner = '--learner=anil:inner_steps=2,test_steps=3,protocol=inductive'
  setup = make_setup(parsed([task, learner, '--network=conv4:width=4']), '', budget_gib=1)
  made = setup.learner(setup.test_task)
  params = made.init(jax.random.key(0), sampler_of(setup.task.source('train'))(jax.random.key(1)))
  tested = testing.prepare(setup, params, setup.test_task, 'test', seed=0)
  assert tested.quick[0] is not tested.learner
  before, after = testing.adaptation_curves(setup, tested, 8).learner
  assert (before.amount, after.amount) == (0, 3) and before.mean != after.mean
  assert np.isclose(after.mean, testing.per_episode(tested, 8)['accuracy'].mean(), atol=1e-6)
