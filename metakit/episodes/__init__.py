"""Samplers: pure functions of a key that make episodes, and combinators of them."""

from metakit.episodes.class_incremental import Sessions, class_incremental_plan
from metakit.episodes.combinators import (
  augment,
  augment_source,
  mixture,
  ramp,
  relabel,
  shorten,
  switch,
)
from metakit.episodes.few_shot import few_shot, few_shot_plan, gather, sampler_of
from metakit.episodes.image_transforms import (
  mirror_image,
  rotate_quarter_turns,
  shift_image,
  warp_image,
)
from metakit.episodes.imbalanced import imbalanced, imbalanced_plan
from metakit.episodes.projected import projected
from metakit.episodes.semi_supervised import semi_supervised, semi_supervised_plan
from metakit.episodes.sinusoid import sinusoid
from metakit.episodes.variable_shot import variable_shot, variable_shot_plan
from metakit.episodes.within_group import within_group, within_group_plan

__all__ = [
  'Sessions',
  'augment',
  'augment_source',
  'class_incremental_plan',
  'few_shot',
  'few_shot_plan',
  'gather',
  'imbalanced',
  'imbalanced_plan',
  'mirror_image',
  'mixture',
  'projected',
  'ramp',
  'relabel',
  'rotate_quarter_turns',
  'sampler_of',
  'semi_supervised',
  'semi_supervised_plan',
  'shift_image',
  'shorten',
  'sinusoid',
  'switch',
  'variable_shot',
  'variable_shot_plan',
  'warp_image',
  'within_group',
  'within_group_plan',
]
