"""Pictures of any size and mode become those that a network was trained on."""

import re

import numpy as np
import pytest
from PIL import Image

from metakit.trained.inputs import Inputs, ready

GRAY, COLOUR = Inputs((8, 8, 1), 'uint8', 120.0, 60.0), Inputs((8, 8, 3), 'uint8', 120.0, 60.0)
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (8, 8), dtype=np.uint8)
RGB = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)


def opaque(pixels):
  return np.concatenate([pixels, np.full((8, 8, 1), 255, np.uint8)], axis=2)


FORMS = {
  'height and width': PIXELS,
  'a channel': PIXELS[..., None],
  'gray and alpha': opaque(PIXELS[..., None]),
  'RGB': PIXELS[..., None].repeat(3, 2),
  'RGBA': opaque(PIXELS[..., None].repeat(3, 2)),
  '16 bits': PIXELS.astype(np.uint16) * 257,
  'integers': PIXELS.astype(int),
  'floats': PIXELS / 255,
  'float32': PIXELS.astype(np.float32) / 255,
  'Pillow L': Image.fromarray(PIXELS),
  'Pillow RGB': Image.fromarray(PIXELS).convert('RGB'),
  'Pillow RGBA': Image.fromarray(PIXELS).convert('RGBA'),
  'Pillow 16 bits': Image.fromarray(PIXELS.astype(np.uint16) * 257),
  'Pillow palette': Image.fromarray(PIXELS).convert('P'),
}


@pytest.mark.parametrize('form', FORMS)
def test_gray_pictures_of_any_form_are_the_same(form, tmp_path):
  for inputs in (GRAY, COLOUR):
    (array,) = ready(inputs, [FORMS[form]]).x
    np.testing.assert_array_equal(array, np.broadcast_to(PIXELS[..., None], inputs.shape))
  if form.startswith('Pillow'):
    FORMS[form].save(tmp_path / 'it.png')
    np.testing.assert_array_equal(ready(GRAY, [tmp_path / 'it.png']).x[0, ..., 0], PIXELS)
    np.testing.assert_array_equal(ready(GRAY, [str(tmp_path / 'it.png')]).x[0, ..., 0], PIXELS)


def test_colours_stay_or_become_gray():
  np.testing.assert_array_equal(ready(COLOUR, RGB[None]).x[0], RGB)
  with pytest.warns(UserWarning, match='pictures differ from those of training: colours became'):
    gray = ready(GRAY, RGB[None]).x[0, ..., 0]
  assert np.abs(gray - RGB @ [0.299, 0.587, 0.114]).max() <= 1


def test_sizes_are_those_of_training():
  ramp = np.add.outer(16 * np.arange(8), 8 * np.arange(8)).astype(np.uint8)
  large = ramp.repeat(6, 0).repeat(6, 1)
  both = ready(GRAY, [large, ramp]).x[..., 0].astype(int)
  assert np.abs(both[0] - both[1])[1:-1, 1:-1].max() <= 1 and (both[1] == ramp).all()
  with pytest.warns(UserWarning, match='400x100 pixels were squeezed into the form of 8x8') as said:
    ready(GRAY, [np.full((400, 100), 120, np.uint8)])
  assert '400x100 pixels became 8x8' in str(said[0].message)


@pytest.mark.parametrize(('trained', 'mean'), [(20.0, 230), (235.0, 30)])
def test_light_ink_and_dark_ink_are_told_apart(trained, mean):
  """Queries are treated as the support, whatever they look like."""
  inputs = GRAY._replace(mean=trained)
  x = np.full((2, 8, 8), mean, np.uint8)
  with pytest.warns(UserWarning, match='dark and light were exchanged, since training was'):
    support = ready(inputs, x)
  assert support.inverted and (support.x == 255 - mean).all()
  assert (ready(inputs, 255 - x, like=support).x == mean).all()
  assert not ready(inputs, 255 - x).inverted
  assert not ready(GRAY, x[:, :, :] // 2 + 60).inverted  # photographs


def test_numbers_far_from_those_of_training_are_told():
  inputs = Inputs((2,), 'float32', 0.0, 1.0)
  with pytest.warns(UserWarning, match=re.escape('x has mean 100 and deviation 0, where training')):
    support = ready(inputs, np.full((3, 2), 100.0))
  ready(inputs, np.full((3, 2), 100.0), like=support)  # said once, of the support
  assert ready(inputs, np.zeros((3, 2, 1))).x.shape == (3, 2)
  np.testing.assert_array_equal(ready(inputs, np.full((1, 2), 51, np.uint8)).x, np.float32(0.2))
