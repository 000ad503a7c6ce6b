"""Drawings of a character by many hands: motor noise, a global affine change, and ink.

See metakit.data.glyphs, which makes the characters, for the source and the units.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metakit.sizes import check_positive
from metakit.types import Key

# In four of five alphabets of Omniglot, 95% of the characters have at most 4 strokes; in Korean 8.
MAX_STROKES = 6
CONTROL_POINTS = 20  # points of a stroke; about 4 bend each arc
# Points of a stroke at which ink is dropped. If the stroke is 2.1 sides long, they are a pixel (of
# 28) apart.
SAMPLES = 60
LENGTH = 0.45  # of a typical stroke
LARGEST = 0.92  # no drawing is larger: Omniglot's canvas has the same edge

# How one drawing differs from another (standard deviations): near those over Omniglot's drawers,
# chosen so that nearest neighbours in pixels are about as often right as on Omniglot.
ROTATION, SHEAR = 0.07, 0.08  # shear: horizontal shift over height
LOG_SCALE, LOG_STRETCH = 0.07, 0.08  # both axes alike, and one against the other
TRANSLATION = 0.046  # 4.9 of 105 pixels
STROKE_SHIFT = 0.021  # how far a stroke moves against the others
# How much of cos(pi m t), m = 1, 2, 3, is added along a stroke of the length LENGTH.
BENDING = (0.028, 0.018, 0.007)
OVERSHOOT = 0.03  # how far each end goes on or falls short, as a share of the stroke's length
LOG_CARE = 0.35  # some drawers are careful and some are not: a factor on all of the above
HAND_NUMBERS = 4 + 2 * len(BENDING)  # normal numbers that redraw a stroke
PEN, LOG_PEN = 0.046, 0.10  # 1.3 pixels of 28 wide, which gives as much ink as Omniglot has


class Glyph(NamedTuple):
  """One character: what all its drawings have in common."""

  points: jax.Array  # [MAX_STROKES, CONTROL_POINTS, 2] control points (x, y) of the strokes
  present: jax.Array  # [MAX_STROKES] bool, which strokes there are; the first always is


def box(points: jax.Array, present: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns the smallest and the largest (x, y) of the strokes that are present  # [2], [2]."""
  there = present[:, None, None]
  least = lambda points: jnp.where(there, points, jnp.inf).min((0, 1))
  return least(points), -least(-points)


@partial(jax.jit, static_argnames='size')
def draw(key: Key, glyph: Glyph, size: int = 28) -> jax.Array:
  """Draws a character once, as one of many people would.

  Args:
    key: names the drawing.
    glyph: the character.
    size: pixels a side, static.

  Returns:
    [size, size, 1] uint8, ink 255 on 0.
  """
  check_positive(size=size)
  numbers = jax.random.normal(key, (2 + 6 + MAX_STROKES * HAND_NUMBERS,), jnp.float32)
  care, pen = jnp.exp(LOG_CARE * numbers[0]), PEN * jnp.exp(LOG_PEN * numbers[1])
  with jax.default_matmul_precision('highest'):  # accelerators would round to bfloat16
    points = _redraw(numbers[8:].reshape(MAX_STROKES, -1), glyph.points, care)
    points = _confine(_affine(care * numbers[2:8], points), glyph.present)
    ink = _render(points, glyph.present, pen, size)
  return jnp.round(255 * ink).astype(jnp.uint8)[..., None]


def _redraw(numbers: jax.Array, points: jax.Array, care: jax.Array) -> jax.Array:
  """Moves, bends and lengthens each stroke  # shape of points."""
  shift, ends, bend = jnp.split(numbers, [2, 4], axis=1)
  steps = jnp.diff(points, axis=1)
  length = jnp.linalg.norm(steps, axis=-1).sum(1)[:, None, None]
  phase = np.pi * np.outer(np.linspace(0, 1, CONTROL_POINTS), 1 + np.arange(len(BENDING)))
  waves = np.cos(phase) * np.array(BENDING)
  bend = jnp.einsum('po,sod->spd', waves, bend.reshape(MAX_STROKES, -1, 2))
  bend = bend * jnp.clip(length / LENGTH, 0.15, 1.5)  # a short stroke has little room to bend
  moved = bend + STROKE_SHIFT * shift[:, None]
  tangents = (CONTROL_POINTS - 1) * jnp.stack([-steps[:, 0], steps[:, -1]], 1)  # [strokes, 2, 2]
  moved = moved.at[:, jnp.array([0, -1])].add(OVERSHOOT * ends[..., None] * tangents)
  return points + care * moved


def _affine(numbers: jax.Array, points: jax.Array) -> jax.Array:
  """Turns, shears, stretches and moves the whole drawing  # shape of points."""
  angle, factor = ROTATION * numbers[0], LOG_STRETCH * numbers[1]
  turn = jnp.array([[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]])
  form = jnp.array([[jnp.exp(factor), SHEAR * numbers[2]], [0.0, jnp.exp(-factor)]])
  matrix = jnp.exp(LOG_SCALE * numbers[3]) * turn @ form
  return points @ matrix.T + TRANSLATION * numbers[4:]


def _confine(points: jax.Array, present: jax.Array) -> jax.Array:
  """Shrinks and moves a drawing that would cross the edge of the canvas."""
  low, high = box(points, present)
  centre, extent = (low + high) / 2, high - low
  scale = jnp.minimum(1, LARGEST / extent.max())
  room = jnp.maximum(0, (LARGEST - extent * scale) / 2)
  return (points - centre) * scale + jnp.clip(centre, -room, room)


def _render(points: jax.Array, present: jax.Array, pen: jax.Array, size: int) -> jax.Array:
  """Renders strokes, antialiased, from 0 (paper) to 1 (ink)  # [size, size].

  Each sample of a stroke drops its length times the pen's width, spread by a Gaussian that has the
  variance of the width and of a bilinear resize: a product of rows and columns, hence one matmul.
  """
  path = (jnp.einsum('rp,spd->srd', _spline(), points) + 0.5) * size
  width = pen * size  # in pixels, like path
  steps = jnp.linalg.norm(jnp.diff(path, axis=1), axis=-1)  # [strokes, SAMPLES - 1]
  length = 0.5 * (jnp.pad(steps, ((0, 0), (1, 0))) + jnp.pad(steps, ((0, 0), (0, 1))))
  length = length.at[:, jnp.array([0, -1])].add(0.45 * width)  # round tips; a dot is two of them
  variance = width**2 / 12 + 1 / 6
  drop = (length * present[:, None]).reshape(-1) * width / (2 * np.pi * variance)
  (x, y), pixel = path.reshape(-1, 2).T, jnp.arange(size) + 0.5
  near = lambda distance: jnp.exp(-0.5 / variance * distance**2)
  rows, columns = near(pixel[:, None] - y) * drop, near(x[:, None] - pixel)  # as matmul reads them
  return jnp.minimum(rows @ columns, 1)  # [size, samples] by [samples, size]


def _spline() -> np.ndarray:
  """Returns the Catmull-Rom curve through control points as a matrix [SAMPLES, CONTROL_POINTS]."""
  place = np.linspace(0, CONTROL_POINTS - 1, SAMPLES)[:, None]
  t = np.abs(place - np.arange(-1, CONTROL_POINTS + 1))
  near, far = 1 - 2.5 * t**2 + 1.5 * t**3, 2 - 4 * t + 2.5 * t**2 - 0.5 * t**3
  matrix = np.where(t < 1, near, np.where(t < 2, far, 0))
  matrix[:, [1, -2]] += matrix[:, [0, -1]]  # beyond an end the end point is repeated
  return matrix[:, 1:-1].astype(np.float32)
