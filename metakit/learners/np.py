"""Neural process: a latent variable of the whole function, and a network that predicts from it.

Marta Garnelo, Jonathan Schwarz, Dan Rosenbaum, Fabio Viola, Danilo J. Rezende, S. M. Ali Eslami,
Yee Whye Teh, Neural Processes, 2018, arXiv:1807.01622. Implemented: q(z | examples), a normal
distribution by the mean of encoded examples (section 2.2), and the loss of eq. 9, in which q of the
context stands for the prior of z. Deviations: targets are the query alone; the deviation of z is
between 0.1 and 1 (Kim et al. 2019). A prediction is the mixture over draws of z, by the objective's
`pool`: of a normal density it has the moments of the mixture.

Changes in a task: draws of one latent vector.
"""

import jax
import jax.numpy as jnp

from metakit.builder import meta_learner
from metakit.learners.in_context import flat
from metakit.learners.latent_parts import Latent, draw, latent_of, lower_bound
from metakit.learners.set_parts import NORMAL, check_pool, mean_of, pairs, weighted_sum, weights_of
from metakit.networks.mlp import mlp
from metakit.sizes import check_positive
from metakit.types import Episode, Examples, Fitted, Key, MetaLearner, Objective, Params


def np(
  num_outputs: int,
  width: int = 128,
  depth: int = 3,
  *,
  latents: int = 64,
  decoder_depth: int = 4,
  samples: int = 16,
  objective: Objective = NORMAL,
) -> MetaLearner:
  """Predicts from draws of a latent variable of the function.

  Args:
    num_outputs: size of the targets, or number of classes.
    width: units of the hidden layers, and size of the mean.
    depth: hidden layers of the encoder.
    latents: size of the latent variable.
    decoder_depth: hidden layers of the decoder.
    samples: draws of the latent variable that a prediction averages over.
    objective: of the outputs; a normal density by default.

  Returns:
    A MetaLearner with networks of its own. The metric 'divergence' of its loss is that of q(z) with
    the query from q(z) without it, in nats a number of the targets.

  Raises:
    ValueError: if a size is not positive, or the objective cannot pool predictions.

  >>> learner, x = np(num_outputs=1, samples=3), jnp.ones((5, 1))
  >>> params = learner.init(jax.random.key(0), Episode(Examples(x, x), Examples(x, x)))
  >>> _, z = learner.adapt(jax.random.key(0), params, Examples(x, x))
  >>> z.shape
  (3, 64)
  """
  sizes = {'num_outputs': num_outputs, 'width': width, 'depth': depth, 'latents': latents}
  check_positive(**sizes, decoder_depth=decoder_depth, samples=samples)
  pool = check_pool(objective)
  encoder, summary = mlp(width, width, depth), mlp(2 * latents, width, 1)
  decoder = mlp(num_outputs * objective.outputs_per_target, width, decoder_depth)

  def init(key: Key, episode: Episode) -> Params:
    encoder_key, summary_key, decoder_key = jax.random.split(key, 3)
    both = pairs(episode.support, num_outputs)
    z = jnp.zeros(latents, both.dtype)
    return {
      'encoder': encoder.init(encoder_key, both),
      'summary': summary.init(summary_key, jnp.zeros((1, width), both.dtype)),
      'decoder': decoder.init(decoder_key, flat(episode.support.x), z),
    }

  def believe(params: Params, examples: Examples) -> Latent:
    encoded = encoder.apply(params['encoder'], pairs(examples, num_outputs))
    mean = mean_of(*weighted_sum(encoded, weights_of(examples, encoded)))
    return latent_of(summary.apply(params['summary'], mean[None])[0])

  def decode(params: Params, support: Examples, x: jax.Array, z: jax.Array) -> jax.Array:
    del support  # z holds all that is known of it
    return decoder.apply(params['decoder'], flat(x), z)

  def adapt(key: Key, params: Params, support: Examples) -> Fitted:
    return params, draw(key, believe(params, support), samples)

  def predict(fitted: Fitted, x: jax.Array) -> jax.Array:
    params, drawn = fitted
    return pool(jax.vmap(lambda z: decoder.apply(params['decoder'], flat(x), z))(drawn))

  return meta_learner(init, adapt, predict, loss=lower_bound(believe, decode, objective))
