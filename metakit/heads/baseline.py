"""Baseline and Baseline++: a new linear or cosine layer trained on each support set.

Wei-Yu Chen, Yen-Cheng Liu, Zsolt Kira, Yu-Chiang Frank Wang, Jia-Bin Huang, A Closer Look at
Few-shot Classification, ICLR 2019, arXiv:1904.04232: the test stage (section 3.2), with SGD as in
the released code (methods/baselinefinetune.py in github.com/wyharveychen/CloserLookFewShot: 100
epochs of minibatches of 4, where the paper's text says 100 iterations; rate 0.01, momentum and
dampening 0.9, decay 0.001; the first gradient is dampened as the others are, which PyTorch's SGD
does not do). The features are those of any network; metakit.learners.fine_tuning is pre-trained as
in the paper.
"""

import math

import jax
import jax.numpy as jnp
import optax

from metakit.heads.common import (
  ABSENT,
  check_positive,
  check_ways,
  cosine_similarity,
  inductive_head,
  members,
)
from metakit.minibatches import minibatches
from metakit.networks.last_layer import init_last_layer, linear
from metakit.objectives import cross_entropy
from metakit.types import Examples, Fitted, Key, MetaLearner, Objective, Params

MOMENTUM, DECAY, EPOCHS = 0.9, 1e-3, 100


def baseline(
  ways: int,
  cosine: bool = False,
  steps: int | None = None,
  *,
  batch: int = 4,
  learning_rate: float = 0.01,
  scale: float = 2.0,
  objective: Objective = cross_entropy,
) -> MetaLearner:
  """Trains a last layer on the support: Baseline, or Baseline++ with `cosine`.

  Args:
    ways: classes of an episode.
    cosine: whether outputs are cosines to weight vectors, times `scale`.
    steps: steps of SGD. None takes 100 epochs as in the released code: 200 steps for 5-way 1-shot,
      700 for 5-way 5-shot.
    batch: support examples of a step; 0 for all.
    learning_rate: learning rate of SGD.
    scale: factor of the cosines.
    objective: the loss if it is meta-trained.

  Raises:
    ValueError: for numbers that make no sense.

  >>> x, y = jax.ShapeDtypeStruct((10, 64), 'float32'), jax.ShapeDtypeStruct((10,), 'int32')
  >>> adapt = baseline(ways=5, cosine=True).adapt
  >>> layer, present = jax.eval_shape(adapt, jax.random.key(0), {}, Examples(x, y))
  >>> layer['kernel'].shape
  (64, 5)
  """
  check_ways(ways)
  check_positive(steps=1 if steps is None else steps, learning_rate=learning_rate, scale=scale)
  if batch < 0:
    raise ValueError(f'batch={batch} is negative; use 0 for the whole support set')

  def outputs(head: Params, z: jax.Array) -> jax.Array:
    return scale * cosine_similarity(z, head['kernel'].T) if cosine else linear(head, z)

  def fit(key: Key, params: Params, support: Examples) -> Fitted:
    del params
    init_key, key = jax.random.split(key)
    present = members(support, ways).sum(0) > 0
    head = init_last_layer(init_key, support.x.shape[1], ways)
    head = jax.tree.map(lambda leaf: leaf.astype(support.x.dtype), head)
    optimizer = optax.chain(
      optax.add_decayed_weights(DECAY),
      optax.ema(MOMENTUM, debias=False),  # momentum and dampening, both MOMENTUM
      optax.scale(-learning_rate),
    )

    count = epochs(len(support.x), batch) if steps is None else steps
    numbered = support._replace(x=jnp.arange(support.x.shape[0]))
    batches = minibatches(key, numbered, count, size=batch) if batch else None

    def loss(head: Params, drawn: Examples | None) -> jax.Array:
      rows = support if drawn is None else drawn._replace(x=support.x[drawn.x])
      return cross_entropy(jnp.where(present, outputs(head, rows.x), ABSENT), rows)[0]

    def advance(carry, drawn):
      head, state = carry
      updates, state = optimizer.update(jax.grad(loss)(head, drawn), state, head)
      return (optax.apply_updates(head, updates), state), None

    (head, _), _ = jax.lax.scan(advance, (head, optimizer.init(head)), batches, length=count)
    return head, present

  def classify(fitted: Fitted, z: jax.Array) -> jax.Array:
    head, present = fitted
    return jnp.where(present, outputs(head, z), ABSENT)

  return inductive_head(fit, classify, objective=objective)


def epochs(examples: int, batch: int) -> int:
  """Returns the steps of EPOCHS passes over the support, in batches; 0 means one batch of all."""
  return EPOCHS * (math.ceil(examples / batch) if batch else 1)
