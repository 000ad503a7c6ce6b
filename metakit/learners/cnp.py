"""Conditional neural process: the mean of encoded examples, and a network that predicts from it.

Marta Garnelo, Dan Rosenbaum, Christopher Maddison, Tiago Ramalho, David Saxton, Murray Shanahan,
Yee Whye Teh, Danilo Rezende, S. M. Ali Eslami, Conditional Neural Processes, ICML 2018,
arXiv:1807.01613. Implemented: eqs. 1 to 3, r_i = h(x_i, y_i), r = (r_1 + ... + r_n) / n and
outputs = g(x, r), and the loss of eq. 4, the mean negative log density of the targets. Deviations:
targets are the query alone, while the paper's also hold the context; the mean of no examples is 0.

Changes in a task: one vector, the mean of the encoded examples.
"""

import jax
import jax.numpy as jnp

from metakit.builder import meta_learner
from metakit.learners.in_context import flat
from metakit.learners.set_parts import NORMAL, mean_of, pairs, weighted_sum, weights_of
from metakit.networks.mlp import mlp
from metakit.sizes import check_positive
from metakit.types import Episode, Examples, Fitted, Key, MetaLearner, Objective, Params


def cnp(
  num_outputs: int,
  width: int = 128,
  depth: int = 3,
  *,
  decoder_depth: int = 4,
  objective: Objective = NORMAL,
) -> MetaLearner:
  """Predicts from the mean of encoded examples.

  Args:
    num_outputs: size of the targets, or number of classes.
    width: units of the hidden layers, and size of the mean.
    depth: hidden layers of the encoder.
    decoder_depth: hidden layers of the decoder.
    objective: of the outputs; a normal density by default.

  Returns:
    A MetaLearner with networks of its own, whose fitted hold a sum and the number of examples. So
    `extend` costs as much as the new examples alone.

  Raises:
    ValueError: if a size is not positive.

  >>> learner, x = cnp(num_outputs=1), jnp.ones((5, 1))
  >>> params = learner.init(jax.random.key(0), Episode(Examples(x, x), Examples(x, x)))
  >>> learner.predict(learner.adapt(jax.random.key(0), params, Examples(x, x)), x).shape
  (5, 2)
  """
  check_positive(num_outputs=num_outputs, width=width, depth=depth, decoder_depth=decoder_depth)
  encoder = mlp(width, width, depth)
  decoder = mlp(num_outputs * objective.outputs_per_target, width, decoder_depth)

  def init(key: Key, episode: Episode) -> Params:
    encoder_key, decoder_key = jax.random.split(key)
    both = pairs(episode.support, num_outputs)
    mean = jnp.zeros(width, both.dtype)
    return {
      'encoder': encoder.init(encoder_key, both),
      'decoder': decoder.init(decoder_key, flat(episode.support.x), mean),
    }

  def sums(params: Params, examples: Examples) -> tuple[jax.Array, jax.Array]:
    encoded = encoder.apply(params['encoder'], pairs(examples, num_outputs))
    return weighted_sum(encoded, weights_of(examples, encoded))

  def adapt(key: Key, params: Params, support: Examples) -> Fitted:
    del key  # nothing is drawn
    return params, *sums(params, support)

  def extend(fitted: Fitted, more: Examples) -> Fitted:
    params, total, number = fitted
    new_total, new_number = sums(params, more)
    return params, total + new_total, number + new_number

  def predict(fitted: Fitted, x: jax.Array) -> jax.Array:
    params, total, number = fitted
    return decoder.apply(params['decoder'], flat(x), mean_of(total, number))

  return meta_learner(init, adapt, predict, objective=objective, extend=extend)
