"""metakit: meta-learning in JAX.

A task is a pure function of a key, a learner is a tuple of pure functions, and everything else
(batching, devices, checkpoints, evaluation) is written once and composes with both.
"""

from metakit.compiler import turn_off_wrong_fusions, used_a_cpu
from metakit.dispatch import Dispatch, make_dispatch, train_until
from metakit.estimates import Estimate, compare, estimate
from metakit.evaluate import calibrate, embed_source, evaluate
from metakit.keys import Roots, roots, task_key
from metakit.models import Model, from_linen, from_nnx
from metakit.objectives import cross_entropy, squared_error
from metakit.sources import EpisodeSource
from metakit.train import TrainState, init_state, make_train_step
from metakit.types import Episode, Examples, Features, MetaLearner, Sampler

__all__ = [
  'Dispatch',
  'Episode',
  'EpisodeSource',
  'Estimate',
  'Examples',
  'Features',
  'MetaLearner',
  'Model',
  'Roots',
  'Sampler',
  'TrainState',
  'calibrate',
  'compare',
  'cross_entropy',
  'embed_source',
  'estimate',
  'evaluate',
  'from_linen',
  'from_nnx',
  'init_state',
  'make_dispatch',
  'make_train_step',
  'roots',
  'squared_error',
  'task_key',
  'train_until',
]

turn_off_wrong_fusions(late=used_a_cpu())  # before anything asks for a device
