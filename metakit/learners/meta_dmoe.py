"""Meta-DMoE: steps towards what experts of other domains make of examples without labels.

Tao Zhong, Zhixiang Chi, Li Gu, Yang Wang, Yuanhao Yu, Jin Tang, Meta-DMoE: Adapting to Domain Shift
by Meta-Distillation from Mixture-of-Experts, NeurIPS 2022, arXiv:2210.03885. Implemented: each
training domain has an expert, which is trained in the ordinary way and then frozen. A transformer A
makes one feature vector of theirs. The inner step brings the features of the student to it,
theta' = theta - alpha grad ||A(M(x_support); phi) - f(x_support; theta)||^2, in the student's
body alone. The outer loss is the cross-entropy of head(f(x_query; theta')), which teaches theta,
phi and the head (Algorithm 1). In meta-training A does not see the expert of the episode's own
domain. The norm is the mean square, and A a pre-norm block and a mean over experts, which is
pretrained with a linear layer of its own, as in the authors' code (github.com/n3il666/Meta-DMoE).

Deviations: experts, student and A are pretrained at the same time, by the first `until` steps of
one training; then experts have no gradient (an optimizer with momentum moves them for a few steps
more). Experts have the network of the student. There is no dropout.

Changes in a task: the body of the network, by a loss without labels.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from metakit.absent import guarded
from metakit.keys import stream
from metakit.learners.adversary import domain_of
from metakit.learners.descent import Descent, by_descent, by_optimizer, refuse
from metakit.learners.stages import two_stages
from metakit.models import Model, drawing, draws_of
from metakit.networks.aggregation import over_experts
from metakit.networks.last_layer import init_last_layer, linear, with_last_layer
from metakit.objectives import cross_entropy, weighted_mean
from metakit.types import (
  Episode,
  Examples,
  Key,
  Loss,
  MetaLearner,
  Metrics,
  Objective,
  Params,
)

PRESENT = 'present'  # [experts] bool, put beside the params where an expert is left out


def meta_dmoe(
  embedding: Model,
  num_outputs: int,
  descent: Descent,
  *,
  experts: int = 8,
  heads: int = 4,
  until: int = 500,
  objective: Objective = cross_entropy,
  statistics: str | None = 'support',
) -> MetaLearner:
  """Learns to adapt to a domain from its examples without labels, by the experts of others.

  Args:
    embedding: the network of the student and of each expert, x [examples, ...] -> features
      [examples, features].
    num_outputs: outputs, which mean the same in all domains.
    descent: how the student descends, with an optimizer and all examples in every step:
      Descent(optax.sgd(0.1)), say.
    experts: training domains, as many as episode.info['domain'] [domains] bool tells apart.
    heads: of attention over experts. They must divide the features.
    until: steps of pretraining.
    objective: loss of the queries.
    statistics: see metakit.learners.descent. A network with batch statistics normalises the
      examples of an expert by their own.

  Returns:
    A MetaLearner whose params are {'experts': those of all, [experts, ...], 'aggregator',
    'student'}, the first two with a last layer for their pretraining. No label of the support has
    an effect.

  Raises:
    ValueError: for fewer than two experts, or a descent, heads or statistics that do not fit; when
      the loss is traced, for episodes of no domain, or of more or fewer domains than experts.

  >>> import optax
  >>> from metakit.networks import conv4
  >>> meta_dmoe(conv4(), 10, Descent(optax.sgd(0.1))).protocol
  'inductive'
  """
  refuse(descent, 'batch')
  _check(experts)
  problem, whole, combine = (
    by_optimizer(descent),
    with_last_layer(embedding, num_outputs),
    over_experts(heads),
  )
  see = partial(_seen_by_experts, embedding)

  def split(params: Params, support: Examples) -> tuple[Any, Any]:
    present = params.get(PRESENT, jnp.ones(experts, bool))
    aim = combine.apply(params['aggregator']['body'], see(params, support), present)
    return params['student']['body'], {'head': params['student']['head'], 'aim': aim}

  def unsupervised(fast: Any, slow: Any, data: Any, step: Any) -> jax.Array:
    (_, draws), support = data
    apply = drawing(embedding.apply, draws, descent.steps if step is None else step)
    z = apply(fast, support.x, weight=support.weight)
    return weighted_mean(jnp.square(slow['aim'] - z).mean(-1), support.weight)

  student = by_descent(
    whole,
    descent,
    inner=lambda supervised: problem(unsupervised),
    objective=objective,
    statistics=statistics,
    init=partial(_init, whole, combine, experts),
    split=split,
    merge=lambda fast, slow, step: {'body': fast, 'head': slow['head']},
    unlabelled=True,
  )

  def loss(key: Key, params: Params, episode: Episode) -> tuple[jax.Array, Metrics]:
    others = ~domain_of(episode.info, experts, 'experts')
    return student.loss(key, {**params, PRESENT: others}, episode)

  early = _pretraining(
    whole,
    lambda params, x: combine.apply(
      params['aggregator']['body'], see(params, x), jnp.ones(experts, bool)
    ),
    experts,
    objective=objective,
  )
  stages = two_stages(until, early, loss)
  return guarded(student._replace(loss=loss, loss_at=stages, diagnose=None), unlabelled=True)


def _init(whole: Model, combine: Model, experts: int, key: Key, episode: Episode) -> Params:
  x, draw = episode.support.x, partial(stream, key)
  student = whole.init(key, x)
  every = jax.vmap(lambda key: whole.init(key, x))(jax.random.split(draw('experts'), experts))
  width, num_outputs = student['head']['kernel'].shape
  block = combine.init(draw('block'), jnp.zeros((experts, 1, width)), jnp.ones(experts, bool))
  layer = init_last_layer(draw('layer'), width, num_outputs)
  return {'experts': every, 'aggregator': {'body': block, 'head': layer}, 'student': student}


def _seen_by_experts(embedding: Model, params: Params, examples: Examples) -> jax.Array:
  """Returns the features [experts, examples, width] of frozen experts."""
  bodies = jax.lax.stop_gradient(params['experts']['body'])
  return jax.vmap(lambda body: embedding.apply(body, examples.x, weight=examples.weight))(bodies)


def _pretraining(
  whole: Model,
  aggregate: Callable[[Params, Examples], jax.Array],
  experts: int,
  *,
  objective: Objective,
) -> Loss:
  """Returns the loss of the student, of the expert of the domain, and of all experts together."""

  def loss(key: Key, params: Params, episode: Episode) -> tuple[jax.Array, Metrics]:
    query, own = episode.query, jnp.argmax(domain_of(episode.info, experts, 'experts'))
    apply = drawing(whole.apply, draws_of(whole, key))
    answer = lambda network: objective(apply(network, query.x, weight=query.weight), query)
    of_expert, _ = answer(jax.tree.map(lambda leaf: leaf[own], params['experts']))
    of_student, metrics = answer(params['student'])
    of_all, _ = objective(linear(params['aggregator']['head'], aggregate(params, query)), query)
    # The metrics of both phases have the same names.
    still = {'adaptation_norm': jnp.zeros((), of_student.dtype)}
    return of_student + of_expert + of_all, {**metrics, **still}

  return loss


def _check(experts: int) -> None:
  if experts < 2:
    raise ValueError(
      f'experts={experts} leaves none for an episode of its own domain; use 2 or more domains'
    )
