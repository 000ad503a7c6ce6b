"""Transformer neural process (TNP-D): a transformer over a set of examples and questions.

Tung Nguyen, Aditya Grover, Transformer Neural Processes: Uncertainty-Aware Meta Learning Via
Sequence Modeling, ICML 2022, arXiv:2207.04179. Implemented: TNP-D, each of whose targets is
predicted by itself and sees the context and itself (section 3.3), with the embedding by a
perceptron and the sizes of the authors' code. It is metakit.learners.in_context with the layout
'pairs' and a network that is not causal. Deviation: pre-norm blocks (metakit.networks.transformer).

Changes in a task: keys and values of the examples, in each layer.
"""

import jax
import jax.numpy as jnp

from metakit.learners.in_context import in_context
from metakit.learners.set_parts import NORMAL
from metakit.models import Model, Reading, SequenceModel
from metakit.networks.mlp import mlp
from metakit.networks.transformer import transformer
from metakit.sizes import check_positive
from metakit.types import Key, MetaLearner, Objective, Params


def tnp(
  num_outputs: int,
  width: int = 64,
  depth: int = 6,
  *,
  heads: int = 4,
  hidden: int = 128,
  embedding_depth: int = 3,
  objective: Objective = NORMAL,
) -> MetaLearner:
  """Predicts by a transformer in which examples see one another and a query sees the examples.

  Args:
    num_outputs: size of the targets, or number of classes.
    width: size of the residual stream.
    depth: number of blocks.
    heads: attention heads; must divide width.
    hidden: units of the feed-forward layers.
    embedding_depth: hidden layers of the perceptron that embeds x and y.
    objective: of the outputs; a normal density by default.

  Returns:
    A MetaLearner with networks of its own, whose fitted hold keys and values. So a query costs one
    token.

  Raises:
    ValueError: if a size is not positive or heads does not divide width.

  >>> tnp(num_outputs=1).extend is None  # a new example would change what the others saw
  True
  """
  check_positive(num_outputs=num_outputs, embedding_depth=embedding_depth)
  outputs = num_outputs * objective.outputs_per_target
  network = transformer(outputs, width, depth, heads=heads, hidden=hidden, attention='set')
  embedding = mlp(width, width, embedding_depth)
  return in_context(embedded_tokens(embedding, network), num_outputs, objective=objective)


def embedded_tokens(embedding: Model, network: SequenceModel) -> SequenceModel:
  """Returns a sequence model that embeds tokens and questions by another network first.

  >>> model = embedded_tokens(mlp(8, width=8), transformer(num_outputs=2, width=8, depth=1))
  >>> params = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((5, 3)))
  >>> sorted(params)
  ['embedding', 'network']
  """

  def init(key: Key, tokens: jax.Array) -> Params:
    first, second = jax.random.split(key)
    params = embedding.init(first, tokens)
    return {
      'embedding': params,
      'network': network.init(second, embedding.apply(params, tokens)),
    }

  def apply(
    params: Params,
    tokens: jax.Array,
    asked: jax.Array,
    seen: jax.Array,
    present: jax.Array | None = None,
    state: Params = None,
  ) -> Reading:
    embedded = embedding.apply(params['embedding'], jnp.concatenate([tokens, asked]))
    read, questions = embedded[: tokens.shape[0]], embedded[tokens.shape[0] :]
    return network.apply(params['network'], read, questions, seen, present, state)

  return SequenceModel(init, apply, network.causal)
