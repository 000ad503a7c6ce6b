"""ANIL: almost no inner loop.

Aniruddh Raghu, Maithra Raghu, Samy Bengio, Oriol Vinyals, Rapid Learning or Feature Reuse? Towards
Understanding the Effectiveness of MAML, ICLR 2020, arXiv:1909.09157. Implemented: the inner loop
changes the last linear layer alone (section 4), so an episode is embedded once, whatever the number
of inner steps. Deviation: support and queries are embedded in one batch in training, as by all
learners with a head on an embedding (metakit.learners.embedded); 'inductive' embeds test episodes
with the statistics of training episodes, 'transductive' with the episode's own.
"""

import optax

from metakit.learners.descent import by_descent
from metakit.learners.embedded import embedded
from metakit.learners.head import head_alone, init_head
from metakit.meta_gradient import Mode, by_optax, unroll
from metakit.models import Model
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
    mode: how to differentiate; unroll() by default. Not evolution, to which features are constants.
    objective: loss of the inner steps and of the meta-objective.
    protocol: 'inductive' or 'transductive', which differ by the statistics of batch normalisation.
    inner_batch: support examples of an inner step; 0 for all.

  Raises:
    ValueError: for numbers of steps, a protocol, an optimizer or a mode that do not fit.
  """
  inner = lambda loss: by_optax(loss, inner_optimizer)._replace(through_data=True)
  steps = inner_steps, test_steps
  init = lambda key, episode: init_head(key, episode.support.x.shape[1], num_outputs)
  head = by_descent(head_alone, inner, mode or unroll(), *steps, objective, None, inner_batch, init)
  return embedded(embedding, head, protocol)
