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
CONSTANT = {
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


def evaluated(sampler, episodes=2):
  source = EpisodeSource(sampler)
  evaluate(prototypes(3), cross_entropy, {}, source=source, root=KEY, episodes=episodes)


def of_its_key(key):
  return episode(jax.random.normal(key, (3, 2)))


def rarely_another(key):
  """As of a table with few rows: two episodes are often equal."""
  return episode(jax.random.bernoulli(key, 0.3) * np.ones((3, 2), np.float32))


def of_its_finish(key):
  """A plan whose rows are the same, for a source that turns them by what `info` holds."""
  return episode(np.ones((3, 2), np.float32))._replace(info={'turn': jax.random.normal(key)})


@pytest.mark.parametrize('sampler', [of_its_key, rarely_another, of_its_finish])
def test_functions_of_a_key_pass(sampler):
  for number in range(4):
    check_sampler(sampler, jax.random.key(number))
  jax.eval_shape(lambda key: check_sampler(sampler, key), KEY)
  evaluated(sampler)


@pytest.mark.parametrize('name', CONSTANT)
def test_one_episode_for_every_key_is_a_warning(name):
  """And no more, since there may be only one task."""
  said = '^the sampler gives the same episode for every key; draw with jax.random, from its key, or'
  with pytest.warns(UserWarning, match=said) as warned:
    init_state(prototypes(3), optax.sgd(0.1), KEY, CONSTANT[name])
  assert len(warned) == 1 and warned[0].filename == __file__
  with pytest.warns(UserWarning, match=said):
    evaluated(CONSTANT[name])
  evaluated(CONSTANT[name], episodes=1)
  jax.eval_shape(lambda key: check_sampler(CONSTANT[name], key), KEY)
