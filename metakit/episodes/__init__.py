"""Samplers: factories of sources (metakit.sources), and combinators of them."""

from metakit.episodes.augmentation import augment
from metakit.episodes.class_incremental import Sessions, class_incremental
from metakit.episodes.colour_transforms import jitter_colours, turn_hue
from metakit.episodes.combinators import mixture, ramp, relabel, shorten, switch, vary_shots
from metakit.episodes.cues import colour_cue, position_cue, texture_cue
from metakit.episodes.few_shot import few_shot
from metakit.episodes.image_completion import image_completion
from metakit.episodes.image_transforms import (
  cut_out,
  mirror_image,
  rotate_quarter_turns,
  shift_image,
  warp_image,
)
from metakit.episodes.imbalanced import imbalanced
from metakit.episodes.limited import limited
from metakit.episodes.made_domains import made_domains
from metakit.episodes.one_domain import domain_episodes, one_domain
from metakit.episodes.projected import projected
from metakit.episodes.semi_supervised import semi_supervised
from metakit.episodes.sinusoid import sinusoid
from metakit.episodes.spurious import context_table, spurious
from metakit.episodes.table_regression import table_regression
from metakit.episodes.tables import tables
from metakit.episodes.turned_classes import turned_classes
from metakit.episodes.variable_shot import variable_shot
from metakit.episodes.within_group import within_group

__all__ = [
  'Sessions',
  'augment',
  'class_incremental',
  'colour_cue',
  'context_table',
  'cut_out',
  'domain_episodes',
  'few_shot',
  'image_completion',
  'imbalanced',
  'jitter_colours',
  'limited',
  'made_domains',
  'mirror_image',
  'mixture',
  'one_domain',
  'position_cue',
  'projected',
  'ramp',
  'relabel',
  'rotate_quarter_turns',
  'semi_supervised',
  'shift_image',
  'shorten',
  'sinusoid',
  'spurious',
  'switch',
  'table_regression',
  'tables',
  'texture_cue',
  'turn_hue',
  'turned_classes',
  'variable_shot',
  'vary_shots',
  'warp_image',
  'within_group',
]
