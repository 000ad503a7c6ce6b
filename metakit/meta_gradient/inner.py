"""The inner problem of a task, and what a mode of differentiating through it is.

  solve = mode(inner)                              # once, when a learner is built
  solution = solve(key, fast, slow, data, steps)   # for each task; differentiable in fast and slow

A learner describes its inner problem as an Inner. It is given a mode (metakit.meta_gradient), and
works with any.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import keystr, tree_leaves_with_path

from metakit.types import Key

Fast = Any  # a pytree of float arrays: what the inner loop changes
Slow = Any  # a pytree: meta-parameters that it does not change
Data = Any  # a pytree: the task's own


class Inner(NamedTuple):
  """An inner optimisation problem, of one task.

  Attributes:
    loss: (fast, slow, data, step) -> scalar. `step` is the number of the inner step, [] int. It is
      None for the loss of all data, where a step would take a minibatch.
    init: (fast, slow) -> state of the inner optimizer.
    update: (gradients, state, fast, slow, step) -> (fast, state).
    readout: (fast, slow, data, step) -> pytree, which is computed from the weights after each step;
      None if only the last weights matter.
    proximal: strength of the term proximal / 2 |fast - start|^2, which is added to the loss.
    through_data: True if the data depend on meta-parameters, as features of a network do.
    fault: why `update` cannot be differentiated, or ''.
  """

  loss: Callable[[Fast, Slow, Data, Any], jax.Array]
  init: Callable[[Fast, Slow], Any]
  update: Callable[[Any, Any, Fast, Slow, Any], tuple[Fast, Any]]
  readout: Callable[[Fast, Slow, Data, Any], Any] | None = None
  proximal: float = 0.0
  through_data: bool = False
  fault: str = ''


class Solution(NamedTuple):
  """What an inner loop ends with.

  Attributes:
    fast: the weights after the last step.
    readouts: Inner.readout after each step, stacked, [steps, ...]; None without a readout.
    pull: cotangent of `fast` -> ((cotangent of the start, of slow), residual), for a mode that
      solves a linear system; None for others. What reaches meta-parameters through the data is left
      out. The residual [] is that of the system, relative to the cotangent: 0 means solved; 1 means
      no better than not solving it.
  """

  fast: Fast
  readouts: Any = None
  pull: Callable[[Fast], tuple[tuple[Fast, Slow], jax.Array]] | None = None


# (key, fast, slow, data, steps) -> Solution; the key is for modes that draw random numbers. Raises
# ValueError for less than one step.
Solve = Callable[[Key, Fast, Slow, Data, int], Solution]
# A way to differentiate through an inner problem; raises ValueError for one that it cannot treat.
Mode = Callable[[Inner], Solve]


def anchored(inner: Inner) -> Callable[[Fast, tuple[Slow, Fast], Data, Any], jax.Array]:
  """Returns the inner loss with its proximal term, as a function of (fast, (slow, start), ...)."""

  def loss(fast: Fast, fixed: tuple[Slow, Fast], data: Data, step: Any) -> jax.Array:
    slow, start = fixed
    value = inner.loss(fast, slow, data, step)
    if not inner.proximal:
      return value
    away = jax.tree.map(lambda f, s: jnp.square(f - s).sum(), fast, start)
    return value + 0.5 * inner.proximal * optax.tree.sum(away)

  return loss


def by_optax(
  loss: Callable[[Fast, Slow, Data, Any], jax.Array],
  optimizer: optax.GradientTransformation,
  readout: Callable[[Fast, Slow, Data, Any], Any] | None = None,
  *,
  proximal: float = 0.0,
) -> Inner:
  """Returns the Inner of a loss and any optax transformation.

  Gradients go through the state of the transformation too.

  Args:
    loss: see Inner.
    optimizer: a transformation of gradients. Where a gradient may be exactly zero (behind a silent
      ReLU), Adam and its kin need eps_root > 0 to be differentiated: a square root has no
      derivative at 0.
    readout: see Inner.
    proximal: see Inner.

  Raises:
    ValueError: if the optimizer needs more than gradients and parameters, or proximal < 0.

  >>> from metakit.meta_gradient import unroll
  >>> inner = by_optax(lambda fast, slow, data, step: (fast - data) ** 2, optax.sgd(0.25))
  >>> end = jax.jit(lambda start: unroll()(inner)(None, start, {}, 8.0, 2).fast)
  >>> float(end(0.0))  # each of two steps goes half the way to 8
  6.0
  """
  if proximal < 0:
    raise ValueError(f'proximal={proximal} is negative; use 0 for no proximal term')

  def update(grads: Any, state: Any, fast: Fast, slow: Slow, step: Any) -> tuple[Fast, Any]:
    del slow, step  # an optax transformation keeps its own count
    updates, state = optimizer.update(grads, state, fast)
    return optax.apply_updates(fast, updates), state

  def init(fast: Fast, slow: Slow) -> Any:
    del slow  # an optax transformation knows the weights alone
    try:
      return optimizer.init(fast)
    except (LookupError, AttributeError, TypeError, ValueError) as error:
      names = [keystr(path) for path, _ in tree_leaves_with_path(fast)]
      raise ValueError(
        'the inner optimizer does not take what this learner adapts, which is '
        f'{", ".join(names) if all(names) else "one array"}; make its mask or labels for that tree '
        f'({type(error).__name__}: {str(error).splitlines()[0]})'
      ) from error

  return Inner(loss, init, update, readout, proximal, fault=fault_of(optimizer))


def fault_of(optimizer: optax.GradientTransformation) -> str:
  """Returns why two updates cannot be differentiated in their gradients, or '' if they can.

  The optimizer is tried on a few numbers. Three faults are found: integers that depend on the
  gradients, derivatives that vanish (of a sign, or a quantisation), and loops without a derivative.

  Some optimizers pass without a verdict. One that is made for other trees (optax.masked by labels,
  say) or that holds traced numbers cannot be tried. One that does not move in its first updates
  (optax.MultiSteps) shows nothing.

  Raises:
    ValueError: if the optimizer needs more than gradients and parameters.
  """
  with jax.ensure_compile_time_eval():
    try:
      optimizer.init(_PROBE)
    except Exception:  # a mask or labels expect the network's tree, and may raise anything
      return ''
    try:
      return _tried(optimizer)
    except jax.errors.ConcretizationTypeError:  # it holds traced numbers
      return ''
    except TypeError as error:
      raise ValueError(
        f'the inner optimizer needs more than gradients and parameters ({error}); use one like '
        'optax.sgd or optax.adam'
      ) from error
    except (ValueError, LookupError, AttributeError):  # it is for trees like that of the network
      return ''


_PROBE = {'probe': np.array([[0.3, -0.5], [0.7, 0.2]], np.float32)}


def _tried(optimizer: optax.GradientTransformation) -> str:
  # Some gradients are large and some are small. So an optimizer that clips leaves some unchanged.
  params = jax.tree.map(jnp.asarray, _PROBE)
  one = {'probe': jnp.array([[1.5, -0.4], [-0.03, 1e-6]], jnp.float32)}
  other = {'probe': jnp.array([[-0.002, 0.011], [0.009, -0.013]], jnp.float32)}

  def twice(grads: Any) -> tuple[Any, Any]:
    updates, state = optimizer.update(grads, optimizer.init(params), params)
    moved = optax.apply_updates(params, updates)
    updates, state = optimizer.update(grads, state, moved)
    return optax.apply_updates(moved, updates), state

  (end, ours), (_, theirs) = twice(one), twice(other)
  if any(bool((a != b).any()) for a, b in zip(_integers(ours), _integers(theirs), strict=True)):
    return 'the state of the inner optimizer holds integers that depend on the gradients'
  try:
    slope = jax.grad(lambda grads: optax.tree.vdot(other, twice(grads)[0]))(one)
  except (TypeError, ValueError) as error:
    return f'the inner optimizer has no derivative ({str(error).splitlines()[0]})'
  moves = bool(jnp.any(end['probe'] != params['probe']))
  if moves and not bool(jnp.any(slope['probe'])):
    return 'the update of the inner optimizer has derivative 0 in its gradients (a sign, say)'
  return ''


def _integers(state: Any) -> list[jax.Array]:
  leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(state)]
  return [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.integer)]
