"""How training images are changed at random, as arguments of a task."""

import inspect
from collections.abc import Callable
from typing import Any

from experiments.components.class_parts import ClassParts
from metakit.components.docstrings import document, meanings, summary
from metakit.episodes.colour_transforms import jitter_colours, turn_hue
from metakit.episodes.image_transforms import (
  Transform,
  cut_out,
  mirror_image,
  shift_image,
  warp_image,
)


def augmentations_of(
  shift: int, degrees: float, stretch: float, *, mirror: bool
) -> list[tuple[Transform, str]]:
  """Returns the transforms of training images. A shift alone is by whole pixels.

  Args:
    shift: the most pixels that training images are shifted by.
    degrees: the most degrees that they are turned by.
    stretch: the largest share that they are stretched by in each direction.
    mirror: whether half of the classes of a training episode are mirror images.
  """
  transforms: list[tuple[Transform, str]] = [(mirror_image, 'class')] if mirror else []
  if degrees or stretch:
    return [*transforms, (warp_image(shift, degrees, stretch), 'example')]
  return [*transforms, (shift_image(shift), 'example')] if shift else transforms


def augmented(
  data: ClassParts,
  shift: int = 0,
  degrees: float = 0.0,
  stretch: float = 0.0,
  mirror: bool = False,
  jitter: float = 0.0,
  hue: float = 0.0,
  cutout: int = 0,
  rotations: bool = False,
) -> ClassParts:
  """Returns a data set of photos whose training images are changed at random, each by itself.

  Args:
    data: a data set by its parts.
    shift: the most pixels that training images are shifted by (a random crop after padding).
    degrees: the most degrees that they are turned by.
    stretch: the largest share that they are stretched by in each direction.
    mirror: whether half of the training images are mirrored.
    jitter: bound of random changes of brightness, contrast and saturation.
    hue: the largest turn of the hue, a part of its circle.
    cutout: side of a square that is cut out of each training image, in pixels.
    rotations: whether quarter turns of training classes are classes of their own.

  >>> import numpy as np
  >>> from metakit.data import arrays
  >>> data = ClassParts('', lambda part: arrays(np.zeros((4, 8, 8, 3)), [0, 0, 1, 1]))
  >>> [each for _, each in augmented(data, shift=2, mirror=True, jitter=0.4).augmentations]
  ['example', 'example', 'example']
  """
  moved = augmentations_of(shift, degrees, stretch, mirror=False)
  changes = [
    *([mirror_image] if mirror else []),
    *(transform for transform, _ in moved),
    *([jitter_colours(jitter, jitter, jitter)] if jitter else []),
    *([turn_hue(hue)] if hue else []),
    *([cut_out(cutout)] if cutout else []),
  ]
  return data._replace(augmentations=[(each, 'example') for each in changes], turned=rotations)


def of_photos(parts: Callable[..., ClassParts]) -> Callable[..., ClassParts]:
  """Returns the function of a data set of photos, which takes the arguments of `augmented` too.

  Args:
    parts: returns a data set by its parts, see table_task.
  """
  ours = dict(list(inspect.signature(augmented).parameters.items())[1:])
  takes = inspect.signature(parts, eval_str=True).parameters

  def photos(**given: Any) -> ClassParts:
    data = parts(**{name: value for name, value in given.items() if name not in ours})
    return augmented(data, **{name: value for name, value in given.items() if name in ours})

  named = [p.replace(kind=p.KEYWORD_ONLY) for p in (*takes.values(), *ours.values())]
  photos.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]
  document(photos, summary(parts), meanings(augmented) | meanings(parts))
  return photos
