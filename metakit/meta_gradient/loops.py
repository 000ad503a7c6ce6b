"""Modes that differentiate through the steps of an inner loop, or through some of them.

Exact, and equal up to rounding: `unroll` (reverse over reverse), `remat` (each step recomputed) and
`mixed` (forward over reverse). Approximate by definition: `first_order` and `truncated`.

`mixed` is MixFlow-MG: Kemaev, Calian, Zintgraf, Farquhar, van Hasselt, Scalable Meta-Learning via
Mixed-Mode Differentiation, ICML 2025, arXiv:2505.00793. Let v be the cotangent of an inner
gradient. The backward pass needs the products of v with the Hessian, which is symmetric, and with
the mixed second derivative. One forward-mode derivative of the gradients along v gives both. It
needs no tape of a reverse pass over a reverse pass.

The backward pass computes each step again. Two things are kept: the inner gradients, which are
saved by name, and the weights of each step. With `every`, only the weights of one step in `every`
are kept, as Chen, Xu, Zhang, Guestrin, Training Deep Nets with Sublinear Memory Cost, 2016,
arXiv:1604.06174, do for layers. If `every` is the root of the number of steps, memory grows with
that root.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from metakit.meta_gradient.inner import (
  Data,
  Fast,
  Inner,
  Mode,
  Slow,
  Solution,
  Solve,
  anchored,
)
from metakit.types import Key

SAVED = 'inner_gradient'

# (fast, slow, data, step) -> gradients with respect to fast.
Gradient = Callable[[Any, Any, Any, Any], Any]
Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]


def unroll(unrolled: int | bool = 1) -> Mode:
  """Reverse mode over the whole loop; keeps all that every step computed.

  Args:
    unrolled: how many inner steps are written out in the body of the loop; True for all. With more,
      the loop runs faster on a CPU and takes longer to compile.

  >>> import optax
  >>> from metakit.meta_gradient import by_optax
  >>> inner = by_optax(lambda fast, slow, data, step: fast**4, optax.sgd(0.1))
  >>> end = lambda start: unroll()(inner)(None, start, {}, None, 1).fast
  >>> f'{jax.jit(jax.grad(end))(1.0):.1f}'  # 1 - 0.1 * 12
  '-0.2'
  """
  return lambda inner: _exact(inner, _gradient(inner), _plain, unrolled)


def remat(unrolled: int | bool = 1, every: int = 1) -> Mode:
  """As `unroll`, but keeps only the weights of each step and computes the rest again.

  Args:
    unrolled: see unroll.
    every: see mixed.

  Raises:
    ValueError: if every is below 1.

  >>> import optax
  >>> from metakit.meta_gradient import by_optax
  >>> inner = by_optax(lambda fast, slow, data, step: fast**2, optax.sgd(0.25))
  >>> end = lambda start: remat(every=2)(inner)(None, start, {}, None, 4).fast
  >>> float(jax.jit(jax.grad(end))(1.0))  # each of four steps halves
  0.0625
  """
  check_every(every)
  return lambda inner: _exact(inner, _gradient(inner), jax.checkpoint, unrolled, every=every)


def mixed(unrolled: int | bool = 1, save_gradients: bool = True, every: int = 1) -> Mode:
  """Forward over reverse; keeps the weights and the inner gradients of each step.

  Args:
    unrolled: see unroll.
    save_gradients: False computes the inner gradients again too. That saves the memory of one set
      of weights a step, and costs one more gradient a step.
    every: the weights of one step in so many are kept. Those of the others are computed again, at
      the cost of one more gradient a step. n steps keep n / every + every sets of weights, so the
      root of n is best.

  Raises:
    ValueError: if every is below 1.

  >>> import optax
  >>> from metakit.meta_gradient import by_optax
  >>> inner = by_optax(lambda fast, slow, data, step: fast**2, optax.sgd(0.25))
  >>> end = lambda start: mixed(every=2)(inner)(None, start, {}, None, 4).fast
  >>> float(jax.jit(jax.grad(end))(1.0))  # each of four steps halves
  0.0625
  """
  check_every(every)
  names = (SAVED,) if save_gradients else ()
  policy = jax.checkpoint_policies.save_only_these_names(*names)
  wrap = lambda step: jax.checkpoint(step, policy=policy)
  return lambda inner: _exact(
    inner, forward_over_reverse(_gradient(inner), anchored(inner)), wrap, unrolled, every=every
  )


def check_every(every: int) -> None:
  """Raises ValueError if the weights of no step would be kept."""
  if every < 1:
    raise ValueError(f'every={every} keeps the weights of no step; use 1 or more')


def first_order(unrolled: int | bool = 1) -> Mode:
  """The inner gradients count as constants (Finn et al. 2017, section 5.2).

  Learned rates and starting points still get a gradient through the updates.

  Args:
    unrolled: see unroll.

  >>> import optax
  >>> from metakit.meta_gradient import by_optax
  >>> inner = by_optax(lambda fast, slow, data, step: fast**4, optax.sgd(0.1))
  >>> end = lambda start: first_order()(inner)(None, start, {}, None, 1).fast
  >>> f'{jax.jit(jax.grad(end))(1.0):.1f}'  # -0.2 if the gradient were differentiated
  '1.0'
  """
  return lambda inner: _looped(inner, _gradient(inner), _plain, unrolled, last=0)


def truncated(last: int, unrolled: int | bool = 1) -> Mode:
  """`unroll` in the last steps, `first_order` in the steps before.

  If `last` is the number of steps, this is `unroll`. The earlier updates count as constants that
  were added to the start, so an initialisation still learns. The truncated back-propagation of
  Shaban et al. (AISTATS 2019, arXiv:1810.10667) is meant for hyperparameters, and would give an
  initialisation no gradient.

  Args:
    last: the number of steps that are differentiated.
    unrolled: see unroll.

  Raises:
    ValueError: if last is below 1.

  >>> import optax
  >>> from metakit.meta_gradient import by_optax
  >>> inner = by_optax(lambda fast, slow, data, step: fast**2, optax.sgd(0.25))
  >>> end = lambda start: truncated(last=1)(inner)(None, start, {}, None, 3).fast
  >>> float(jax.jit(jax.grad(end))(1.0))  # each step halves; the last of three is differentiated
  0.5
  """
  if last < 1:
    raise ValueError(f'last={last} leaves no step to differentiate; use 1 or more, or first_order')
  return lambda inner: _exact(inner, _gradient(inner), _plain, unrolled, last)


def constant(inner: Inner) -> Solve:
  """Returns the loop without a derivative, for modes that define their own."""
  solve = first_order()(inner)
  return lambda *arguments: jax.lax.stop_gradient(solve(*arguments))


def _plain(step: Callable[..., Any]) -> Callable[..., Any]:
  return step


def _gradient(inner: Inner) -> Gradient:
  return jax.grad(anchored(inner))


def _exact(
  inner: Inner,
  gradient: Gradient,
  wrap: Wrap,
  unrolled: int | bool,
  last: int | None = None,
  every: int = 1,
) -> Solve:
  if inner.fault:
    raise ValueError(
      f'{inner.fault}; use another (optax.sgd, optax.adam) or mode first_order or evolution'
    )
  return _looped(inner, gradient, wrap, unrolled, last, every)


def _looped(
  inner: Inner,
  gradient: Gradient,
  wrap: Wrap,
  unrolled: int | bool,
  last: int | None,
  every: int = 1,
) -> Solve:
  """Returns the loop.

  The first step stands outside the scan. In it all tasks of a vmap share the weights, so its
  forward pass is that of one network, not of one network a task.

  Args:
    inner: the problem.
    gradient: the inner gradient, with its derivative.
    wrap: wraps each step, to compute it again in the backward pass.
    unrolled: see unroll.
    last: the number of steps whose gradients are differentiated; None for all.
    every: see mixed.
  """

  def solve(key: Key, fast: Fast, slow: Slow, data: Data, steps: int) -> Solution:
    del key  # nothing is drawn
    if steps < 1:
      raise ValueError(f'steps={steps} leaves the inner loop where it starts; use 1 or more')
    fixed = (slow, fast if inner.proximal else None), data

    def stepping(gradient: Gradient, wrap: Wrap) -> Callable[..., Any]:
      @wrap
      def advance(carry: Any, fixed: Any, number: Any) -> Any:
        (fast, state), (anchor, data) = carry, fixed
        grads = gradient(fast, anchor, data, number)
        fast, state = inner.update(grads, state, fast, anchor[0], number)
        shown = None if inner.readout is None else inner.readout(fast, anchor[0], data, number)
        return (fast, state), shown

      return advance

    def run(advance: Callable[..., Any], carry: Any, begin: int, end: int) -> Any:
      """Takes the steps from `begin` to `end` - 1; returns the weights and the readouts."""
      shown = []
      if begin == 0 < end:
        carry, first = advance(carry, fixed, 0)
        shown.append(jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], first))
      numbers = jnp.arange(max(begin, 1), end)
      if len(numbers):
        body = lambda carry, number: advance(carry, fixed, number)
        carry, others = _scan(body, carry, numbers, unrolled, every)
        shown.append(others)
      return carry, shown

    cut = 0 if last is None else max(steps - last, 0)
    held = lambda *arguments: jax.lax.stop_gradient(gradient(*arguments))
    carry, before = run(stepping(held, _plain), (fast, inner.init(fast, slow)), 0, cut)
    carry, after = run(stepping(gradient, wrap), carry, cut, steps)
    shown = before + after
    if inner.readout is None or not shown:
      return Solution(carry[0])
    return Solution(carry[0], jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *shown))

  return solve


def _scan(
  body: Callable[..., Any], carry: Any, numbers: jax.Array, unrolled: int | bool, every: int
) -> tuple[Any, Any]:
  """As jax.lax.scan, but its derivative keeps the carry of only one step in `every`."""
  scan = lambda carry, numbers: jax.lax.scan(body, carry, numbers, unroll=unrolled)
  if every == 1 or every >= len(numbers):
    return scan(carry, numbers)
  blocks, rest = jnp.split(numbers, [len(numbers) // every * every])
  carry, shown = jax.lax.scan(jax.checkpoint(scan), carry, blocks.reshape(-1, every))
  shown = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), shown)
  if not len(rest):
    return carry, shown
  carry, last = scan(carry, rest)
  return carry, jax.tree.map(lambda *leaves: jnp.concatenate(leaves), shown, last)


def forward_over_reverse(gradient: Gradient, loss: Callable[..., jax.Array]) -> Gradient:
  """Returns `gradient` with another derivative: its backward pass takes one forward derivative.

  Args:
    gradient: (fast, slow, data, step) -> the gradient of `loss` with respect to fast.
    loss: (fast, slow, data, step) -> scalar; its second derivatives must be symmetric.
  """

  @jax.custom_vjp
  def grads_of(fast, slow, data, step):
    return checkpoint_name(gradient(fast, slow, data, step), SAVED)

  def forward(fast, slow, data, step):
    return grads_of(fast, slow, data, step), (fast, slow, data, step)

  def backward(kept, cotangent):
    fast, slow, data, step = kept
    floats, others = split_floats((slow, data))

    def gradients(fast):
      """Returns the gradients of the loss with respect to everything that has one."""
      whole = lambda fast, floats: loss(fast, *join_floats(floats, others), step)
      return jax.grad(whole, argnums=(0, 1))(fast, floats)

    _, (for_fast, for_floats) = jax.jvp(gradients, (fast,), (cotangent,))
    return for_fast, *join_floats(for_floats, jax.tree.map(no_tangent, others)), no_tangent(step)

  grads_of.defvjp(forward, backward)
  return grads_of


def split_floats(tree: Any) -> tuple[Any, Any]:
  """Returns a tree of the float leaves, and one of the others, with None in place of the rest."""
  is_float = lambda leaf: jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
  floats = jax.tree.map(lambda leaf: leaf if is_float(leaf) else None, tree)
  return floats, jax.tree.map(lambda leaf: None if is_float(leaf) else leaf, tree)


def join_floats(floats: Any, others: Any) -> Any:
  """The inverse of `split_floats`."""
  pick = lambda a, b: b if a is None else a
  return jax.tree.map(pick, floats, others, is_leaf=lambda leaf: leaf is None)


def no_tangent(leaf: Any) -> Any:
  """Returns the cotangent of an integer, a key or None."""
  return None if leaf is None else np.zeros(jnp.shape(leaf), jax.dtypes.float0)
