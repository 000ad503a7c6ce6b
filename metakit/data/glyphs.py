"""Procedural characters: classes without end, each a pure function of a key, drawn by many hands.

A character is a program that draws it, after Lake, Salakhutdinov and Tenenbaum, "Human-level concept
learning through probabilistic program induction", Science 350 (2015): strokes made of arcs and
corners, placed by relations to earlier strokes, redrawn with motor noise and a global affine change
for every example. Differences: nothing is learned or looked up. The constants below were read off
the pen trajectories of Omniglot's background set, and the strokes of an alphabet share a style and
a small vocabulary that the alphabet's key draws.

Lengths are in image sides (1.0 is the whole image), angles in radians; y points down and the middle
of the image is the origin. Pixels are rounded from float32: the same arguments give the same bytes
on one installation, and on another device or JAX version rare pixels differ by one gray level.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metakit.data.table import ClassTable, class_table
from metakit.keys import roots
from metakit.types import Episode, Examples, Key, Sampler

SPLITS = ('train', 'validation', 'test')
MAX_STROKES = 6  # 95% of Omniglot's drawings have at most 4, in every alphabet but Korean
MAX_ARCS = 4
CONTROL_POINTS = 20  # of a stroke: about 4 to bend each arc
SAMPLES = 48  # of a stroke, where ink is dropped: a pixel of 28 apart if it is 1.7 sides long
VOCABULARY = 8  # strokes that the characters of an alphabet share
ARC_NUMBERS = 9  # uniform numbers that make an arc
STROKE_NUMBERS = 3 + MAX_ARCS * ARC_NUMBERS  # ... and a stroke
RELATION_NUMBERS = 11  # ... and place it

# The range of each number of an alphabet's style, in the order of Alphabet, then width and height.
STYLE = (
  (0.5, 2.8),  # strokes
  (0.3, 2.2),  # arcs
  (0.1, 0.9),  # straight
  (1.5, 6.5),  # turning
  (0.3, 0.9),  # corner
  (0.4, 1.0),  # snap
  (0.0, 0.4),  # closed
  (0.1, 0.6),  # reuse
  (-0.15, 0.15),  # slant
  (0.46, 0.66),
  (0.52, 0.74),
)

# How the strokes of a character are made and placed.
LENGTH, LOG_LENGTH = 0.45, 0.75  # typical stroke, and the largest deviation of its logarithm
SAME_HAND = 0.7  # probability that an arc or corner turns like the rest of the stroke
CANDIDATE_NUMBERS = RELATION_NUMBERS + 2 + STROKE_NUMBERS
CANDIDATES = 6  # strokes tried, of which the least crowded is kept: people write to be read
NEAR = 0.12  # points closer than this, over the size of the character, crowd one another
RELATED = 0.75  # probability that a stroke touches an earlier one
COPIED = 0.15  # probability that a stroke repeats an earlier one, half of these mirrored
DOT, DOT_SIZE = 0.06, 0.08  # probability that a later stroke is a dot; its size against a stroke
APART = 0.3  # typical distance of strokes that do not touch
LOG_EXTENT = 0.3  # size of the characters of an alphabet against one another, largest deviation
STRETCH = 0.65  # how far a character is stretched to its extent (0 not, 1 entirely)
CENTRE = 0.03  # largest offset of a character's middle
LARGEST = 0.92  # no drawing is larger: Omniglot's canvas has the same edge

# How one drawing differs from another: standard deviations over Omniglot's 20 drawers.
ROTATION, SHEAR = 0.07, 0.08  # shear: horizontal shift over height
LOG_SCALE, LOG_STRETCH = 0.07, 0.08  # both axes alike, and one against the other
TRANSLATION = 0.046  # 4.9 of 105 pixels
STROKE_SHIFT = 0.023  # of a stroke against the others, 2.8 of 105 pixels
BENDING = (0.030, 0.020, 0.008)  # of cos(pi m t), m = 1, 2, 3, along a stroke of LENGTH
TREMBLE = 0.002  # of each control point
OVERSHOOT = 0.03  # of each end, over the stroke's length
LOG_CARE = 0.35  # some drawers are careful and some are not: a factor on all of the above
HAND_NUMBERS = 4 + 2 * len(BENDING) + 2 * CONTROL_POINTS  # normal numbers that redraw a stroke
PEN, LOG_PEN = 0.046, 0.10  # width: 1.22 pixels of 28 by regression of ink on length


class Alphabet(NamedTuple):
  """What the characters of one alphabet share; scalars are [].

  Attributes:
    strokes: mean number of strokes beyond the first.
    arcs: mean number of arcs of a stroke beyond the first.
    straight: probability that an arc is straight.
    turning: largest angle that an arc turns.
    corner: probability that two arcs meet in a corner.
    snap: probability that a direction is a multiple of 45 degrees.
    closed: probability that a stroke ends where it began.
    reuse: probability that a stroke comes from the vocabulary.
    slant: horizontal shift over height.
    extent: [2] usual width and height.
    vocabulary: [VOCABULARY, CONTROL_POINTS, 2] the shared strokes.
  """

  strokes: jax.Array
  arcs: jax.Array
  straight: jax.Array
  turning: jax.Array
  corner: jax.Array
  snap: jax.Array
  closed: jax.Array
  reuse: jax.Array
  slant: jax.Array
  extent: jax.Array
  vocabulary: jax.Array


class Glyph(NamedTuple):
  """One character: what all its drawings have in common.

  Attributes:
    points: [MAX_STROKES, CONTROL_POINTS, 2] control points (x, y) of the strokes.
    present: [MAX_STROKES] bool, which strokes the character has; the first is always there.
  """

  points: jax.Array
  present: jax.Array


def alphabet(key: Key) -> Alphabet:
  """Draws the style of an alphabet, a pure function of the key."""
  numbers = jax.random.uniform(key, (len(STYLE) + VOCABULARY * STROKE_NUMBERS,))
  low, high = np.array(STYLE, np.float32).T
  style = low + (high - low) * numbers[: len(STYLE)]
  style = Alphabet(*style[:-2], extent=style[-2:], vocabulary=jnp.zeros(()))
  numbers = numbers[len(STYLE) :].reshape(VOCABULARY, STROKE_NUMBERS)
  return style._replace(vocabulary=jax.vmap(partial(_stroke, style))(numbers))


def _stroke(style: Alphabet, numbers: jax.Array) -> jax.Array:
  """Makes a stroke that begins at the origin, arc after arc  # [CONTROL_POINTS, 2]."""
  length, closed, hand = numbers[:3]
  arcs = numbers[3:].reshape(ARC_NUMBERS, MAX_ARCS)
  share, turn, corner = _arcs(style, arcs, jnp.where(hand < 0.5, 1, -1))
  begin = jnp.cumsum(share) - share
  time = (jnp.arange(CONTROL_POINTS - 1) + 0.5) / (CONTROL_POINTS - 1)
  arc = ((time[:, None] >= begin) & (share > 0)).sum(1) - 1
  heading = jnp.cumsum(corner) + jnp.cumsum(turn) - turn
  angle = heading[arc] + turn[arc] * (time - begin[arc]) / share[arc]
  length = LENGTH * jnp.exp(LOG_LENGTH * (2 * length - 1)) * (0.5 + 0.5 * (share > 0).sum())
  steps = jnp.stack([jnp.cos(angle), jnp.sin(angle)], 1) * length / (CONTROL_POINTS - 1)
  path = jnp.concatenate([jnp.zeros((1, 2)), jnp.cumsum(steps, 0)])
  gap = jnp.linspace(0, 1, CONTROL_POINTS)[:, None] * path[-1]
  closed = (closed < style.closed) & (jnp.linalg.norm(path[-1]) < 0.75 * length)  # not a line
  return jnp.where(closed, path - gap, path)


def _arcs(style: Alphabet, numbers: jax.Array, hand: jax.Array) -> tuple[jax.Array, ...]:
  """Returns each arc's share of the length, the angle it turns, and the corner before it  # [arcs].

  The corner before the first arc is the direction in which the stroke starts.
  """
  exists, share, turn, straight, turn_hand, corner, snap, bent, corner_hand = numbers
  first = jnp.arange(MAX_ARCS) == 0
  number = (first | (exists < style.arcs / (MAX_ARCS - 1))).sum()
  share = jnp.where(jnp.arange(MAX_ARCS) < number, 0.4 + 1.2 * share, 0)
  turn = style.turning * (0.4 + 0.6 * turn) * hand * jnp.where(turn_hand < SAME_HAND, 1, -1)
  grid = jnp.where(snap < style.snap * 0.7, np.pi / 2, np.pi / 4)
  corner = jnp.where(first, 2 * np.pi * corner, 0.9 + 1.4 * corner)
  corner = jnp.where(snap < style.snap, jnp.round(corner / grid) * grid, corner)
  corner = corner * hand * jnp.where(corner_hand < SAME_HAND, 1, -1)
  corner = jnp.where(first | (bent < style.corner), corner, 0)
  return share / share.sum(), jnp.where(straight < style.straight, 0.0, turn), corner


def glyph_class(key: Key, style: Alphabet | None = None) -> Glyph:
  """Draws a character, a pure function of the key and its alphabet, for jit and vmap.

  Args:
    key: names the character.
    style: the alphabet it belongs to; by default one of its own, drawn from the key.
  """
  if style is None:
    style_key, key = jax.random.split(key)
    style = alphabet(style_key)
  numbers = jax.random.uniform(key, (4 + MAX_STROKES * (1 + CANDIDATES * CANDIDATE_NUMBERS),))
  whole, count, strokes = jnp.split(numbers, [4, 4 + MAX_STROKES])
  later = (count[1:] < style.strokes / (MAX_STROKES - 1)).sum()
  present = jnp.arange(MAX_STROKES) <= later
  points = _place(style, strokes.reshape(MAX_STROKES, CANDIDATES, CANDIDATE_NUMBERS))
  points = points.at[..., 0].add(-style.slant * points[..., 1])
  return Glyph(_fit(whole, points, present, style.extent), present)


def _shape(style: Alphabet, numbers: jax.Array) -> jax.Array:
  """Returns a stroke of the vocabulary or a new one  # [CONTROL_POINTS, 2]."""
  known, which = numbers[:2]
  shared = style.vocabulary[(which * VOCABULARY).astype(int)]
  return jnp.where(known < style.reuse, shared, _stroke(style, numbers[2:]))


def _place(style: Alphabet, numbers: jax.Array) -> jax.Array:
  """Adds one stroke after another, each the least crowded of its candidates.

  Args:
    style: of the alphabet.
    numbers: [MAX_STROKES, CANDIDATES, CANDIDATE_NUMBERS] uniform.

  Returns:
    [MAX_STROKES, CONTROL_POINTS, 2].
  """
  shapes = jax.vmap(jax.vmap(partial(_shape, style)))(numbers[..., RELATION_NUMBERS:])

  def add(points, step):
    number, choices, candidates = step
    candidates = jax.vmap(partial(_relate, points, number))(choices, candidates)
    earlier = jnp.arange(MAX_STROKES) < number
    crowding = jax.vmap(partial(_crowding, points, earlier))(candidates)
    return points.at[number].set(candidates[jnp.argmin(crowding)]), None

  steps = (jnp.arange(MAX_STROKES), numbers[..., :RELATION_NUMBERS], shapes)
  return jax.lax.scan(add, jnp.zeros_like(shapes[:, 0]), steps)[0]


def _relate(points: jax.Array, number: jax.Array, choice: jax.Array, shape: jax.Array) -> jax.Array:
  """Puts a stroke next to an earlier one, touching or not, or repeats that  # shape of `shape`."""
  which, copied, mirrored, dot, at, at_any, own, own_any, apart, angle, far = choice
  other = points[(which * jnp.maximum(number, 1)).astype(int)]
  copied = (copied < COPIED) & (number > 0)
  mirrored = copied & (mirrored < 0.5)
  dot = (dot < DOT) & (number > 0) & ~copied
  shape = jnp.where(copied, other * jnp.where(mirrored, jnp.array([-1.0, 1.0]), 1), shape)
  shape = shape * jnp.where(dot, DOT_SIZE, 1)
  at = _anchor(at, at_any)
  own = jnp.where(mirrored, at, _anchor(own, own_any))
  touching = other[at] - shape[own]
  angle = jnp.round(angle * 8) * np.pi / 4
  away = APART * (0.6 + far) * jnp.stack([jnp.cos(angle), jnp.sin(angle)])
  away = away + other.mean(0) - shape.mean(0)
  free = dot | (copied & ~mirrored) | (apart > RELATED)
  return shape + jnp.where(number > 0, jnp.where(free, away, touching), 0)


def _anchor(kind: jax.Array, place: jax.Array) -> jax.Array:
  """Returns the number of a control point: an end, the middle or any, from two uniform numbers."""
  last = CONTROL_POINTS - 1
  ends = jnp.array([0, last, last // 2])[jnp.minimum((kind * 4).astype(int), 2)]
  return jnp.where(kind > 0.75, (place * CONTROL_POINTS).astype(int), ends)


def _crowding(points: jax.Array, earlier: jax.Array, stroke: jax.Array) -> jax.Array:
  """Counts the points of a stroke that are too close to an earlier stroke or to its own others."""
  low, high = _box(jnp.concatenate([points, stroke[None]]), jnp.append(earlier, True))
  close = lambda a: jnp.sum((stroke[:, None] - a) ** 2, -1) < (NEAR * jnp.max(high - low)) ** 2
  place = jnp.arange(CONTROL_POINTS)
  others = close(points.reshape(-1, 2)) & jnp.repeat(earlier, CONTROL_POINTS)
  itself = close(stroke) & (abs(place[:, None] - place) > 4)
  return others.any(1).sum() + itself.any(1).sum()


def _box(points: jax.Array, present: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns the smallest and the largest (x, y) of the strokes that are present  # [2], [2]."""
  there = present[:, None, None]
  low = jnp.where(there, points, jnp.inf).min((0, 1))
  return low, jnp.where(there, points, -jnp.inf).max((0, 1))


def _fit(numbers: jax.Array, points: jax.Array, present: jax.Array, extent: jax.Array) -> jax.Array:
  """Scales a character to its extent and centres it  # shape of points."""
  numbers = 2 * numbers - 1
  low, high = _box(points, present)
  extent = jnp.minimum(extent * jnp.exp(LOG_EXTENT * numbers[:2]), LARGEST)
  scale = extent / jnp.maximum(high - low, 0.02)
  scale = jnp.minimum(scale, scale.min() * 8)
  scale = scale.min() * (scale / scale.min()) ** STRETCH
  return (points - (low + high) / 2) * scale + CENTRE * numbers[2:]


def draw(key: Key, glyph: Glyph, size: int = 28) -> jax.Array:
  """Draws a character once, as one of many people would; pure, for jit and vmap.

  Args:
    key: names the drawing.
    glyph: the character.
    size: pixels a side, static.

  Returns:
    [size, size, 1] uint8, ink 255 on 0.
  """
  _check_positive(size=size)
  numbers = jax.random.normal(key, (2 + 6 + MAX_STROKES * HAND_NUMBERS,))
  care, pen = jnp.exp(LOG_CARE * numbers[0]), PEN * jnp.exp(LOG_PEN * numbers[1])
  points = _redraw(numbers[8:].reshape(MAX_STROKES, -1), glyph.points, care)
  points = _confine(_affine(care * numbers[2:8], points), glyph.present)
  return jnp.round(255 * render(points, glyph.present, pen, size)).astype(jnp.uint8)[..., None]


def _redraw(numbers: jax.Array, points: jax.Array, care: jax.Array) -> jax.Array:
  """Moves, bends and lengthens each stroke and lets the hand tremble  # shape of points."""
  shift, ends, bend, tremble = jnp.split(numbers, [2, 4, 4 + 2 * len(BENDING)], axis=1)
  steps = jnp.diff(points, axis=1)
  length = jnp.linalg.norm(steps, axis=-1).sum(1)[:, None, None]
  order = np.arange(1, len(BENDING) + 1)
  waves = np.cos(np.pi * np.linspace(0, 1, CONTROL_POINTS)[:, None] * order) * np.array(BENDING)
  bend = jnp.einsum('po,sod->spd', waves, bend.reshape(MAX_STROKES, -1, 2), precision='highest')
  bend = bend * jnp.clip(length / LENGTH, 0.15, 1.5)  # a short stroke has little room to bend
  moved = bend + STROKE_SHIFT * shift[:, None] + TREMBLE * tremble.reshape(points.shape)
  ends = OVERSHOOT * (CONTROL_POINTS - 1) * ends[..., None]
  ends = ends * jnp.stack([-steps[:, 0], steps[:, -1]], 1)  # [strokes, 2, 2]
  return points + care * moved.at[:, jnp.array([0, -1])].add(ends)


def _affine(numbers: jax.Array, points: jax.Array) -> jax.Array:
  """Turns, shears, stretches and moves the whole drawing  # shape of points."""
  angle, factor = ROTATION * numbers[0], LOG_STRETCH * numbers[1]
  turn = jnp.array([[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]])
  form = jnp.array([[jnp.exp(factor), SHEAR * numbers[2]], [0.0, jnp.exp(-factor)]])
  matrix = jnp.exp(LOG_SCALE * numbers[3]) * turn @ form
  return points @ matrix.T + TRANSLATION * numbers[4:]


def _confine(points: jax.Array, present: jax.Array) -> jax.Array:
  """Shrinks and moves a drawing that would cross the edge of the canvas."""
  low, high = _box(points, present)
  centre, extent = (low + high) / 2, high - low
  scale = jnp.minimum(1, LARGEST / extent.max())
  room = jnp.maximum(0, (LARGEST - extent * scale) / 2)
  return (points - centre) * scale + jnp.clip(centre, -room, room)


def render(points: jax.Array, present: jax.Array, pen: jax.Array, size: int) -> jax.Array:
  """Renders strokes, antialiased: each sample of a stroke drops its length times the pen's width.

  The drop is a Gaussian with the variance of the pen's width and of a bilinear resize to pixels. A
  Gaussian is a product of rows and columns, so a drawing is one matrix product.

  Args:
    points: [strokes, CONTROL_POINTS, 2].
    present: [strokes] bool.
    pen: [] width of the line.
    size: pixels a side, static.

  Returns:
    [size, size] float32 from 0 (paper) to 1 (ink).
  """
  path = jnp.einsum('rp,spd->srd', _spline(), points, precision='highest')
  path, width = (path + 0.5) * size, pen * size  # in pixels
  steps = jnp.linalg.norm(jnp.diff(path, axis=1), axis=-1)  # [strokes, SAMPLES - 1]
  cap = 0.45 * width  # half a round tip; a dot is two of them
  length = 0.5 * (jnp.pad(steps, ((0, 0), (1, 0))) + jnp.pad(steps, ((0, 0), (0, 1))))
  length = length.at[:, jnp.array([0, -1])].add(cap) * present[:, None]
  variance = width**2 / 12 + 1 / 8
  drop = length.reshape(-1) * width / (2 * np.pi * variance)
  x, y = path.reshape(-1, 2).T
  pixel = jnp.arange(size) + 0.5
  near = lambda distance: jnp.exp(-0.5 / variance * distance**2)
  rows, columns = near(pixel[:, None] - y) * drop, near(x[:, None] - pixel)  # neither is transposed
  ink = jnp.matmul(rows, columns, precision='highest')  # [size, samples] by [samples, size]
  return jnp.minimum(ink, 1)


def _spline() -> np.ndarray:
  """Returns the Catmull-Rom curve through control points as a matrix [SAMPLES, CONTROL_POINTS]."""
  place = np.linspace(0, CONTROL_POINTS - 1, SAMPLES)
  first = np.minimum(place.astype(int), CONTROL_POINTS - 2)
  t = (place - first)[:, None]
  weights = np.concatenate(
    [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2], axis=1
  )
  matrix = np.zeros((SAMPLES, CONTROL_POINTS), np.float32)
  for offset in range(4):  # beyond an end the end point is repeated
    column = np.clip(first + offset - 1, 0, CONTROL_POINTS - 1)
    np.add.at(matrix, (np.arange(SAMPLES), column), weights[:, offset] / 2)
  return matrix


@partial(jax.jit, static_argnames=('characters', 'drawings', 'size'))
def _draw_alphabet(key: Key, *, characters: int, drawings: int, size: int) -> jax.Array:
  """Draws one alphabet  # [characters, drawings, size, size, 1]."""
  fold = lambda key, count: jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(count))
  keys = fold(key, 1 + characters)
  style = alphabet(keys[0])

  def character(key):
    keys = fold(key, 1 + drawings)
    glyph = glyph_class(keys[0], style)
    return jax.vmap(lambda key: draw(key, glyph, size))(keys[1:])

  return jax.vmap(character)(keys[1:])


def glyphs(
  split: str = 'train',
  alphabets: int = 40,
  characters: int = 25,
  drawings: int = 20,
  size: int = 28,
  seed: int = 0,
  rotations: bool = False,
) -> ClassTable:
  _check_positive(alphabets=alphabets, characters=characters, drawings=drawings, size=size)
  if split not in SPLITS:
    raise ValueError(f'split={split!r} is unknown; use one of {", ".join(SPLITS)}')
  root = jax.random.fold_in(roots(seed).data, SPLITS.index(split))
  one = partial(_draw_alphabet, characters=characters, drawings=drawings, size=size)
  x = np.concatenate([np.asarray(one(jax.random.fold_in(root, a))) for a in range(alphabets)])
  return x


def _check_positive(**sizes: int) -> None:
  for name, value in sizes.items():
    if value < 1:
      raise ValueError(f'{name}={value} is not positive; use {name}>=1')
