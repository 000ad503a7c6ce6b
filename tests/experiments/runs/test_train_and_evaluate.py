"""Parts of the commands train and evaluate, without a process of their own."""

from types import SimpleNamespace

import numpy as np
import pytest

from experiments.runs import evaluate, train
from metakit.divergence import NonFiniteLoss


def validated(losses, monkeypatch):
  options = SimpleNamespace(seed=0, validation_episodes=len(losses))
  monkeypatch.setattr(train, 'prepare', lambda *given, **named: None)
  monkeypatch.setattr(train, 'per_episode', lambda tested, episodes: {'loss': np.array(losses)})
  return train.validate(SimpleNamespace(test_task=None), {}, 7, options=options)


def test_means_of_a_validation_have_their_intervals(monkeypatch):
  found = validated([1.0, 3.0], monkeypatch)
  assert found == {'loss': 2.0, 'loss_ci95': pytest.approx(1.96, abs=1e-3)}


def test_one_validation_loss_that_is_not_finite_stops_the_training(monkeypatch):
  with pytest.raises(NonFiniteLoss, match='the validation loss is not finite after step 7;'):
    validated([1.0, np.nan, 2.0], monkeypatch)


def test_a_learner_is_tested_with_the_arguments_that_are_asked_for():
  trained = 'maml:inner_steps=1,mode=unroll'
  assert evaluate.same_learner(trained, None) == trained
  assert evaluate.same_learner(trained, 'maml:inner_steps=5') == f'{trained},inner_steps=5'
  with pytest.raises(ValueError, match='is another learner'):
    evaluate.same_learner(trained, 'anil')
