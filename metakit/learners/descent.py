"""What learners by gradient descent share: the inner loop in `adapt` and in `loss`.

A learner says which of its parameters the inner loop changes (fast) and which it does not (slow),
how the two make the parameters of a network, and how the loop goes. How it is differentiated is the
mode's affair (metakit.meta_gradient).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from metakit.builder import meta_learner
from metakit.learners.embedded import PROTOCOLS
from metakit.meta_gradient.diagnostics import diagnose
from metakit.meta_gradient.inner import Inner, Mode, Solution
from metakit.models import Model, drawing, draws_of
from metakit.objectives import cross_entropy
from metakit.types import Episode, Examples, Fitted, Key, MetaLearner, Metrics, Objective, Params

InnerLoss = Callable[[Any, Any, Any, Any], jax.Array]
Split = Callable[[Params, Examples], tuple[Any, Any]]  # (params, support) -> (fast, slow)
Merge = Callable[[Any, Any, Any], Params]  # (fast, slow, step) -> parameters of the network


def by_descent(
  model: Model,
  inner: Callable[[InnerLoss], Inner],
  mode: Mode,
  inner_steps: int,
  test_steps: int | None = None,
  objective: Objective = cross_entropy,
  protocol: str | None = None,
  inner_batch: int = 0,
  init: Callable[[Key, Episode], Params] | None = None,
  split: Split = lambda params, support: (params, {}),
  merge: Merge = lambda fast, slow, step: fast,
  drawn: bool = False,
) -> MetaLearner:
  """Returns the learner that descends on the support loss and is judged on the queries.

  Args:
    model: the network, ending in the task's outputs.
    inner: loss -> the inner problem.
    mode: how to differentiate through it.
    inner_steps: gradient steps in meta-training.
    test_steps: gradient steps of `adapt`; inner_steps by default, 0 for no adaptation.
    objective: loss of the inner steps and of the meta-objective.
    protocol: of a network with batch statistics: 'transductive' normalises the queries by their
      own, 'inductive' by those of the support; its parts in training as at test time. None is
      'transductive' for such a network, and 'inductive' for all others.
    inner_batch: support examples of an inner step, drawn without replacement until all have been;
      0 for all in every step.
    init: (key, episode) -> params; the network's own by default.
    split: (params, support) -> (fast, slow).
    merge: (fast, slow, step) -> parameters of the network in that step, whose number after the last
      step is the number of steps.
    drawn: whether a stochastic network draws in `adapt` too: where that is its training.

  Raises:
    ValueError: for steps, an inner_batch or a protocol that make no sense.
  """
  protocol = check_protocol(model, protocol)
  check_steps(inner_steps, test_steps)
  problem = inner(support_loss(model, objective, merge, inner_steps, inner_batch))
  solve = mode(problem)

  def adapted(
    keys: tuple[Key, Key | None],
    params: Params,
    support: Examples,
    steps: int,
    judged: Callable[[Params], jax.Array] | None = None,
  ) -> tuple[Params, Metrics]:
    """Parameters of the network for the task's queries, and what is to be said of the loop.

    `judged` is the loss of such parameters, of which a mode may solve for the derivative.
    """
    fast, slow = split(params, support)
    solution = solve(keys[0], fast, slow, (keys, support), steps) if steps else Solution(fast)
    moved = {'adaptation_norm': distance(solution.fast, fast)}
    if judged is not None and solution.residual is not None:
      slope = jax.grad(lambda end: judged(merge(end, slow, steps)))(solution.fast)
      moved['implicit_residual'] = solution.residual(jax.lax.stop_gradient(slope))
    return merge(solution.fast, slow, steps), moved

  settle, ask = asking(model, protocol)

  def judge(params: Params, episode: Episode, draws: Key | None) -> tuple[jax.Array, Metrics]:
    query, asked = episode.query, drawing(ask, draws, inner_steps + 1)
    return objective(asked(settle(params, episode.support), query.x, weight=query.weight), query)

  def adapt(key: Key, params: Params, support: Examples) -> Fitted:
    steps = inner_steps if test_steps is None else test_steps
    keys = key, draws_of(model, key) if drawn else None
    return settle(adapted(keys, params, support, steps)[0], support)

  def loss(key: Key, params: Params, episode: Episode) -> tuple[jax.Array, Metrics]:
    draws = draws_of(model, key)
    judged = lambda fitted: judge(fitted, episode, draws)[0]
    fitted, moved = adapted((key, draws), params, episode.support, inner_steps, judged)
    value, metrics = judge(fitted, episode, draws)
    return value, {**metrics, **moved}

  def diagnosis(key: Key, params: Params, episode: Episode) -> Metrics:
    fast, slow = split(params, episode.support)
    outer = lambda end, slow: judge(merge(end, slow, inner_steps), episode, None)[0]
    return diagnose(problem, outer, key, fast, slow, ((key, None), episode.support), inner_steps)

  whole = init or initial(model)
  return meta_learner(whole, adapt, ask, loss=loss, protocol=protocol, diagnose=diagnosis)


def support_loss(
  model: Model, objective: Objective, merge: Merge, inner_steps: int, inner_batch: int
) -> Callable[..., jax.Array]:
  """Returns the loss of the inner loop: (fast, slow, ((key, draws), support), step) -> scalar.

  `draws` is that of metakit.models.draws_of, or None.

  Raises:
    ValueError: if inner_batch is negative.
  """
  if inner_batch < 0:
    raise ValueError(f'inner_batch={inner_batch} is negative; use 0 for the whole support set')

  def loss(fast: Any, slow: Any, data: Any, step: Any) -> jax.Array:
    (key, draws), support = data
    if inner_batch and step is not None:
      support = minibatch(key, support, step, inner_batch)
    params = merge(fast, slow, inner_steps if step is None else step)
    apply = drawing(model.apply, draws, inner_steps if step is None else step)
    return objective(apply(params, support.x, weight=support.weight), support)[0]

  return loss


def distance(end: Any, start: Any) -> jax.Array:
  """Returns how far the inner loop went, a metric: not finite where it diverges."""
  return optax.tree.norm(jax.lax.stop_gradient(optax.tree.sub(end, start)))


def initial(model: Model) -> Callable[[Key, Episode], Params]:
  """Returns the `init` of a learner whose parameters are those of its network."""
  return lambda key, episode: model.init(key, episode.support.x)


def asking(model: Model, protocol: str) -> tuple[Callable[..., Params], Callable[..., jax.Array]]:
  """Returns how a network is made ready for queries, and how it is asked.

  Returns:
    (params, support) -> params, which under 'inductive' hold the normalisation statistics of the
    support set, if the network has such; (params, x, weight=None) -> outputs.
  """
  stored = model.stored
  if protocol == 'transductive' or stored is None:
    return lambda params, support: params, model.apply

  def settle(params: Params, support: Examples) -> Params:
    one = jax.tree.map(lambda leaf: leaf[None], (support.x, support.weight))
    return stored.calibrate(params, *one)

  return settle, stored.apply


def minibatch(key: Key, examples: Examples, step: Any, size: int) -> Examples:
  """Returns the examples of an inner step: all in a random order, then in another, and so on.

  Absent examples (of weight 0) are drawn where there are fewer than `size` others, and only there.

  Args:
    key: of the task.
    examples: of the task.
    step: number of the step, [] int.
    size: examples of a step; all, if there are no more.
  """
  count = len(examples.x)
  size = min(size, count)
  weight = None if examples.weight is None else jnp.asarray(examples.weight)
  present = count if weight is None else jnp.maximum((weight > 0).sum(), 1)
  taken = jnp.minimum(size, present)
  place = step * taken + jnp.arange(size)
  first = place[0] // present  # how many times all have been drawn; the step may begin another

  def order(number: Any) -> jax.Array:
    rows = jax.random.permutation(jax.random.fold_in(key, number), count)
    return rows if weight is None else rows[jnp.argsort(weight[rows] == 0, stable=True)]

  orders = jnp.stack([order(first), order(first + 1)])
  rows = orders[jnp.minimum(place // present - first, 1), place % present]
  drawn = jax.tree.map(lambda leaf: jnp.asarray(leaf)[rows], examples)
  if weight is None:
    return drawn
  return drawn._replace(weight=jnp.where(jnp.arange(size) < taken, drawn.weight, 0))


def check_steps(inner_steps: int, test_steps: int | None) -> None:
  """Raises ValueError for numbers of steps that make no sense."""
  if inner_steps < 1:
    raise ValueError(f'inner_steps={inner_steps} learns nothing from the support; use 1 or more')
  if test_steps is not None and test_steps < 0:
    raise ValueError(f'test_steps={test_steps} is negative; use 0 for no adaptation')


def check_protocol(model: Model, protocol: str | None) -> str:
  """Returns the protocol of a learner, its default filled in.

  Raises:
    ValueError: for an unknown one, or 'transductive' with a network that never mixes examples.
  """
  if protocol is None:
    return 'inductive' if model.stored is None else 'transductive'
  if protocol not in PROTOCOLS:
    raise ValueError(f'protocol={protocol!r} is unknown; use one of {", ".join(PROTOCOLS)}')
  if protocol == 'transductive' and model.stored is None:
    raise ValueError(
      "protocol='transductive' needs a network with batch statistics (norm=batch); this network "
      "treats each query by itself: use protocol='inductive'"
    )
  return protocol
