"""Tuning of a sub-network: sessions change only the weights that the base classes need least.

Haeyong Kang, Jaehong Yoon, Sultan Rizky Hikmawan Madjid, Sung Ju Hwang, Chang D. Yoo, On the
Soft-Subnetwork for Few-shot Class Incremental Learning, ICLR 2023, arXiv:2209.07529 (in sessions
the minor sub-network alone learns, layer by layer). Deviation: the sub-network is not learned with
the base. It holds the weights of least |weight * gradient| on base classes: Namhoon Lee,
Thalaiyasingam Ajanthan, Philip H. S. Torr, SNIP, ICLR 2019, arXiv:1810.02340, eq. 6.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metakit.absent import guarded
from metakit.heads.common import check_positive
from metakit.learners.embedded import embedded
from metakit.models import Model, embed_rows, roles_of
from metakit.objectives import cross_entropy
from metakit.roles import WEIGHT
from metakit.types import Examples, Fitted, MetaLearner, Params

SCALE = 16.0  # factor of the similarities in the loss of a session


def sensitivity(loss: Callable[[Params], jax.Array], params: Params) -> Params:
  """Returns |weight * gradient| of every number in params, a tree like them.

  >>> sensitivity(lambda params: 3 * params['w'].sum(), {'w': jnp.array([2.0, -1.0])})['w'].tolist()
  [6.0, 3.0]
  """
  return jax.tree.map(lambda w, g: jnp.abs(w * g), params, jax.grad(loss)(params))


def least_sensitive(sensitivities: Params, share: float, roles: Any = None) -> Params:
  """Returns the mask of the weights that may change, a tree of bool arrays.

  Args:
    sensitivities: a tree of arrays; the least ones of each array may change.
    share: of each array, between 0 and 1; the number is rounded down.
    roles: a tree like it (metakit.roles); what is no weight stays. None if all are weights.

  Raises:
    ValueError: for a share outside of [0, 1].

  >>> least_sensitive({'w': jnp.array([0.3, 0.1, 0.2, 0.4])}, share=0.5)['w'].tolist()
  [False, True, True, False]
  """
  if not 0 <= share <= 1:
    raise ValueError(f'share={share} is no share of the weights; use 0 <= share <= 1')

  def mask(values: jax.Array, role: str = WEIGHT) -> np.ndarray:
    flat = np.asarray(values).ravel()
    count = int(share * flat.size) if role == WEIGHT else 0
    free = np.zeros(flat.size, bool)
    free[np.argsort(flat, kind='stable')[:count]] = True
    return free.reshape(np.shape(values))

  return jax.tree.map(mask, sensitivities, *([] if roles is None else [roles]))


def masked_descent(
  loss: Callable[[Params], jax.Array], params: Params, free: Params, *, steps: int, rate: float
) -> Params:
  """Returns params after gradient descent on the numbers that are free; the others keep their bits.

  Args:
    loss: params -> scalar.
    params: a tree of float arrays.
    free: a tree of bool arrays like it.
    steps: how many.
    rate: of the gradient.

  >>> params, free = {'w': jnp.array([1.0, 1.0])}, {'w': jnp.array([True, False])}
  >>> loss = lambda params: 0.5 * jnp.square(params['w']).sum()
  >>> masked_descent(loss, params, free, steps=2, rate=0.5)['w'].tolist()
  [0.25, 1.0]
  """

  def step(_: Any, params: Params) -> Params:
    move = lambda w, g, f: jnp.where(f, w - rate * g, w)
    return jax.tree.map(move, params, jax.grad(loss)(params), free)

  return jax.lax.fori_loop(0, steps, step, params)


def tuned_in_sessions(
  model: Model, head: MetaLearner, *, steps: int = 10, rate: float = 0.1
) -> MetaLearner:
  """A head on an embedding of which each session tunes the sub-network in params['free'].

  The loss of a session is the cross-entropy of its examples among all classes so far, with what the
  head knows after it has seen them held fixed. Then the head sees them as they are embedded now.
  Of earlier sessions it keeps what it knew.

  Args:
    model: the embedding network.
    head: a head that can go on learning, such as metakit.heads.class_mean_stream.
    steps: gradient steps of a session; 0 for a frozen embedding.
    rate: of the gradient.

  Returns:
    A learner with the params {'body', 'head', 'free'}; see `free_weights` for the last. It is not
    to be trained; body and head are those of metakit.learners.embedded.

  Raises:
    ValueError: for a head that cannot go on learning, negative steps, or a rate that is not
      positive.

  >>> from metakit.heads import class_mean_stream
  >>> from metakit.networks import conv4
  >>> tuned_in_sessions(conv4(), class_mean_stream(ways=10)).protocol
  'inductive'
  """
  if head.extend is None:
    raise ValueError('this head cannot go on learning; use class_mean_stream')
  if steps < 0:
    raise ValueError(f'steps={steps} is negative; use 0 for a frozen embedding')
  check_positive(rate=rate)
  grow, rows = head.extend, embed_rows(model)

  def extend(fitted: Fitted, more: Examples) -> Fitted:
    params, known = fitted
    embedded_by = lambda body: more._replace(x=rows(body, more.x))
    then = grow(known, embedded_by(params['body']))
    loss = lambda body: session_loss(head, then, embedded_by(body))
    body = masked_descent(loss, params['body'], params['free'], steps=steps, rate=rate)
    return {**params, 'body': body}, grow(known, embedded_by(body))

  frozen = embedded(model, head)
  return guarded(frozen._replace(extend=extend, features=None), unlabelled=True)


def session_loss(head: MetaLearner, known: Fitted, features: Examples) -> jax.Array:
  """Returns the cross-entropy of features by what a head knows, whose answers are scaled."""
  return cross_entropy(SCALE * head.predict(known, features.x), features)[0]


def free_weights(
  model: Model, head: MetaLearner, params: Params, *, base: Examples, share: float
) -> Params:
  """Returns the mask of the weights that sessions may change, chosen on the base classes.

  Args:
    model: the embedding network.
    head: the head that sessions are learned with.
    params: {'body', 'head'}, trained and calibrated.
    base: examples of the base classes.
    share: of the weights of each layer that are free; normalisation and constants never are.

  Raises:
    ValueError: for a share outside of [0, 1].

  >>> from metakit.heads import class_mean_stream
  >>> from metakit.networks import mlp
  >>> network, x = mlp(width=4, depth=1), np.eye(3, dtype=np.float32)
  >>> params = {'body': jax.jit(network.init)(jax.random.key(0), x), 'head': {}}
  >>> base, head = Examples(x, np.arange(3)), class_mean_stream(ways=3)
  >>> free = free_weights(network, head, params, base=base, share=0.25)
  >>> sum(int(leaf.sum()) for leaf in jax.tree.leaves(free))  # of 12 weights and 4 biases
  4
  """
  rows = embed_rows(model)
  known = lambda body: head.adapt(
    jax.random.key(0), params['head'], base._replace(x=rows(body, base.x))
  )

  def measured(body: Params) -> Params:
    fixed = known(body)
    return sensitivity(
      lambda body: session_loss(head, fixed, base._replace(x=rows(body, base.x))), body
    )

  found = jax.jit(measured)(params['body'])
  return least_sensitive(found, share, roles_of(model, params['body'], base.x))
