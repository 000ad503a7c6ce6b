"""ARM-BN: adaptation by the statistics of examples without labels.

Marvin Zhang, Henrik Marklund, Nikita Dhawan, Abhishek Gupta, Sergey Levine, Chelsea Finn, Adaptive
Risk Minimization: Learning to Adapt to Domain Shift, NeurIPS 2021, arXiv:2007.02931. Implemented:
Algorithm 1 with the adaptation of section 4.2 (ARM-BN), which replaces the statistics of batch
normalisation by those of a batch of one domain, in meta-training as at test time. There the batch
is the queries themselves, which is statistics='episode' here. With 'support' the batch is the
support set, so that a query is predicted whatever the others are.

Changes in a task: means and variances of the normalisation.
"""

import jax

from metakit.builder import meta_learner
from metakit.learners.descent import asking, check_statistics, initial
from metakit.models import Model, drawing, draws_of
from metakit.objectives import cross_entropy
from metakit.types import Episode, Key, MetaLearner, Metrics, Objective, Params


def arm_bn(
  model: Model, *, objective: Objective = cross_entropy, statistics: str = 'support'
) -> MetaLearner:
  """Normalises a network by the statistics of the task. No label of the support has an effect.

  Args:
    model: a network with batch statistics that ends in the outputs, which mean the same in all
      tasks.
    objective: loss of the queries.
    statistics: those of the 'support', or of the 'episode', which are the queries themselves.

  Returns:
    A MetaLearner whose params are those of the network, and whose fitted hold the statistics.

  Raises:
    ValueError: for a network without batch statistics, or other statistics.

  >>> from metakit.networks import conv4
  >>> [arm_bn(conv4(10), statistics=each).protocol for each in ('support', 'episode')]
  ['inductive', 'transductive']
  """
  if model.stored is None:
    raise ValueError(
      'arm_bn adapts batch statistics, and this network has none; use a network with norm=batch, '
      'or arm_ll'
    )
  settle, ask = asking(model, check_statistics(model, statistics))

  def loss(key: Key, params: Params, episode: Episode) -> tuple[jax.Array, Metrics]:
    query, answer = episode.query, drawing(ask, draws_of(model, key))
    fitted = settle(params, episode.support)
    return objective(answer(fitted, query.x, weight=query.weight), query)

  return meta_learner(
    initial(model),
    lambda key, params, support: settle(params, support),
    ask,
    loss=loss,
    queries_seen=statistics == 'episode',
    unlabelled=True,
  )
