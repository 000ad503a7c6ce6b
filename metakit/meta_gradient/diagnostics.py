"""Diagnosis of a meta-gradient: its first-order part, its size at each step, the inner losses."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from metakit.meta_gradient.inner import Data, Fast, Inner, Slow
from metakit.meta_gradient.loops import first_order, unroll
from metakit.types import Key, Metrics


def diagnose(
  inner: Inner,
  outer: Callable[[Fast, Slow], jax.Array],
  key: Key,
  *,
  fast: Fast,
  slow: Slow,
  data: Data,
  steps: int,
) -> Metrics:
  """Measures the meta-gradient of one task.

  Args:
    inner: the inner problem.
    outer: (fast, slow) -> the loss of the adapted weights, a scalar.
    key: key of the task.
    fast: where the inner loop starts.
    slow: what it does not change.
    data: data of the task.
    steps: inner steps.

  Returns:
    'meta_gradient_cosine' is the cosine between the second-order and the first-order gradient with
    respect to fast and slow. For k from 0 to `steps`, 'inner_loss_k' is the loss of the inner loop
    after k steps, and 'meta_gradient_norm_k' is the norm of the derivative of the outer loss with
    respect to the weights after k steps. The norms show whether the gradient vanishes or grows on
    its way back through the steps.

  >>> from metakit.meta_gradient import by_optax
  >>> inner = by_optax(lambda fast, slow, data, step: fast**2, optax.sgd(0.25))
  >>> task = {'slow': {}, 'data': None, 'steps': 2}
  >>> measure = lambda fast: diagnose(inner, lambda f, s: f, jax.random.key(0), fast=fast, **task)
  >>> measured = jax.jit(measure)(1.0)
  >>> [float(measured[f'meta_gradient_norm_{k}']) for k in (0, 1, 2)]  # each step halves it
  [0.25, 0.5, 1.0]
  """

  def update(grads: Any, state: Any, fast: Fast, fixed: Any, step: Any) -> tuple[Fast, Any]:
    slow, probes = fixed
    fast, state = inner.update(grads, state, fast, slow, step)
    return jax.tree.map(lambda leaf, probe: leaf + probe[step], fast, probes), state

  probed = inner._replace(
    loss=lambda fast, fixed, data, step: inner.loss(fast, fixed[0], data, step),
    init=lambda fast, fixed: inner.init(fast, fixed[0]),
    update=update,
    readout=lambda fast, fixed, data, step: inner.loss(fast, fixed[0], data, None),
  )

  def outcome(fast: Fast, slow: Slow, probes: Any, mode: Any) -> tuple[jax.Array, jax.Array]:
    solution = mode(probed)(key, fast, (slow, probes), data, steps)
    return outer(solution.fast, slow), solution.readouts

  probes = jax.tree.map(lambda leaf: jnp.zeros((steps, *leaf.shape), leaf.dtype), fast)
  slopes = jax.grad(outcome, argnums=(0, 1, 2), has_aux=True, allow_int=True)
  (*second, per_step), losses = slopes(fast, slow, probes, unroll())
  (*first, _), _ = slopes(fast, slow, probes, first_order())
  norms = [optax.tree.norm(second[0]), *jax.vmap(optax.tree.norm)(per_step)]
  losses = jnp.concatenate([inner.loss(fast, slow, data, None)[None], losses])
  metrics = {'meta_gradient_cosine': _cosine(second, first)}
  metrics |= {f'meta_gradient_norm_{k}': norm for k, norm in enumerate(norms)}
  return metrics | {f'inner_loss_{k}': losses[k] for k in range(steps + 1)}


def _cosine(a: Any, b: Any) -> jax.Array:
  floats = lambda tree: [
    leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)
  ]
  a, b = floats(a), floats(b)
  tiny = jnp.finfo(jnp.float32).tiny
  return optax.tree.vdot(a, b) / jnp.maximum(optax.tree.norm(a) * optax.tree.norm(b), tiny)
