"""BOIL: body only update in inner loop.

Jaehoon Oh, Hyungjun Yoo, ChangHwan Kim, Se-Young Yun, BOIL: Towards Representation Change for
Few-shot Learning, ICLR 2021, arXiv:2008.08882. Implemented: the inner learning rate of the last
linear layer is zero (eq. 2), so the representation has to change; the layer is meta-learned.

Changes in a task: all but the last layer.
"""

from metakit.learners.descent import Descent, by_descent
from metakit.models import Model
from metakit.networks.last_layer import with_last_layer
from metakit.objectives import cross_entropy
from metakit.types import MetaLearner, Objective


def boil(
  embedding: Model,
  num_outputs: int,
  descent: Descent,
  *,
  objective: Objective = cross_entropy,
  statistics: str | None = None,
) -> MetaLearner:
  """MAML whose inner loop does not change the last layer. Args and raises: as `maml` and `anil`.

  >>> import optax
  >>> from metakit.networks import conv4
  >>> learner = boil(conv4(), num_outputs=5, descent=Descent(optax.sgd(0.5)))
  >>> learner.features is None  # each task embeds in its own way, so no table is embedded once
  True
  """
  return by_descent(
    with_last_layer(embedding, num_outputs),
    descent,
    objective=objective,
    statistics=statistics,
    split=lambda params, support: (params['body'], params['head']),
    merge=lambda body, head, step: {'body': body, 'head': head},
  )
