"""Random transforms of images draw what they say, and compute what scipy does."""

import colorsys
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from PIL import Image, ImageEnhance

from metakit.episodes.colour_transforms import jitter_colours, turn_hue
from metakit.episodes.image_transforms import (
  cut_out,
  mirror_image,
  rotate_quarter_turns,
  shift_image,
  warp_image,
)
from tests.episodes.test_chance import SMALLEST_P, equally_likely
from tests.episodes.test_few_shot import many

COLOURS = np.random.default_rng(1).integers(0, 256, (5, 4, 3), np.uint8)
IMAGE = np.random.default_rng(0).integers(0, 256, (4, 4, 1), np.uint8)


def test_quarter_turns_are_the_four_rotations_equally_likely():
  turned = many(lambda key: rotate_quarter_turns(key, jnp.asarray(IMAGE)), 4000)
  turns = np.stack([np.rot90(IMAGE, k) for k in range(4)])
  matches = (turned[:, None] == turns[None]).all(axis=(2, 3, 4))  # [keys, 4]
  assert (matches.sum(axis=1) == 1).all()
  assert equally_likely(matches.argmax(axis=1), 4) > SMALLEST_P
  assert turned.dtype == np.uint8


def test_half_of_the_images_are_mirrored():
  mirrored = many(lambda key: mirror_image(key, jnp.asarray(IMAGE)), 4000)
  matches = (mirrored[:, None] == np.stack([IMAGE, np.fliplr(IMAGE)])).all(axis=(2, 3, 4))
  assert (matches.sum(axis=1) == 1).all()
  assert equally_likely(matches.argmax(axis=1), 2) > SMALLEST_P
  assert mirrored.dtype == np.uint8


def test_shifts_are_all_shifts_equally_likely():
  image = np.arange(1, 13, dtype=np.uint8).reshape(3, 4)
  shifted = many(lambda key: shift_image(1, fill=9)(key, jnp.asarray(image)), 9000)
  padded = np.pad(image, 1, constant_values=9)
  all_shifts = [padded[i : i + 3, j : j + 4] for i, j in itertools.product(range(3), range(3))]
  matches = (shifted[:, None] == np.stack(all_shifts)[None]).all(axis=(2, 3))
  assert (matches.sum(axis=1) == 1).all()
  assert equally_likely(matches.argmax(axis=1), 9) > SMALLEST_P
  assert shifted.dtype == np.uint8


def test_a_shift_of_zero_pixels_is_the_identity():
  shifted = shift_image(0)(jax.random.key(0), jnp.asarray(IMAGE))
  np.testing.assert_array_equal(shifted, IMAGE)


@pytest.mark.parametrize(('size', 'fill'), [(2, None), (3, 7)])
def test_squares_are_cut_out_at_every_centre_equally_likely(size, fill):
  """And are cut at the borders. The square may hold the mean of each channel, or a number."""
  image = COLOURS[..., :2]
  height, width = image.shape[:2]
  means = [round(float(channel.mean())) for channel in np.moveaxis(image, -1, 0)]
  all_cuts = []
  for row, column in itertools.product(range(height), range(width)):
    cut = image.copy()
    for i, j in itertools.product(range(height), range(width)):
      if 0 <= i - row + size // 2 < size and 0 <= j - column + size // 2 < size:
        cut[i, j] = means if fill is None else fill
    all_cuts.append(cut)
  cuts = many(lambda key: cut_out(size, fill)(key, jnp.asarray(image)), 4000)
  matches = (cuts[:, None] == np.stack(all_cuts)[None]).all(axis=(2, 3, 4))
  assert (matches.sum(axis=1) == 1).all() and cuts.dtype == np.uint8
  assert equally_likely(matches.argmax(axis=1), height * width) > SMALLEST_P


BOUNDS = np.array([0.4, 0.8, 1.5])


def jittered(image, number):
  """Images, and what was drawn for each: the order of the changes, and their factors."""

  def draw(key):
    order_key, factor_key = jax.random.split(key)
    order = jax.random.randint(order_key, (), 0, 6)
    return jitter_colours(*BOUNDS)(key, image), order, jax.random.uniform(factor_key, (3,))

  images, order, share = many(draw, number)
  low = np.maximum(1 - BOUNDS, 0)
  orders = np.array(list(itertools.permutations(range(3))))
  return images, orders[order], low + (1 + BOUNDS - low) * share


def slowly_jittered(image, order, factors, most=255):
  x = [[[float(v) for v in np.atleast_1d(pixel)] for pixel in row] for row in image]
  for which in order:
    f = factors[which]
    gray = [[(p * np.array([0.2989, 0.587, 0.114][: len(p)])).sum() for p in row] for row in x]
    gray = gray if len(x[0][0]) == 3 else [[p[0] for p in row] for row in x]
    for i, row in enumerate(x):
      for j, pixel in enumerate(row):
        other = [0, np.mean(gray), gray[i][j]][which]
        x[i][j] = [min(max(f * v + (1 - f) * other, 0), most) for v in pixel]
  return np.array(x).reshape(image.shape)


def test_colours_are_jittered_by_the_definition():
  images, orders, factors = jittered(jnp.asarray(COLOURS), 30)
  slow = np.stack([slowly_jittered(COLOURS, *each) for each in zip(orders, factors, strict=True)])
  assert images.dtype == np.uint8 and len({*map(tuple, orders)}) == 6
  assert factors.min() < 0.5 and factors.max() > 2 and (slow == 0).any() and (slow == 255).any()
  np.testing.assert_allclose(images, slow, atol=0.501)


def test_gray_images_and_images_of_floats_are_jittered():
  gray = COLOURS[..., 0] / np.float32(255)
  images, orders, factors = jittered(jnp.asarray(gray), 5)
  for image, order, factor in zip(images, orders, factors, strict=True):
    np.testing.assert_allclose(image, slowly_jittered(gray, order, factor, most=1), atol=1e-5)


def test_colours_are_jittered_as_by_pillow():
  """Which rounds after each change."""
  enhancers = ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color
  for image, order, factors in zip(*jittered(jnp.asarray(COLOURS), 30), strict=True):
    expected = Image.fromarray(COLOURS)
    for which in order:
      expected = enhancers[which](expected).enhance(factors[which])
    np.testing.assert_allclose(image.astype(int), np.asarray(expected), atol=4)


def test_hues_are_turned_as_in_hsv():
  image = np.concatenate([COLOURS, np.full((1, 4, 3), 90)]).astype(np.uint8)  # some gray pixels
  turn = lambda key: (turn_hue(0.4)(key, jnp.asarray(image)), jax.random.uniform(key))
  images, shares = many(turn, 10)
  for turned, share in zip(images, shares, strict=True):
    for new, old in zip(turned.reshape(-1, 3), image.reshape(-1, 3), strict=True):
      hue, saturation, value = colorsys.rgb_to_hsv(*(old / 255))
      expected = colorsys.hsv_to_rgb((hue + 0.8 * share - 0.4) % 1, saturation, value)
      np.testing.assert_allclose(new, 255 * np.array(expected), atol=0.51)
  gray = jnp.asarray(IMAGE)
  assert turn_hue(0.4)(jax.random.key(0), gray) is gray


def test_warped_images_are_those_of_scipy():
  """Rotation, stretching and shift as scipy.ndimage.affine_transform, the matrix drawn here."""
  image = np.random.default_rng(0).normal(size=(9, 7, 2)).astype(np.float32)
  key = jax.random.key(1)
  draws = np.asarray(jax.random.uniform(key, (5,), minval=-1, maxval=1), np.float64)
  angle, stretch = np.deg2rad(30) * draws[2], np.exp(np.log(1.2) * draws[3:])
  turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
  matrix, centre = turn / stretch[:, None], np.array([4, 3])
  offset = centre - matrix @ (centre + 1.5 * draws[:2])
  expected = [
    scipy.ndimage.affine_transform(plane, matrix, offset, order=1, mode='grid-constant', cval=3)
    for plane in np.moveaxis(image, -1, 0)
  ]
  warped = warp_image(1.5, 30, 0.2, fill=3)(key, jnp.asarray(image))
  np.testing.assert_allclose(warped, np.stack(expected, -1), atol=1e-5)


def test_a_warp_of_nothing_is_the_image():
  image = jnp.asarray(IMAGE)
  warped = warp_image(0, 0, 0)(jax.random.key(0), image)
  assert warped.dtype == image.dtype and warped.tolist() == image.tolist()


def test_a_warped_image_of_integers_is_rounded():
  image = np.random.default_rng(0).integers(0, 256, (8, 8, 1)).astype(np.uint8)
  warp = warp_image(1, 10, 0.1)
  exact = warp(jax.random.key(0), jnp.asarray(image, jnp.float32))
  rounded = warp(jax.random.key(0), jnp.asarray(image))
  assert rounded.dtype == np.uint8 and rounded.tolist() == np.round(exact).tolist()


def test_a_warp_by_less_than_nothing():
  with pytest.raises(ValueError, match='max_degrees=-1'):
    warp_image(0, -1, 0)


@pytest.mark.parametrize(
  ('make', 'said'),
  [
    (lambda: cut_out(-1), 'size=-1'),
    (lambda: jitter_colours(0, -0.1, 0), r'contrast=-0\.1'),
    (lambda: turn_hue(0.6), r'max_turn=0\.6'),
    (lambda: jitter_colours(1, 1, 1)(jax.random.key(0), jnp.zeros((4, 4, 2))), '1 or 3 channels'),
    (lambda: turn_hue(0.1)(jax.random.key(0), jnp.zeros(4)), '1 or 3 channels'),
  ],
)
def test_what_no_image_can_be_changed_by(make, said):
  with pytest.raises(ValueError, match=said):
    make()
