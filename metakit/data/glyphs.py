"""Procedural characters: classes without end, each a pure function of a key, drawn by many hands.

A character is a program that draws it (Lake, Salakhutdinov and Tenenbaum, Human-level concept
learning through probabilistic program induction, Science 350, 2015): strokes of arcs and corners,
placed by relations to earlier strokes, redrawn with motor noise and a global affine change each
time. Differences: nothing is learned; the strokes of an alphabet share a style and a small
vocabulary. The constants were chosen to resemble Omniglot's background set.

Lengths are in image sides (1.0 is the whole image), angles in radians; y points down and the middle
of the image is the origin. The same arguments give the same bytes on one installation; pixels are
rounded from float32, so on another device or JAX version rare pixels differ by one gray level.
"""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metakit.data import glyph_drawing
from metakit.data.decoded import kept_drawing
from metakit.data.files import check_choice
from metakit.data.glyph_drawing import (
  CONTROL_POINTS,
  LARGEST,
  LENGTH,
  MAX_STROKES,
  Glyph,
  box,
  draw,
)
from metakit.data.table import ClassTable, class_table
from metakit.keys import roots
from metakit.sizes import check_memory, check_positive
from metakit.types import Episode, Examples, Key, Sampler

SPLITS = ('train', 'validation', 'test')
KEPT_PIXELS = 1 << 22  # of a table that is kept; to draw them takes a quarter of a second
MAX_ARCS = 4
VOCABULARY = 8  # strokes that the characters of an alphabet share
STROKE_NUMBERS = 3 + MAX_ARCS * 9  # uniform numbers that make a stroke
RELATION_NUMBERS = 11  # uniform numbers that place a stroke
CANDIDATE_NUMBERS = RELATION_NUMBERS + 2 + STROKE_NUMBERS

# The fields of Alphabet are uniform between these numbers, in their order, then width and height.
LOWEST = (0.5, 0.3, 0.1, 1.5, 0.3, 0.4, 0.0, 0.1, -0.15, 0.42, 0.50)
HIGHEST = (2.8, 2.2, 0.9, 6.5, 0.9, 1.0, 0.4, 0.6, 0.15, 0.60, 0.70)

# How the strokes of a character are made and placed.
LOG_LENGTH = 0.75  # largest deviation of the logarithm of the length of a stroke
SAME_HAND = 0.7  # probability that an arc or corner turns like the rest of the stroke
CANDIDATES = 6  # strokes tried, of which the least crowded is kept: people write to be read
NEAR = 0.12  # points closer than this, over the size of the character, crowd one another
RELATED = 0.75  # probability that a stroke touches an earlier one
COPIED = 0.15  # probability that a stroke repeats an earlier one, half of these mirrored
DOT, DOT_SIZE = 0.06, 0.08  # probability that a later stroke is a dot; its size, as a share
APART = 0.3  # typical distance of strokes that do not touch
LOG_EXTENT = 0.3  # largest deviation of the logarithm of a character's size, within an alphabet
STRETCH = 0.6  # how far a character is stretched to its extent (0 not, 1 entirely)
CENTRE = 0.03  # largest offset of a character's middle


class Alphabet(NamedTuple):
  """What the characters of one alphabet share."""

  strokes: jax.Array  # [] mean number of strokes beyond the first
  arcs: jax.Array  # [] mean number of arcs of a stroke beyond the first
  straight: jax.Array  # [] probability that an arc is straight
  turning: jax.Array  # [] largest angle that an arc turns
  corner: jax.Array  # [] probability that two arcs meet in a corner
  snap: jax.Array  # [] probability that a start or corner is a multiple of 45 degrees
  closed: jax.Array  # [] probability that a bent stroke ends where it began
  reuse: jax.Array  # [] probability that a stroke comes from the vocabulary
  slant: jax.Array  # [] horizontal shift over height
  extent: jax.Array  # [2] usual width and height
  vocabulary: jax.Array  # [VOCABULARY, CONTROL_POINTS, 2] shared strokes


@jax.jit  # here and below: op by op, each would take seconds at the first call
def alphabet(key: Key) -> Alphabet:
  """Draws the style of an alphabet, a pure function of the key."""
  # One call for all numbers: each call of the generator costs a third of a second to compile.
  numbers = jax.random.uniform(key, (len(LOWEST) + VOCABULARY * STROKE_NUMBERS,), jnp.float32)
  low, high = jnp.array([LOWEST, HIGHEST])
  style = low + (high - low) * numbers[: len(LOWEST)]
  strokes = numbers[len(LOWEST) :].reshape(VOCABULARY, STROKE_NUMBERS)
  style = Alphabet._make([*style[:-2], style[-2:], jnp.zeros(())])
  return style._replace(vocabulary=jax.vmap(partial(_stroke, style))(strokes))


def _stroke(style: Alphabet, numbers: jax.Array) -> jax.Array:
  """Makes a stroke that begins at the origin, arc after arc  # [CONTROL_POINTS, 2]."""
  length, closed, hand = numbers[:3]
  arcs = numbers[3:].reshape(-1, MAX_ARCS)
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
  """Returns each arc's share of the length, its turn, and the corner before it (first: start)."""
  exists, share, turn, straight, turn_hand, corner, snap, bent, corner_hand = numbers
  first = jnp.arange(MAX_ARCS) == 0
  later = (exists[1:] < style.arcs / (MAX_ARCS - 1)).sum()
  share = jnp.where(jnp.arange(MAX_ARCS) <= later, 0.4 + 1.2 * share, 0)
  turn = style.turning * (0.4 + 0.6 * turn) * hand * jnp.where(turn_hand < SAME_HAND, 1, -1)
  grid = jnp.where(snap < style.snap * 0.7, np.pi / 2, np.pi / 4)
  corner = jnp.where(first, 2 * np.pi * corner, 0.9 + 1.4 * corner)
  corner = jnp.where(snap < style.snap, jnp.round(corner / grid) * grid, corner)
  corner = corner * hand * jnp.where(corner_hand < SAME_HAND, 1, -1)
  corner = jnp.where(first | (bent < style.corner), corner, 0)
  return share / share.sum(), jnp.where(straight < style.straight, 0.0, turn), corner


@jax.jit
def glyph_class(key: Key, style: Alphabet | None = None) -> Glyph:
  """Draws a character, a pure function of the key and its alphabet.

  Args:
    key: names the character.
    style: the alphabet it belongs to; by default one of its own, drawn from the key.
  """
  if style is None:
    style_key, key = jax.random.split(key)
    style = alphabet(style_key)
  size = 4 + MAX_STROKES * (1 + CANDIDATES * CANDIDATE_NUMBERS)
  numbers = jax.random.uniform(key, (size,), jnp.float32)
  whole, count, strokes = jnp.split(numbers, [4, 4 + MAX_STROKES])
  present = jnp.arange(MAX_STROKES) <= (count[1:] < style.strokes / (MAX_STROKES - 1)).sum()
  points = _place(style, strokes.reshape(MAX_STROKES, CANDIDATES, CANDIDATE_NUMBERS))
  points = points.at[..., 0].add(-style.slant * points[..., 1])
  return Glyph(_fit(2 * whole - 1, points, present, style.extent), present)


def _shape(style: Alphabet, numbers: jax.Array) -> jax.Array:
  """Returns a stroke of the vocabulary or a new one  # [CONTROL_POINTS, 2]."""
  known, which = numbers[:2]
  shared = style.vocabulary[(which * VOCABULARY).astype(int)]
  return jnp.where(known < style.reuse, shared, _stroke(style, numbers[2:]))


def _place(style: Alphabet, numbers: jax.Array) -> jax.Array:
  """Adds one stroke after another, the least crowded of candidates  # [strokes, points, 2]."""
  shapes = jax.vmap(jax.vmap(partial(_shape, style)))(numbers[..., RELATION_NUMBERS:])

  def add(points, step):
    number, choices, candidates = step
    candidates = jax.vmap(partial(_relate, points, number))(choices, candidates)
    earlier = jnp.arange(MAX_STROKES) < number
    crowding = jax.vmap(partial(_crowding, points, earlier))(candidates)
    best = jnp.argmin(crowding + 0.1 * jnp.arange(CANDIDATES))  # the first of equals
    return points.at[number].set(candidates[best]), None

  steps = (jnp.arange(MAX_STROKES), numbers[..., :RELATION_NUMBERS], shapes)
  return jax.lax.scan(add, jnp.zeros_like(shapes[:, 0]), steps)[0]


def _relate(points: jax.Array, number: jax.Array, choice: jax.Array, shape: jax.Array) -> jax.Array:
  """Puts a stroke next to an earlier one, touching or not, or repeats that one."""
  which, copied, mirrored, dot, at, at_any, joint, joint_any, apart, angle, far = choice
  other = points[(which * jnp.maximum(number, 1)).astype(int)]
  copied = (copied < COPIED) & (number > 0)
  mirrored = copied & (mirrored < 0.5)
  dot = (dot < DOT) & (number > 0) & ~copied
  shape = jnp.where(copied, other * jnp.where(mirrored, jnp.array([-1.0, 1.0]), 1), shape)
  shape = shape * jnp.where(dot, DOT_SIZE, 1)
  at = _anchor(at, at_any)
  joint = jnp.where(mirrored, at, _anchor(joint, joint_any))
  touching = other[at] - shape[joint]
  angle = jnp.round(angle * 8) * np.pi / 4
  away = APART * (0.6 + far) * jnp.stack([jnp.cos(angle), jnp.sin(angle)])
  away = away + other.mean(0) - shape.mean(0)
  free = dot | (copied & ~mirrored) | (apart > RELATED)
  return shape + jnp.where(number > 0, jnp.where(free, away, touching), 0)


def _anchor(kind: jax.Array, place: jax.Array) -> jax.Array:
  """Returns the number of a control point: an end, the middle or any, from two uniform numbers."""
  ends = jnp.array([0, CONTROL_POINTS - 1, CONTROL_POINTS // 2])[(kind * 4).astype(int) % 3]
  return jnp.where(kind > 0.75, (place * CONTROL_POINTS).astype(int), ends)


def _crowding(points: jax.Array, earlier: jax.Array, stroke: jax.Array) -> jax.Array:
  """Counts, softly, the points of a stroke too close to an earlier stroke or to its own others."""
  low, high = box(jnp.concatenate([points, stroke[None]]), jnp.append(earlier, True))
  near = NEAR * jnp.max(high - low)
  # Smooth, so that rounding does not choose between candidates.
  close = lambda a: jnp.exp(-((jnp.sum((stroke[:, None] - a) ** 2, -1) / near**2) ** 2))
  place = jnp.arange(CONTROL_POINTS)
  others = close(points.reshape(-1, 2)) * jnp.repeat(earlier, CONTROL_POINTS)
  itself = close(stroke) * (abs(place[:, None] - place) > 4)
  return others.max(1).sum() + itself.max(1).sum()


def _fit(numbers: jax.Array, points: jax.Array, present: jax.Array, extent: jax.Array) -> jax.Array:
  """Scales a character to its extent and centres it  # shape of points."""
  low, high = box(points, present)
  extent = jnp.minimum(extent * jnp.exp(LOG_EXTENT * numbers[:2]), LARGEST)
  scale = extent / jnp.maximum(high - low, 0.02)  # a line is not stretched to a block
  scale = scale.min() * jnp.minimum(scale / scale.min(), 8) ** STRETCH
  return (points - (low + high) / 2) * scale + CENTRE * numbers[2:]


def _drawings(key: Key, style: Alphabet | None, number: int, size: int) -> jax.Array:
  """Draws one character `number` times  # [number, size, size, 1]."""
  keys = _keys(key, 1 + number)
  return jax.vmap(partial(draw, glyph=glyph_class(keys[0], style), size=size))(keys[1:])


def _keys(key: Key, count: int) -> Key:
  return jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(count))


@partial(jax.jit, static_argnames=('characters', 'drawings', 'size'))
def _draw_alphabet(key: Key, *, characters: int, drawings: int, size: int) -> jax.Array:
  keys = _keys(key, 1 + characters)
  style = alphabet(keys[0])
  one = partial(_drawings, style=style, number=drawings, size=size)
  return jax.lax.map(one, keys[1:], batch_size=min(characters, 25))  # 80 kB a drawing at a time


def glyphs(
  split: str = 'train',
  alphabets: int = 40,
  characters: int = 25,
  *,
  drawings: int = 20,
  size: int = 28,
  seed: int = 0,
  rotations: bool = False,
) -> ClassTable:
  """Makes a table of procedural characters.

  Alphabet a, its character c and the drawings of c are functions of (seed, split, a, c) alone. So a
  larger table begins with the same classes, and no class is in two splits. (A plain line may look
  like one of another split, as between real alphabets.) A large table is kept in the user's cache,
  as decoded images are (metakit.data.decoded).

  Args:
    split: 'train', 'validation' or 'test'.
    alphabets: groups of the table.
    characters: classes an alphabet.
    drawings: rows a class.
    size: pixels a side.
    seed: 0 to 2**32 - 1.
    rotations: whether each character also counts as three more classes, turned counterclockwise by
      90, 180 and 270 degrees; names are then like 'alphabet003/character07/rot090'.

  Returns:
    A table, x [rows, size, size, 1] uint8, ink 255 on 0; the alphabets are its groups.

  Raises:
    ValueError: if a size is not positive, the split unknown, the seed or the table out of range.

  >>> table = glyphs(split='test', alphabets=2, characters=3)  # doctest: +SKIP
  >>> table.x.shape, table.names[0], table.group_names  # doctest: +SKIP
  ((120, 28, 28, 1), 'alphabet000/character00', ('alphabet000', 'alphabet001'))
  """
  check_positive(alphabets=alphabets, characters=characters, drawings=drawings, size=size)
  check_choice('split', split, SPLITS)
  pixels = alphabets * characters * drawings * size**2 * (4 if rotations else 1)
  check_memory('the table of glyphs', pixels, 'use fewer drawings, characters or alphabets')
  root = jax.random.fold_in(roots(seed).data, SPLITS.index(split))
  sizes = alphabets, characters, drawings, size
  make = lambda: _table(root, *sizes, rotations)
  if pixels < KEPT_PIXELS:
    return make()
  of = jax.random.key_data(root).tolist(), sizes, rotations
  code = [Path(file) for file in (__file__, glyph_drawing.__file__)]
  table = kept_drawing(f'glyphs-{split}', code, of, make=make)
  return table._replace(x=np.array(table.x))


def _table(
  root: Key, alphabets: int, characters: int, drawings: int, size: int, rotations: bool
) -> ClassTable:
  make = partial(_draw_alphabet, characters=characters, drawings=drawings, size=size)
  with jax.enable_x64(False):  # in float64 they would be other characters
    x = np.stack([make(jax.random.fold_in(root, number)) for number in range(alphabets)])
  turns = [f'/rot{angle:03d}' for angle in (0, 90, 180, 270)] if rotations else ['']
  x = np.stack([np.rot90(x, turn, axes=(3, 4)) for turn in range(len(turns))], axis=2)
  groups = [f'alphabet{a:03d}' for a in range(alphabets)]
  names = [f'{g}/character{c:02d}{t}' for g in groups for c in range(characters) for t in turns]
  x, y = x.reshape(-1, size, size, 1), np.repeat(np.arange(len(names)), drawings)
  numbers = np.repeat(np.arange(alphabets), characters * len(turns))
  return class_table(x, y, names, groups=numbers, group_names=groups)


def glyph_sampler(ways: int = 5, shots: int = 1, queries: int = 15, *, size: int = 28) -> Sampler:
  """N-way K-shot episodes in which every class is new: drawn from the key, with no table.

  Each class comes from an alphabet of its own. Args and raises: see `few_shot`; size is in pixels.

  Returns:
    A sampler: support.x [ways * shots, size, size, 1] uint8, query.x likewise, sorted by label.
  """
  check_positive(ways=ways, shots=shots, queries=queries, size=size)

  @jax.enable_x64(False)  # as in `glyphs`
  def sampler(key: Key) -> Episode:
    x = jax.vmap(lambda key: _drawings(key, None, shots + queries, size))(_keys(key, ways))
    y = jnp.broadcast_to(jnp.arange(ways, dtype=jnp.int32)[:, None], x.shape[:2])
    part = lambda a, b: Examples(x[:, a:b].reshape(-1, size, size, 1), y[:, a:b].ravel())
    return Episode(part(0, shots), part(shots, shots + queries))

  return sampler
