"""The same pixels are kept in one type, whatever type they come in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metakit.data.arrays import arrays
from metakit.data.numbers import eight_bits
from metakit.data.table import class_table
from metakit.networks.convolution import as_float

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 4, 4, 1), np.uint8)
LABELS = [0, 0, 0, 1, 1, 1]
INTEGERS = ['int64', 'uint16', '>i2', '>i8', 'uint64']
FLOATS = ['float32', 'float64', 'float16', '>f4', '>f8', jnp.bfloat16]


def kept(x):
  return class_table(x, LABELS).x


def warns(x, said):
  with pytest.warns(UserWarning, match=said) as seen:
    found = kept(x)
  assert len(seen) == 1
  return found


@pytest.mark.parametrize('dtype', INTEGERS)
@pytest.mark.parametrize('shape', [(6, 16, 1), (6, 4, 4, 1), (6, 2, 8)])
def test_integer_images_are_uint8(dtype, shape):
  found = kept(PIXELS.astype(dtype).reshape(shape))
  assert found.dtype == np.uint8
  np.testing.assert_array_equal(found, PIXELS.reshape(shape))


@pytest.mark.parametrize('dtype', FLOATS)
def test_whole_floats_of_pixels_are_uint8_too_and_it_is_said_once(dtype):
  found = warns(PIXELS.astype(dtype), 'taken for pixels of 0 to 255, and kept as uint8')
  assert found.dtype == np.uint8
  np.testing.assert_array_equal(found, PIXELS)


def test_other_floats_of_pixels_are_scaled_as_networks_scale_uint8():
  x = (PIXELS + 0.25).clip(0, 255).astype(np.float32)
  found = warns(x, 'taken for pixels of 0 to 255, and divided by 255')
  np.testing.assert_allclose(found, as_float(jnp.asarray(PIXELS)), atol=0.26 / 255)
  assert found.dtype == np.float32


def test_floats_from_0_to_1_are_what_networks_make_of_uint8():
  scaled = np.asarray(as_float(jnp.asarray(PIXELS)))
  found = kept(scaled)
  np.testing.assert_array_equal(as_float(jnp.asarray(found)), as_float(jnp.asarray(kept(PIXELS))))


@pytest.mark.parametrize('dtype', ['uint16', 'int64', 'float32', '>u2'])
def test_pixels_of_sixteen_bits_are_rounded_to_eight(dtype):
  x = RNG.integers(0, 65536, (6, 4, 4, 1))
  found = warns(x.astype(dtype), 'taken for pixels of 16 bits, and rounded to 8')
  np.testing.assert_array_equal(found, np.rint(x / 257))
  assert found.dtype == np.uint8


def test_rounding_is_to_the_nearest():
  values = np.arange(65536)
  np.testing.assert_array_equal(eight_bits(values), np.rint(values / 257))


def test_one_bit_is_0_and_255_in_every_type():
  bits = PIXELS > 99
  ink = bits * np.uint8(255)
  np.testing.assert_array_equal(kept(bits), ink)
  for dtype in ('uint8', 'int64'):
    np.testing.assert_array_equal(warns(bits.astype(dtype), 'pixels of one bit'), ink)
  np.testing.assert_array_equal(as_float(jnp.asarray(kept(bits.astype(np.float32)))), ink / 255)


@pytest.mark.parametrize(
  'x',
  [
    (PIXELS / 255 - 0.5) / 0.3,  # standardised
    PIXELS / 255 * 1.1,  # resized, and a little above 1
    RNG.random((6, 3, 3, 16)) * 9,  # maps of features
    PIXELS.reshape(6, 16).astype(float),  # features
    PIXELS.reshape(6, 16).astype(np.int64),
    PIXELS.reshape(6, 16),
  ],
)
def test_what_is_no_pixels_is_left_alone(x):
  found = kept(x)
  assert found.dtype == x.dtype
  np.testing.assert_array_equal(found, x)


@pytest.mark.parametrize(
  'x', [PIXELS - 120.0, PIXELS * 9.7, PIXELS.astype(int) - 120, PIXELS.astype(int) * 999]
)
def test_pixels_of_an_unknown_range_are_left_alone_and_it_is_said(x):
  np.testing.assert_array_equal(warns(x, 'which networks take as they are; scale them'), x)


@pytest.mark.parametrize(
  ('x', 'said'),
  [
    (np.array([[2**31], [1]]), 'x holds 2147483648, more than int32 holds; scale the data or give'),
    (np.array([[-(2**31) - 1], [1]]), 'x holds -2147483649, more than int32'),
    (np.array([[2**32], [1]], np.uint64), 'x holds 4294967296, more than uint32'),
    (np.array([[1e39], [1]]), r'x holds 1e\+39, more than float32 holds; scale the data'),
    (np.array([[np.nan], [1]], jnp.bfloat16), 'example 0 holds NaN or infinity'),
    (np.array([[1], [np.inf]], np.float16), 'example 1 holds NaN or infinity'),
    (np.array([[1], [2]], np.longdouble), 'x is .*; give real numbers of at most 64 bits'),
    (np.array([['a'], ['b']]), 'x is <U1; give real numbers'),
    (np.array([[1], [2]], 'm8[s]'), 'x is timedelta64.*; give real numbers'),
    (np.ma.masked_equal([[1], [2]], 2), 'x has masked entries; fill them'),
    ([[1], [1, 2]], 'x is no array of one shape'),
    ([[None], [1]], 'x holds Python objects'),
    (3, 'x is the single value 3'),
  ],
)
@pytest.mark.parametrize('door', [class_table, arrays])
def test_what_no_table_holds_is_named(door, x, said):
  with pytest.raises(ValueError, match=said) as error:
    door(x, [0, 1])
  assert '\n' not in str(error.value)


def test_wide_integers_that_fit_are_kept():
  assert class_table(np.array([[2**31 - 1], [-(2**31)]]), [0, 1]).x.tolist() == [
    [2**31 - 1],
    [-(2**31)],
  ]
  with jax.enable_x64(True):
    assert class_table(np.array([[2**40], [1]]), [0, 1]).x[0] == 2**40


def test_bfloat16_features_are_numbers():
  x = np.arange(6).reshape(6, 1).astype(jnp.bfloat16)
  np.testing.assert_array_equal(arrays(x, LABELS).x, x)
