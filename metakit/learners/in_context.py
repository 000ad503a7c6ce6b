"""An in-context learner: a transformer that reads the support set and predicts the queries.

Louis Kirsch, James Harrison, Jascha Sohl-Dickstein, Luke Metz, General-Purpose In-Context Learning
by Meta-Learning Transformers, 2022, arXiv:2212.04458; as a set learner without order, Samuel
Mueller et al., Transformers Can Do Bayesian Inference, ICLR 2022, arXiv:2112.10510. One token is
one example, (x, y) side by side. Support tokens attend to all support tokens; a query token (x and
a flag in place of y) attends to the support and to itself, so queries do not influence one another
and the keys and values of the support, made once by `adapt`, serve all of them.
"""

import jax
import jax.numpy as jnp

from metakit.models import Model
from metakit.networks.convolution import as_float
from metakit.objectives import cross_entropy
from metakit.types import Episode, Examples, Fitted, Key, MetaLearner, Metrics, Objective, Params


def in_context(model: Model, num_outputs: int, objective: Objective = cross_entropy) -> MetaLearner:
  """Learns a learning algorithm in the forward pass of a transformer.

  Args:
    model: metakit.networks.transformer's, (params, tokens, mask, cache) -> (outputs, keys_values).
    num_outputs: classes of the labels, or size of the regression targets.
    objective: loss of the queries.

  Returns:
    A MetaLearner whose fitted hold the keys and values of the support in every layer; `predict`
    costs one token a query against them.
  """

  def init(key: Key, episode: Episode) -> Params:
    tokens = support_tokens(episode.support, num_outputs)
    return model.init(key, tokens, jnp.ones((len(tokens), len(tokens)), bool))

  def adapt(key: Key, params: Params, support: Examples) -> Fitted:
    del key  # nothing is drawn
    present = presence(support)
    everyone = jnp.broadcast_to(present, (len(present), len(present)))
    _, cache = model.apply(params, support_tokens(support, num_outputs), everyone)
    return params, cache, present

  def predict(fitted: Fitted, x: jax.Array) -> jax.Array:
    params, cache, present = fitted
    mask = jnp.append(present, True)[None]  # the support and itself

    def one(token):
      return model.apply(params, token[None], mask, cache)[0][0]

    return jax.vmap(one)(query_tokens(x, num_outputs))

  def loss(key: Key, params: Params, episode: Episode) -> tuple[jax.Array, Metrics]:
    outputs = predict(adapt(key, params, episode.support), episode.query.x)
    return objective(outputs, episode.query)

  return MetaLearner(init, adapt, predict, loss, 'inductive')


def presence(support: Examples) -> jax.Array:
  """Returns [examples] bool: which support examples count."""
  if support.weight is None:
    return jnp.ones(len(support.x), bool)
  return support.weight > 0


def support_tokens(support: Examples, num_outputs: int) -> jax.Array:
  """Returns the tokens (x, y, 0); integer labels become one-hot. [examples, features]."""
  labels = jnp.issubdtype(support.y.dtype, jnp.integer)
  y = jax.nn.one_hot(support.y, num_outputs) if labels else support.y
  return _tokens(support.x, y, 0.0)


def query_tokens(x: jax.Array, num_outputs: int) -> jax.Array:
  """Returns the tokens (x, 0, 1), whose answer is asked. [queries, features]."""
  return _tokens(x, jnp.zeros((len(x), num_outputs)), 1.0)


def _tokens(x: jax.Array, y: jax.Array, flag: float) -> jax.Array:
  x = as_float(x).reshape(len(x), -1)
  return jnp.concatenate([x, y.astype(x.dtype), jnp.full((len(x), 1), flag, x.dtype)], axis=1)
