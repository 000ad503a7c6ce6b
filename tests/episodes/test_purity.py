"""Samplers that are no functions of their key are noticed before they are compiled."""

import jax
import numpy as np
import optax
import pytest

from metakit.episodes.purity import check_sampler
from metakit.evaluation import evaluate
from metakit.heads import prototypes
from metakit.objectives import cross_entropy
from metakit.sources import EpisodeSource
from metakit.train import init_state
from metakit.types import Episode, Examples

KEY = jax.random.key(0)
GENERATOR = np.random.default_rng(0)
LABELS = np.arange(3)


def episode(x):
  return Episode(Examples(x, LABELS), Examples(x + 0.1, LABELS))


def global_numpy(key):
  return episode(np.random.normal(size=(3, 2)).astype(np.float32))  # noqa: NPY002


def own_generator(key):
  return episode(GENERATOR.normal(size=(3, 2)).astype(np.float32))


IMPURE = {'global': global_numpy, 'own': own_generator, 'compiled': jax.jit(global_numpy)}
PURE = {
  'of its key': lambda key: episode(jax.random.normal(key, (3, 2))),
  'constant': lambda key: episode(np.zeros((3, 2), np.float32)),
  'compiled constant': jax.jit(lambda key: episode(np.full((3, 2), -0.0, np.float32))),
}


@pytest.mark.parametrize('name', IMPURE)
def test_a_sampler_that_draws_without_its_key_is_refused(name):
  said = 'two episodes for one key.*draw with jax.random'
  with pytest.raises(ValueError, match=said):
    init_state(prototypes(3), optax.sgd(0.1), KEY, IMPURE[name])
  with pytest.raises(ValueError, match=said):
    evaluate(
      prototypes(3), cross_entropy, {}, source=EpisodeSource(IMPURE[name]), root=KEY, episodes=2
    )


@pytest.mark.parametrize('name', PURE)
def test_functions_of_a_key_and_constants_pass(name):
  check_sampler(PURE[name], KEY)
  jax.eval_shape(lambda key: check_sampler(PURE[name], key), KEY)
  evaluate(prototypes(3), cross_entropy, {}, source=EpisodeSource(PURE[name]), root=KEY, episodes=2)
