"""Losses of features, to be added to the loss of a head, and what students learn from a teacher."""

from metakit.losses.answers import answer_distillation
from metakit.losses.icnn import icnn
from metakit.losses.proto_triplet import proto_triplet
from metakit.losses.relational import angle_distillation, distance_distillation
from metakit.losses.supervised_contrastive import supervised_contrastive
from metakit.losses.together import FeatureLoss, with_losses

__all__ = [
  'FeatureLoss',
  'angle_distillation',
  'answer_distillation',
  'distance_distillation',
  'icnn',
  'proto_triplet',
  'supervised_contrastive',
  'with_losses',
]
