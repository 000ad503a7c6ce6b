"""ANIL: almost no inner loop.

Aniruddh Raghu, Maithra Raghu, Samy Bengio, Oriol Vinyals, Rapid Learning or Feature Reuse? Towards
Understanding the Effectiveness of MAML, ICLR 2020, arXiv:1909.09157. Implemented: the inner loop
changes the last linear layer alone (section 4), so an episode is embedded once, whatever the number
of inner steps. Deviation: support and queries are embedded in one batch in training, as by all
learners with a head on an embedding (metakit.learners.embedded); 'inductive' embeds test episodes
with the statistics of training episodes, 'transductive' with the episode's own.
"""

import optax

from metakit.learners.descent import Split, by_descent
from metakit.learners.embedded import embedded
from metakit.learners.head import head_alone, with_head
from metakit.meta_gradient import Mode, by_optax, unroll
from metakit.models import Model, StoredStatistics
from metakit.objectives import cross_entropy
from metakit.types import MetaLearner, Objective


def anil(
  embedding: Model,
  num_outputs: int,
  inner_optimizer: optax.GradientTransformation,
  inner_steps: int = 5,
  test_steps: int | None = None,
  mode: Mode | None = None,
  objective: Objective = cross_entropy,
  protocol: str = 'inductive',
  inner_batch: int = 0,
) -> MetaLearner:
  """MAML whose inner loop learns the last layer only.

  Args:
    embedding: x [examples, ...] -> features [examples, features].
    num_outputs: of the last layer.
    inner_optimizer: any optax transformation; see metakit.learners.maml.
    inner_steps: gradient steps in meta-training.
    test_steps: gradient steps of `adapt`; inner_steps by default.
    mode: how to differentiate; unroll() by default. Not evolution, to which the features are data.
    objective: loss of the inner steps and of the meta-objective.
    protocol: 'inductive' or 'transductive', which differ by the statistics of batch normalisation.
    inner_batch: support examples of an inner step; 0 for all.

  Raises:
    ValueError: for numbers of steps, a protocol, an optimizer or a mode that do not fit.
  """
  inner = lambda loss: by_optax(loss, inner_optimizer)
  steps = inner_steps, test_steps
  split: Split = lambda params, support: (params['head'], {})
  head = by_descent(
    head_alone, inner, mode or unroll(), *steps, objective, None, inner_batch, split=split
  )
  return embedded(
    features_of(with_head(embedding, num_outputs), embedding), head, objective, protocol
  )


def features_of(whole: Model, embedding: Model) -> Model:
  """Returns the embedding as a network with the parameters of the whole one."""
  apply = lambda params, x, weight=None: embedding.apply(params['body'], x, weight=weight)
  if embedding.stored is None or whole.stored is None:
    return Model(whole.init, apply)
  stored = embedding.stored
  apply_stored = lambda params, x, weight=None: stored.apply(params['body'], x)
  return Model(whole.init, apply, StoredStatistics(apply_stored, whole.stored.calibrate))
