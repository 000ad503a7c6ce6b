"""Random transforms of images draw what they say, and compute what scipy does."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from metakit.episodes.image_transforms import (
  mirror_image,
  rotate_quarter_turns,
  shift_image,
  warp_image,
)
from tests.episodes.test_chance import SMALLEST_P, equally_likely
from tests.episodes.test_few_shot import many

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
