"""A head that is trained by its own loss and by other losses of the same features."""

from collections.abc import Callable, Sequence

import jax

from metakit.absent import blanked, guarded, labelled
from metakit.types import Episode, Key, MetaLearner, Metrics, Params

FeatureLoss = Callable[[Episode], jax.Array]  # an episode of features -> scalar


def with_losses(head: MetaLearner, losses: Sequence[FeatureLoss]) -> MetaLearner:
  """Makes a head whose training loss is the mean of its own and of other losses.

  Args:
    head: any head.
    losses: functions of an episode of features, metakit.losses.icnn() for instance.

  Raises:
    ValueError: if there are none.

  >>> from metakit.heads import prototypes
  >>> from metakit.losses import icnn, proto_triplet
  >>> head = with_losses(prototypes(ways=5), [icnn(), proto_triplet(ways=5)])
  >>> head.protocol  # only the training changes
  'inductive'
  """
  if not losses:
    raise ValueError('losses are none; give some, or use the head as it is')

  def loss(key: Key, params: Params, episode: Episode) -> tuple[jax.Array, Metrics]:
    of_head, metrics = head.loss(key, params, episode)
    with_labels = episode._replace(support=blanked(labelled(episode.support)))
    value = (of_head + sum(each(with_labels) for each in losses)) / (1 + len(losses))
    return value, {**metrics, 'loss': value}

  return guarded(head._replace(loss=loss), unlabelled=True)
