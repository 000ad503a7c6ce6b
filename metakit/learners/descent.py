"""What learners by gradient descent share: the inner loop in `adapt` and in `loss`.

A learner says which of its parameters the inner loop changes (fast) and which it does not (slow).
It says how the two make the parameters of a network, and how the loop goes. The mode says how the
loop is differentiated (metakit.meta_gradient).
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import optax

from metakit.builder import meta_learner
from metakit.meta_gradient.diagnostics import diagnose
from metakit.meta_gradient.inner import Inner, Mode, Solution, by_optax
from metakit.meta_gradient.loops import unroll
from metakit.minibatches import minibatch
from metakit.models import Model, drawing, draws_of
from metakit.objectives import cross_entropy
from metakit.types import (
  Episode,
  Examples,
  Fitted,
  Init,
  Key,
  MetaLearner,
  Metrics,
  Objective,
  Params,
)

STATISTICS = ('support', 'episode')


class InnerLoss(Protocol):
  """The loss of the inner loop; see metakit.meta_gradient.Inner."""

  def __call__(self, fast: Any, slow: Any, data: Any, step: Any, /) -> jax.Array: ...


class Split(Protocol):
  """Returns what the inner loop changes and what it does not, (fast, slow)."""

  def __call__(self, params: Params, support: Examples, /) -> tuple[Any, Any]: ...


class Merge(Protocol):
  """Returns the parameters of the network in an inner step."""

  def __call__(self, fast: Any, slow: Any, step: Any, /) -> Params: ...


class Descent(NamedTuple):
  """How a learner descends on the support set of a task.

  Attributes:
    optimizer: any optax transformation. Its state is differentiated too. None for learners that
      have their own rule for a step. Adam and its kin need eps_root > 0 to be differentiated
      (optax.adam(0.1, eps_root=1e-8)): their square root has no derivative where a gradient is
      zero, as it is behind a silent ReLU.
    steps: gradient steps in meta-training.
    test_steps: gradient steps of `adapt`; None for as many as in training, 0 for no adaptation.
    mode: how to differentiate (metakit.meta_gradient); None for the usual mode of the learner.
    batch: support examples of an inner step. They are drawn without replacement until all have been
      drawn. 0 takes all in every step.
  """

  optimizer: optax.GradientTransformation | None = None
  steps: int = 1
  test_steps: int | None = None
  mode: Mode | None = None
  batch: int = 0

  @property
  def steps_of_adapt(self) -> int:
    return self.steps if self.test_steps is None else self.test_steps


def by_optimizer(descent: Descent, *, proximal: float = 0.0) -> Callable[[InnerLoss], Inner]:
  """Returns a function, loss -> the inner problem that the optimizer of a descent solves.

  Args:
    descent: with an optimizer.
    proximal: see metakit.meta_gradient.Inner.

  Raises:
    ValueError: without an optimizer.
  """
  optimizer = descent.optimizer
  if optimizer is None:
    raise ValueError('this descent has no optimizer; give one, such as Descent(optax.sgd(0.1))')
  return lambda loss: by_optax(loss, optimizer, proximal=proximal)


def by_update(descent: Descent, update: Callable[..., Any]) -> Callable[[InnerLoss], Inner]:
  """Returns a function, loss -> the inner problem that a learner's own rule solves, without state.

  Args:
    descent: without an optimizer.
    update: see metakit.meta_gradient.Inner.

  Raises:
    ValueError: for an optimizer, which would have no effect.
  """
  refuse(descent, 'optimizer')
  return lambda loss: Inner(loss, lambda fast, slow: (), update)


def refuse(descent: Descent, *names: str) -> None:
  """Raises ValueError for parts of a descent that would have no effect on a learner."""
  for name in names:
    value = getattr(descent, name)
    if value != Descent._field_defaults[name]:
      shown = '' if name in ('optimizer', 'mode') else f'={value}'
      raise ValueError(f'{name}{shown} of the descent has no effect on this learner; leave it out')


def by_descent(
  model: Model,
  descent: Descent,
  *,
  inner: Callable[[InnerLoss], Inner] | None = None,
  objective: Objective = cross_entropy,
  statistics: str | None = None,
  init: Init | None = None,
  split: Split = lambda params, support: (params, {}),
  merge: Merge = lambda fast, slow, step: fast,
  drawn: bool = False,
  unlabelled: bool = False,
) -> MetaLearner:
  """Returns the learner that descends on the support loss and is judged on the queries.

  Args:
    model: a network that ends in the task's outputs.
    descent: how it descends. Without a mode it is differentiated by unroll().
    inner: loss -> the inner problem; by default `by_optimizer(descent)`.
    objective: loss of the inner steps and of the meta-objective.
    statistics: what a network with batch statistics normalises queries by, in training as at test
      time: the 'episode', which is the queries themselves, or the 'support'. None is 'episode' for
      such a network, and 'support' for all others.
    init: (key, episode) -> params; by default those of the network.
    split: (params, support) -> (fast, slow).
    merge: (fast, slow, step) -> parameters of the network in that step. After the last step, `step`
      is the number of steps.
    drawn: whether a stochastic network draws in `adapt` too, for learners that train by `adapt`.
    unlabelled: see metakit.builder; for an inner loss that takes examples without labels.

  Raises:
    ValueError: for steps, a batch or statistics that make no sense, or without an optimizer.
  """
  statistics = check_statistics(model, statistics)
  check_descent(descent)
  inner, steps = inner or by_optimizer(descent), descent.steps
  problem = inner(support_loss(model, objective, merge, descent=descent))
  solve = (descent.mode or unroll())(problem)
  settle, ask = asking(model, statistics)

  def judge(params: Params, episode: Episode, draws: Key | None) -> tuple[jax.Array, Metrics]:
    query, answer = episode.query, drawing(ask, draws, steps + 1)
    return objective(answer(settle(params, episode.support), query.x, weight=query.weight), query)

  def adapt(key: Key, params: Params, support: Examples) -> Fitted:
    keys = key, draws_of(model, key) if drawn else None
    (fast, slow), number = split(params, support), descent.steps_of_adapt
    end = solve(key, fast, slow, (keys, support), number).fast if number else fast
    return settle(merge(end, slow, number), support)

  def loss(key: Key, params: Params, episode: Episode) -> tuple[jax.Array, Metrics]:
    draws, (fast, slow) = draws_of(model, key), split(params, episode.support)
    outer = lambda end, slow: judge(merge(end, slow, steps), episode, draws)
    solution = solve(key, fast, slow, ((key, draws), episode.support), steps)
    value, metrics = pulled_back(outer, solution, fast, slow=slow)
    return value, {**metrics, 'adaptation_norm': distance(solution.fast, fast)}

  def diagnosis(key: Key, params: Params, episode: Episode) -> Metrics:
    fast, slow = split(params, episode.support)
    outer = lambda end, slow: judge(merge(end, slow, steps), episode, None)[0]
    data = (key, None), episode.support
    return diagnose(problem, outer, key, fast=fast, slow=slow, data=data, steps=steps)

  whole = init or initial(model)
  return meta_learner(
    whole,
    adapt,
    ask,
    loss=loss,
    queries_seen=statistics == 'episode',
    unlabelled=unlabelled,
    diagnose=diagnosis,
  )


def pulled_back(
  outer: Callable[[Any, Any], tuple[jax.Array, Metrics]],
  solution: Solution,
  fast: Any,
  *,
  slow: Any,
) -> tuple[jax.Array, Metrics]:
  """Returns the loss and the metrics of a solution, differentiable in fast and slow.

  A mode that solves a linear system gets the gradient of the loss here, solves it once, and reports
  the residual. Were the loss differentiated as usual, the residual would need the gradient and the
  solution a second time. The gradient then has no derivative of its own.

  Args:
    outer: (end of the inner loop, slow) -> (loss, metrics); slow holds floats alone.
    solution: of the inner loop.
    fast: where the loop started.
    slow: what it did not change.
  """
  if solution.pull is None:
    return outer(solution.fast, slow)
  held = jax.lax.stop_gradient((solution.fast, slow))
  judged = jax.value_and_grad(outer, (0, 1), has_aux=True)
  (value, metrics), (at_end, at_slow) = judged(*held)
  (for_fast, for_slow), residual = solution.pull(at_end)
  slopes = for_fast, optax.tree.add(at_slow, for_slow)
  value = _with_slopes(value, slopes, (fast, slow))
  return value, {**metrics, 'implicit_residual': residual}


@jax.custom_jvp
def _with_slopes(value: jax.Array, slopes: Any, at: Any) -> jax.Array:
  """Returns the value, with the gradient `slopes` in `at`."""
  del slopes, at
  return value


@_with_slopes.defjvp
def _along(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
  value, slopes, _ = primals
  return value, optax.tree.vdot(slopes, tangents[2]).astype(value.dtype)


def support_loss(
  model: Model, objective: Objective, merge: Merge, *, descent: Descent
) -> Callable[..., jax.Array]:
  """Returns the loss of the inner loop: (fast, slow, ((key, draws), support), step) -> scalar.

  `draws` comes from metakit.models.draws_of, or is None.
  """

  def loss(fast: Any, slow: Any, data: Any, step: Any) -> jax.Array:
    (key, draws), support = data
    if descent.batch and step is not None:
      support = minibatch(key, support, step, size=descent.batch)
    params = merge(fast, slow, descent.steps if step is None else step)
    apply = drawing(model.apply, draws, descent.steps if step is None else step)
    return objective(apply(params, support.x, weight=support.weight), support)[0]

  return loss


def distance(end: Any, start: Any) -> jax.Array:
  """Returns how far the inner loop went. This metric is not finite if the loop diverges."""
  return optax.tree.norm(jax.lax.stop_gradient(optax.tree.sub(end, start)))


def initial(model: Model) -> Init:
  """Returns the `init` of a learner whose parameters are those of its network."""
  return lambda key, episode: model.init(key, episode.support.x)


def asking(model: Model, statistics: str) -> tuple[Callable[..., Params], Callable[..., jax.Array]]:
  """Returns two functions: one makes a network ready for queries, one predicts them.

  Returns:
    (params, support) -> params. They hold the normalisation statistics of the support set if
    queries are normalised by those. And (params, x, weight=None) -> outputs.
  """
  stored = model.stored
  if statistics == 'episode' or stored is None:
    return lambda params, support: params, model.apply

  def settle(params: Params, support: Examples) -> Params:
    one = jax.tree.map(lambda leaf: leaf[None], (support.x, support.weight))
    return stored.calibrate(params, *one)

  return settle, stored.apply


def check_descent(descent: Descent) -> None:
  """Raises ValueError for numbers of steps or of examples that make no sense."""
  if not isinstance(descent, Descent):
    kind = type(descent).__name__
    raise ValueError(f'{kind} is no Descent; give one, such as Descent(optax.sgd(0.1))')
  if descent.steps < 1:
    raise ValueError(f'steps={descent.steps} learns nothing from the support; use 1 or more')
  if descent.steps_of_adapt < 0:
    raise ValueError(f'test_steps={descent.test_steps} is negative; use 0 for no adaptation')
  if descent.batch < 0:
    raise ValueError(f'batch={descent.batch} is negative; use 0 for the whole support set')


def check_statistics(model: Model, statistics: str | None) -> str:
  """Returns what a network normalises queries by; fills in the default.

  Raises:
    ValueError: for what is unknown, or 'episode' with a network that never mixes examples.
  """
  if statistics is None:
    return 'support' if model.stored is None else 'episode'
  if statistics not in STATISTICS:
    raise ValueError(f'statistics={statistics!r} are unknown; use one of {", ".join(STATISTICS)}')
  if statistics == 'episode' and model.stored is None:
    raise ValueError(
      "statistics='episode' needs a network with batch statistics (norm=batch); this network "
      "treats each query by itself: use statistics='support'"
    )
  return statistics
