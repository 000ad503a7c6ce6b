"""MAML++.

Antreas Antoniou, Harrison Edwards, Amos Storkey, How to train your MAML, ICLR 2019,
arXiv:1810.09502. Implemented, by the names of its section 4:
  MSL: the loss of the queries after every inner step. Its weights move to the last step in the
    course of training (eq. 2); afterwards the last step counts alone.
  DA: first-order gradients in the first training steps, then second order.
  BNRS: each step has its own normalisation statistics. They are those of the support under the
    weights of that step, at test time as in training. Those after the last step serve the queries
    (statistics='support'; see the deviations).
  BNWB: each step has its own scale and bias of the normalisation. They are meta-learned, and the
    inner loop leaves them alone. There is one more of each than steps, for the queries.
  LSLR: a learned rate for every array of the network and every step.
  CA: a cosine schedule of the outer learning rate, which is the outer optimizer's.
Deviations: no statistics are tracked in the course of training, and there is no ensemble. (The
published numbers are those of an ensemble of five checkpoints.) Statistics of training episodes
serve badly after a training that normalises each batch by itself, as the published one does.
Accuracy on validation classes of Omniglot (5-way 1-shot, 3,350 steps of 8 tasks), by what
normalises at test time:

  queries by themselves                                         97.4%
  queries by the support                                        96.5%
  queries by training episodes                                  86.8%
  every step and the queries by training episodes               46.9%

Changes in a task: the network but its normalisation.
Published on Omniglot, 5-way and 20-way 1-shot: 99.47, 97.65.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import keystr

from metakit.builder import meta_learner
from metakit.learners.descent import (
  Descent,
  asking,
  check_descent,
  check_statistics,
  distance,
  refuse,
)
from metakit.meta_gradient import Inner, Solve, first_order, unroll
from metakit.meta_gradient.diagnostics import diagnose
from metakit.models import Model, drawing, draws_of, roles_of
from metakit.objectives import cross_entropy
from metakit.roles import NORM, WEIGHT
from metakit.types import (
  Episode,
  Examples,
  Fitted,
  Key,
  LossAt,
  MetaLearner,
  Metrics,
  Objective,
  Params,
)

USUAL = Descent(steps=5)
LEAST = 0.03  # the least weight of an early step's loss, times the number of steps


def maml_plus_plus(
  model: Model,
  descent: Descent = USUAL,
  *,
  initial_rate: float = 0.1,
  objective: Objective = cross_entropy,
  statistics: str | None = None,
  multi_step_until: int = 0,
  first_order_until: int = 0,
) -> MetaLearner:
  """MAML with all that makes its training stable.

  Args:
    model: a network that ends in the task's outputs. Its roles (Model.roles) say which parameters
      are of a normalisation; each step has its own of these.
    descent: how it descends, without an optimizer and on the whole support set. Steps at test time
      beyond those of training use the rates and the normalisation of the last. The usual mode is
      unroll(True): a loop whose steps differ takes twice as long on a CPU. Compilation then grows
      with the steps.
    initial_rate: the first rate of every array and step.
    objective: loss of the inner steps and of the meta-objective.
    statistics: what a network with batch statistics normalises queries by: their own ('episode',
      the default there), or those of the 'support'.
    multi_step_until: the training step up to which the losses after all inner steps count.
    first_order_until: the training step up to which the inner gradients count as constants.

  Returns:
    A MetaLearner whose params are {'start', 'norms', 'rates'}.

  Raises:
    ValueError: for a descent, a rate or statistics that do not fit; at init, if a network with
      batch statistics does not say what its normalisation is.

  >>> from metakit.episodes import sinusoid
  >>> from metakit.networks import mlp
  >>> learner = maml_plus_plus(mlp(num_outputs=1), Descent(steps=5))
  >>> episode = jax.eval_shape(sinusoid(), jax.random.key(0))
  >>> params = jax.eval_shape(learner.init, jax.random.key(1), episode)
  >>> {rates.shape for rates in jax.tree.leaves(params['rates'])}  # of each array, for every step
  {(5,)}
  """
  statistics = check_statistics(model, statistics)
  check_descent(descent)
  refuse(descent, 'optimizer', 'batch')
  check_numbers(initial_rate, multi_step_until, first_order_until)
  judge, inner_steps = judging(model, objective), descent.steps
  last, every = problems(judge, inner_steps)
  second = descent.mode or unroll(True)
  begins = sorted({0, multi_step_until, first_order_until})

  def phase(begin: int) -> LossAt:
    """The loss from training step `begin` on, until the next phase."""
    multi = multi_step_until if begin < multi_step_until else 0
    mode = first_order(True) if begin < first_order_until else second
    descend, draws = mode(every if multi else last), partial(draws_of, model)
    return phase_loss(judge, descend, draws, inner_steps=inner_steps, multi_step_until=multi)

  phases = [phase(begin) for begin in begins]
  solve, steps = second(last), descent.steps_of_adapt
  settle, ask = asking(model, statistics)

  def adapt(key: Key, params: Params, support: Examples) -> Fitted:
    fast = params['start']
    end = solve(key, fast, params, (None, support), steps).fast if steps else fast
    return settle(of_step(end, params, steps), support)

  def diagnosis(key: Key, params: Params, episode: Episode) -> Metrics:
    outer = lambda end, slow: judge(end, slow, episode.query, inner_steps)[0]
    fast, data = params['start'], (None, episode.support)
    return diagnose(last, outer, key, fast=fast, slow=params, data=data, steps=inner_steps)

  return meta_learner(
    lambda key, episode: initial(model, inner_steps, initial_rate, key=key, episode=episode),
    adapt,
    ask,
    loss=lambda key, params, episode: phases[-1](begins[-1], key, params, episode),
    queries_seen=statistics == 'episode',
    loss_at=in_turn(begins, phases) if len(phases) > 1 else None,
    diagnose=diagnosis,
  )


def check_numbers(initial_rate: float, multi_step_until: int, first_order_until: int) -> None:
  """Raises ValueError for a rate or a training step without sense."""
  if initial_rate <= 0 or multi_step_until < 0 or first_order_until < 0:
    raise ValueError(
      f'initial_rate={initial_rate} must be positive, multi_step_until={multi_step_until} and '
      f'first_order_until={first_order_until} not negative'
    )


def judging(model: Model, objective: Objective) -> Callable[..., tuple[jax.Array, Metrics]]:
  """Returns what judges the network of an inner step.

  It is (fast, slow, examples, step, draws=None, call=0) -> (loss, metrics). The last two arguments
  are those of metakit.models.drawing.
  """

  def judge(
    fast: Params, slow: Params, examples: Examples, step: Any, draws: Any = None, call: Any = 0
  ) -> tuple[Any, Metrics]:
    apply = drawing(model.apply, draws, call)
    outputs = apply(of_step(fast, slow, step), examples.x, weight=examples.weight)
    return objective(outputs, examples)

  return judge


def problems(judge: Callable[..., Any], inner_steps: int) -> tuple[Inner, Inner]:
  """Returns the inner problem, and one that also reads the loss of the queries after every step.

  Their data are (draws, support, query); only the second needs the query.
  """

  def inner_loss(fast: Params, slow: Params, data: Any, step: Any) -> jax.Array:
    step = inner_steps if step is None else step
    return judge(fast, slow, data[1], step, data[0], 2 * step)[0]

  def readout(fast: Params, slow: Params, data: Any, step: Any) -> jax.Array:
    return judge(fast, slow, data[2], step + 1, data[0], 2 * step + 1)[0]

  last = Inner(inner_loss, lambda fast, slow: (), update)
  return last, last._replace(readout=readout)


def phase_loss(
  judge: Callable[..., Any],
  descend: Solve,
  draws: Callable[[Key], Key | None],
  *,
  inner_steps: int,
  multi_step_until: int,
) -> LossAt:
  """Returns the meta-objective: of the last step, or of all steps if multi_step_until > 0."""

  def loss(step: Any, key: Key, params: Params, episode: Episode) -> tuple[jax.Array, Metrics]:
    drawn = draws(key)
    data = drawn, episode.support, episode.query
    solution = descend(key, params['start'], params, data, inner_steps)
    value, metrics = judge(
      solution.fast, params, episode.query, inner_steps, drawn, 2 * inner_steps + 1
    )
    metrics['adaptation_norm'] = distance(solution.fast, params['start'])
    if multi_step_until:
      value = (multi_step_weights(step, inner_steps, multi_step_until) * solution.readouts).sum()
    return value, metrics

  return loss


def in_turn(begins: Sequence[int], phases: Sequence[LossAt]) -> LossAt:
  """Returns the loss of the phase that a training step is in."""

  def loss_at(step: Any, key: Key, params: Params, episode: Episode) -> tuple[jax.Array, Metrics]:
    number = jnp.searchsorted(jnp.asarray(begins), step, side='right') - 1
    return jax.lax.switch(number, phases, step, key, params, episode)

  return loss_at


def initial(model: Model, inner_steps: int, rate: float, *, key: Key, episode: Episode) -> Params:
  """Returns the first meta-parameters.

  They are the network, a copy of its normalisation for each step, and the rates. The last two are
  dicts by the path of an array.

  Raises:
    ValueError: if the network normalises by its batch and does not say where.
  """
  start = model.init(key, episode.support.x)
  roles = jax.tree.leaves(roles_of(model, start, episode.support.x))
  named = jax.tree_util.tree_leaves_with_path(start)
  of_role = lambda wanted: {
    keystr(path): leaf for (path, leaf), role in zip(named, roles, strict=True) if role == wanted
  }
  norms = of_role(NORM)
  if model.stored is not None and not norms:
    raise ValueError(
      'this network has batch statistics but does not say which of its arrays are of a '
      "normalisation, which are to be of each step's own; give from_linen the classes of its "
      'layers (norms=), or Model its roles'
    )
  rates = jnp.full(inner_steps, rate, jnp.float32)
  per_step = lambda leaf: jnp.repeat(leaf[None], inner_steps + 1, axis=0)
  return {
    'start': start,
    'norms': {name: per_step(leaf) for name, leaf in norms.items()},
    'rates': {name: rates for name in of_role(WEIGHT)},
  }


def of_step(fast: Params, slow: Params, step: Any) -> Params:
  """Returns the parameters of the network in a step: the normalisation is that of the step."""

  def leaf_of_step(path: Any, leaf: jax.Array) -> jax.Array:
    copies = slow['norms'].get(keystr(path))
    return leaf if copies is None else copy_of(copies, step)

  return jax.tree_util.tree_map_with_path(leaf_of_step, fast)


def copy_of(copies: jax.Array, step: Any) -> jax.Array:
  """Returns what belongs to a step, or to the last one."""
  return jnp.asarray(copies)[jnp.minimum(step, len(copies) - 1)]


def update(grads: Any, state: Any, fast: Params, slow: Params, step: Any) -> tuple[Params, Any]:
  """An inner step, with the rates of every array in that step."""

  def move(path: Any, leaf: jax.Array, gradient: jax.Array) -> jax.Array:
    rates = slow['rates'].get(keystr(path))
    return leaf if rates is None else leaf - copy_of(rates, step) * gradient

  return jax.tree_util.tree_map_with_path(move, fast, grads), state


def multi_step_weights(step: Any, inner_steps: int, until: int) -> jax.Array:
  """Returns the weight of the loss after each inner step, [inner_steps], in a training step.

  At first all are equal. Until training step `until`, each but the last falls linearly to LEAST
  times its first value. The last gets what the others lose.
  """
  early = jnp.maximum(1 - step / max(until, 1), LEAST) / inner_steps
  return jnp.full(inner_steps, early).at[-1].set(1 - (inner_steps - 1) * early)
