"""A network made of an embedding and a last layer."""

import jax
import numpy as np

from metakit.networks.last_layer import init_last_layer, with_last_layer
from tests.learners.rows import KEY, perceptron


def test_the_last_layer_starts_from_a_key_of_its_own():
  """Not that which the body starts from, or both would begin with the same numbers."""
  params = with_last_layer(perceptron(None), 3).init(KEY, np.zeros((2, 4), np.float32))
  body_key, head_key = jax.random.split(KEY)
  for key, same in ((head_key, True), (body_key, False), (KEY, False)):
    kernel = init_last_layer(key, 8, 3)['kernel']
    assert np.array_equal(params['head']['kernel'], kernel) == same
