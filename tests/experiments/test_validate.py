"""The validation in the course of a training."""

from types import SimpleNamespace

import numpy as np
import pytest

from experiments import train
from metakit.divergence import NonFiniteLoss


def validated(losses, monkeypatch):
  monkeypatch.setattr(train, 'FLAGS', SimpleNamespace(seed=0, validation_episodes=len(losses)))
  monkeypatch.setattr(train, 'prepare', lambda *given: None)
  monkeypatch.setattr(train, 'per_episode', lambda tested, episodes: {'loss': np.array(losses)})
  return train.validate(SimpleNamespace(test_task=None), {}, 7)


def test_means_have_their_intervals(monkeypatch):
  found = validated([1.0, 3.0], monkeypatch)
  assert found == {'loss': 2.0, 'loss_ci95': pytest.approx(1.96, abs=1e-3)}


def test_one_loss_that_is_not_finite_stops_the_training(monkeypatch):
  with pytest.raises(NonFiniteLoss, match='the validation loss is not finite after step 7;'):
    validated([1.0, np.nan, 2.0], monkeypatch)
