"""A task in which the colour, background or place of images goes with labels, and then misleads."""

import functools

from experiments.components.data_sources import kept_omniglot
from metakit import objectives
from metakit.data.files import check_choice
from metakit.data.glyphs import glyphs
from metakit.data.images import shrink_images
from metakit.data.table import ClassTable
from metakit.episodes.cues import colour_cue, position_cue, texture_cue
from metakit.episodes.few_shot import few_shot
from metakit.episodes.spurious import context_table, spurious
from metakit.sources import EpisodeSource, place
from metakit.tasks import Task

PIXELS = 28
BASES = 'glyphs', 'omniglot'
CUES = {'colour': colour_cue, 'texture': texture_cue, 'position': position_cue}


def spurious_task(
  *,
  budget: float,
  data_dir: str,
  base: str = 'glyphs',
  cue: str = 'colour',
  strength: float = 1.0,
  contexts: int = 5,
  ways: int = 5,
  shots: int = 1,
  queries: int = 15,
) -> Task:
  """Characters in contexts that go with their labels in the support, and mislead in the queries.

  Args:
    base: the images: glyphs or omniglot.
    cue: what a context is: colour (of the ink), texture (stripes behind it) or position.
    strength: how often a support example has the context of its class, and a query that of another
      one, beyond chance: from 0 (contexts say nothing) to 1.
    contexts: how many there are, at least one for each class of an episode.
    ways: classes of an episode.
    shots: support examples of each class.
    queries: query examples of each class.
  """
  check_choice('base', base, BASES)
  check_choice('cue', cue, tuple(CUES))

  table = functools.cache(
    lambda part: context_table(_plain(base, part, data_dir), CUES[cue](contexts), contexts)
  )

  def draw(part: str, shots: int) -> EpisodeSource:
    return spurious(few_shot(table(part), ways, shots, queries=queries), contexts, strength)

  usual = functools.cache(lambda part: place(draw(part, shots), budget))

  def source(part: str, other_shots: int | None = None) -> EpisodeSource:
    if other_shots is None:
      return usual(part)
    return usual(part).replace(plan=draw(part, other_shots).plan)

  return Task(source, objectives.cross_entropy, ways, 'accuracy', True, False, table=table)


def _plain(base: str, part: str, data_dir: str) -> ClassTable:
  if base == 'glyphs':
    return shrink_images(glyphs(part), PIXELS)
  return kept_omniglot(data_dir, part, 'vinyals', size=PIXELS, rotations=False)
