"""Attentive neural process: each prediction attends to the examples, beside a latent variable.

Hyunjik Kim, Andriy Mnih, Jonathan Schwarz, Marta Garnelo, S. M. Ali Eslami, Dan Rosenbaum, Oriol
Vinyals, Yee Whye Teh, Attentive Neural Processes, ICLR 2019, arXiv:1901.05761. Implemented: a
deterministic path with multihead cross-attention from x to the examples, whose keys and queries are
one network of x (section 3), a latent path as in metakit.learners.np, and the loss of eq. 3.
Deviations: no self-attention among the examples; targets are the query alone; the last layers of
the networks of keys and values stand for the linear maps of the heads. What a prediction attends to
is 0 where there are no examples.

Changes in a task: encoded examples that are attended to, and draws of one latent vector.
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


def anp(
  num_outputs: int,
  width: int = 128,
  depth: int = 3,
  *,
  heads: int = 8,
  latents: int = 64,
  decoder_depth: int = 4,
  samples: int = 16,
  objective: Objective = NORMAL,
) -> MetaLearner:
  """Predicts from what each query attends to, and from draws of a latent variable.

  Args:
    num_outputs: size of the targets, or number of classes.
    width: units of the hidden layers, and of what a query attends to.
    depth: hidden layers of the encoders.
    heads: attention heads; must divide width.
    latents: size of the latent variable; 0 for none, which is an attentive CNP.
    decoder_depth: hidden layers of the decoder.
    samples: draws of the latent variable that a prediction averages over.
    objective: of the outputs; a normal density by default.

  Returns:
    A MetaLearner with networks of its own; see metakit.learners.np.

  Raises:
    ValueError: if a size is not positive, heads does not divide width, or the objective cannot pool
      predictions.

  >>> learner, x = anp(num_outputs=1), jnp.ones((5, 1))
  >>> params = learner.init(jax.random.key(0), Episode(Examples(x, x), Examples(x, x)))
  >>> learner.predict(learner.adapt(jax.random.key(0), params, Examples(x, x)), x).shape
  (5, 2)
  """
  check_positive(num_outputs=num_outputs, width=width, depth=depth, decoder_depth=decoder_depth)
  check_positive(heads=heads, samples=samples)
  if latents < 0:
    raise ValueError(f'latents={latents} is negative; use 0 for no latent variable')
  if width % heads:
    raise ValueError(f'heads={heads} does not divide width={width}; use a divisor of width')
  pool = check_pool(objective) if latents else lambda outputs: outputs[0]
  networks = {
    'key': mlp(width, width, 2),
    'value': mlp(width, width, depth),
    'encoder': mlp(width, width, depth),
    'summary': mlp(2 * latents, width, 1),
    'decoder': mlp(num_outputs * objective.outputs_per_target, width, decoder_depth),
  }
  run = lambda name, params, *inputs: networks[name].apply(params[name], *inputs)

  def init(key: Key, episode: Episode) -> Params:
    x, both = flat(episode.support.x), pairs(episode.support, num_outputs)
    blank = jnp.zeros((1, width), both.dtype)
    wide = jnp.zeros((1, x.shape[1] + width), both.dtype)
    inputs = {'key': [x], 'value': [both], 'decoder': [wide, jnp.zeros(latents, both.dtype)]}
    inputs |= {'encoder': [both], 'summary': [blank]} if latents else {}
    keys = jax.random.split(key, len(inputs))
    parts = zip(inputs.items(), keys, strict=True)
    return {name: networks[name].init(key, *given) for (name, given), key in parts}

  def believe(params: Params, examples: Examples) -> Latent:
    encoded = run('encoder', params, pairs(examples, num_outputs))
    mean = mean_of(*weighted_sum(encoded, weights_of(examples, encoded)))
    return latent_of(run('summary', params, mean[None])[0])

  def encode(params: Params, support: Examples) -> tuple[jax.Array, jax.Array, jax.Array]:
    value = run('value', params, pairs(support, num_outputs))
    return run('key', params, flat(support.x)), value, weights_of(support, value)

  def answer(params: Params, encoded: tuple[jax.Array, ...], x: jax.Array, z: jax.Array):
    key, value, weight = encoded
    seen = attend(run('key', params, flat(x)), key, value, weight=weight, heads=heads)
    return run('decoder', params, jnp.concatenate([flat(x), seen], axis=1), z)

  def decode(params: Params, support: Examples, x: jax.Array, z: jax.Array) -> jax.Array:
    return answer(params, encode(params, support), x, z)

  def adapt(key: Key, params: Params, support: Examples) -> Fitted:
    encoded = encode(params, support)
    none = jnp.zeros((1, 0), encoded[0].dtype)
    drawn = draw(key, believe(params, support), samples) if latents else none
    return params, encoded, drawn

  def predict(fitted: Fitted, x: jax.Array) -> jax.Array:
    params, encoded, drawn = fitted
    return pool(jax.vmap(lambda z: answer(params, encoded, x, z))(drawn))

  loss = lower_bound(believe, decode, objective) if latents else None
  return meta_learner(init, adapt, predict, objective=objective, loss=loss)


def attend(
  query: jax.Array, key: jax.Array, value: jax.Array, *, weight: jax.Array, heads: int
) -> jax.Array:
  """Returns what each query attends to, [queries, width]; 0 if nothing is there.

  Args:
    query: [queries, width].
    key: [examples, width].
    value: [examples, width].
    weight: [examples]; an example counts as so many. 0 means absent.
    heads: attention heads.

  >>> zero = jnp.zeros((2, 1))
  >>> value, weight = jnp.array([[1.0], [5.0]]), jnp.array([3.0, 1.0])
  >>> attend(zero, zero, value, weight=weight, heads=1)[0].tolist()
  [2.0]
  """
  apart = lambda a: a.reshape(a.shape[0], heads, a.shape[1] // heads)  # there may be no rows
  scores = jnp.einsum('qhf,khf->hqk', apart(query), apart(key)) / (key.shape[1] // heads) ** 0.5
  scores = jnp.where(weight > 0, scores, -jnp.inf)
  top = jax.lax.stop_gradient(scores.max(-1, keepdims=True, initial=jnp.finfo(scores.dtype).min))
  likely = weight * jnp.exp(scores - top)
  total = jnp.maximum(likely.sum(-1, keepdims=True), jnp.finfo(scores.dtype).tiny)
  seen = jnp.einsum('hqk,khf->qhf', likely / total, apart(value))
  return seen.reshape(query.shape[0], value.shape[1])
