"""Prototypical networks.

Jake Snell, Kevin Swersky, Richard Zemel, Prototypical Networks for Few-shot Learning, NeurIPS 2017,
arXiv:1703.05175. Implemented: the prototypes (eq. 1), the softmax over distances (eq. 2), the
negative log-likelihood (Algorithm 1) and both distances of section 2.7. Deviation: the statistics
of batch normalisation at test time are those of training episodes pooled after training
(metakit.networks.normalisation) rather than a moving average; 'transductive' uses the episode's.
"""

from metakit.heads.prototypes import prototypes
from metakit.learners.embedded import embedded
from metakit.models import Model
from metakit.objectives import cross_entropy
from metakit.types import MetaLearner, Objective


def prototypical(
  model: Model,
  ways: int,
  distance: str = 'euclidean',
  *,
  protocol: str = 'inductive',
  objective: Objective = cross_entropy,
) -> MetaLearner:
  """Classifies by the nearest class mean in a learned embedding.

  Args:
    model: the embedding network, x [examples, ...] -> [examples, features].
    ways: classes an episode (at most; a class without support is never predicted).
    distance: 'euclidean' (squared) or 'cosine'.
    protocol: 'inductive' or 'transductive', which differ by the statistics of batch normalisation.
    objective: the training loss.

  Raises:
    ValueError: for an unknown distance or protocol, or ways below 2.
  """
  return embedded(model, prototypes(ways, distance, objective=objective), protocol)
