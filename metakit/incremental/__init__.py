"""Learning of new classes in sessions, by a network that was trained on the base classes."""

from metakit.incremental.base_sessions import base_sessions, training_rows
from metakit.incremental.base_training import Tricks, base_learner
from metakit.incremental.equiangular import equiangular_frame
from metakit.incremental.pseudo_classes import mixed_pairs, pair_number
from metakit.incremental.subnetwork import (
  free_weights,
  least_sensitive,
  masked_descent,
  sensitivity,
  tuned_in_sessions,
)

__all__ = [
  'Tricks',
  'base_learner',
  'base_sessions',
  'equiangular_frame',
  'free_weights',
  'least_sensitive',
  'masked_descent',
  'mixed_pairs',
  'pair_number',
  'sensitivity',
  'training_rows',
  'tuned_in_sessions',
]
