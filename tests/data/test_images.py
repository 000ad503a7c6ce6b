"""Image files of every kind become 8-bit grayscale or RGB, and what cannot be is one line."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from metakit.data.images import decode_image, shrink_images, stack_images
from metakit.data.table import class_table

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (6, 5, 3), np.uint8)
INK = np.zeros((6, 5), np.uint8)
INK[1:4, 2] = 255  # a stroke


def saved(pixels, file_format='PNG', mode=None, **more):
  file = io.BytesIO()
  image = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
  (image.convert(mode) if mode else image).save(file, file_format, **more)
  return file.getvalue()


def decoded(data):
  return np.asarray(decode_image(data, 'x.png'))


def refused(data, message):
  with pytest.raises(ValueError, match=message) as error:
    decode_image(data, 'x.png')
  assert '\n' not in str(error.value)


def in_alpha(gray):
  """A drawing of one gray whose ink is in the alpha channel alone."""
  return np.stack([np.full_like(INK, gray)] * 3 + [INK], axis=-1)


def in_palette():
  image = Image.fromarray((INK // 255).copy())
  image = image.convert('P')
  image.putpalette([255, 0, 0, 0, 0, 0])
  return saved(image, transparency=0)


DARK_INK = {
  'RGBA': saved(in_alpha(0)),
  'LA': saved(Image.fromarray(in_alpha(0)).convert('LA')),
  'RGBA of WEBP': saved(in_alpha(0), 'WEBP', lossless=True),
  'a palette': in_palette(),
  'a gray value': saved(255 - INK, transparency=255),
  'a colour': saved(255 - INK, mode='RGB', transparency=(255, 255, 255)),
}


@pytest.mark.parametrize('kind', DARK_INK)
def test_dark_ink_in_the_alpha_channel_lies_on_white_paper(kind):
  """And is gray, so that one such file among gray ones does not make a table of three channels."""
  found = decoded(DARK_INK[kind])
  np.testing.assert_array_equal(found, 255 - INK)


def test_white_ink_lies_on_black_paper():
  np.testing.assert_array_equal(decoded(saved(in_alpha(255))), INK)


def test_half_transparent_colours_are_mixed_with_white():
  alpha = RNG.integers(0, 256, (6, 5, 1), np.uint8)
  share = alpha / 255
  found = decoded(saved(np.concatenate([COLOURS, alpha], -1)))
  np.testing.assert_array_equal(found, np.rint(COLOURS * share + 255 * (1 - share)))


@pytest.mark.parametrize('alpha', [255, 0])  # 0 everywhere: a program left it unset
def test_an_alpha_channel_that_says_nothing_leaves_the_colours(alpha):
  filled = np.full((6, 5, 1), alpha, np.uint8)
  np.testing.assert_array_equal(decoded(saved(np.concatenate([COLOURS, filled], -1))), COLOURS)


def test_files_without_transparency_keep_their_channels():
  gray = COLOURS[..., 0]
  assert decoded(saved(gray)).shape == (6, 5)
  np.testing.assert_array_equal(decoded(saved(gray, mode='RGB')), np.stack([gray] * 3, -1))


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('file_format', ['PNG', 'TIFF', 'WEBP'])
def test_the_orientation_of_a_camera_is_applied(orientation, file_format):
  upright = {
    1: COLOURS,
    2: COLOURS[:, ::-1],
    3: COLOURS[::-1, ::-1],
    4: COLOURS[::-1],
    5: COLOURS.swapaxes(0, 1),
    6: np.rot90(COLOURS, -1),
    7: np.rot90(COLOURS, 2).swapaxes(0, 1),
    8: np.rot90(COLOURS),
  }[orientation]
  exif = Image.Exif()
  exif[274] = orientation
  more = {'lossless': True} if file_format == 'WEBP' else {}
  np.testing.assert_array_equal(decoded(saved(COLOURS, file_format, exif=exif, **more)), upright)


def test_a_damaged_orientation_is_none():
  data = saved(COLOURS, exif=b'Exif\x00\x00no such thing')
  np.testing.assert_array_equal(decoded(data), COLOURS)


def png(values, colour_type, chunks=b''):
  """A PNG file of 16 bits a channel, which Pillow writes of grayscale alone."""
  height, width = values.shape[:2]
  rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in values)
  header = struct.pack('>IIBBBBB', width, height, 16, colour_type, 0, 0, 0)
  parts = chunk(b'IHDR', header) + chunks + chunk(b'IDAT', zlib.compress(rows))
  return b'\x89PNG\r\n\x1a\n' + parts + chunk(b'IEND', b'')


def chunk(name, data):
  return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))


def tiff(values, order, packing=1, photometric=2, extra=None):
  """A TIFF file of 16 bits a channel."""
  height, width, channels = values.shape
  data = values.astype(f'{order}u2').tobytes()
  data = zlib.compress(data) if packing == 8 else data
  tags = {256: width, 257: height, 259: packing, 262: photometric, 277: channels, 278: height}
  tags |= {279: len(data)} | ({338: extra} if extra is not None else {})
  depths = 8 + 2 + 12 * (len(tags) + 2) + 4  # where the bits of each channel stand, and the data
  place = {258: (3, channels, depths), 273: (4, 1, depths + 8)}
  entries = {tag: (4, 1, value) for tag, value in tags.items()} | place
  if channels == 1:
    entries[258] = (4, 1, 16)
  listed = b''.join(struct.pack(f'{order}HHII', tag, *entries[tag]) for tag in sorted(entries))
  start = {'<': b'II*\0', '>': b'MM\0*'}[order] + struct.pack(f'{order}IH', 8, len(entries))
  return start + listed + bytes(4) + np.full(4, 16, f'{order}u2').tobytes() + data


VALUES = RNG.integers(0, 65536, (6, 5, 4))
OPAQUE = np.concatenate([VALUES[..., :3], np.full((6, 5, 1), 65535)], -1)
GRAY, RGB = VALUES[..., :1], VALUES[..., :3]


@pytest.mark.parametrize(
  ('data', 'values'),
  [
    (png(GRAY, 0), GRAY),
    (png(RGB, 2), RGB),
    (png(OPAQUE[..., 2:], 4), OPAQUE[..., 2:3]),
    (png(OPAQUE, 6), RGB),
    *((tiff(RGB, order, packing), RGB) for order in '<>' for packing in (1, 8)),
    *((tiff(OPAQUE, order, packing, extra=2), RGB) for order in '<>' for packing in (1, 8)),
    *((tiff(GRAY, order, photometric=1), GRAY) for order in '<>'),
    (tiff(GRAY, '<', photometric=0), 65535 - GRAY),  # white is zero
    (b'P5 5 6 65535\n' + GRAY.astype('>u2').tobytes(), GRAY),
  ],
)
def test_sixteen_bits_are_rounded_to_eight(data, values):
  """Not cut, which Pillow does with colours, so that 255 * 257 - 1 would become 254."""
  found = decoded(data).reshape(6, 5, -1)
  np.testing.assert_array_equal(found, np.rint(values / 257))


def test_eight_bits_in_sixteen_are_what_they_were():
  np.testing.assert_array_equal(decoded(png(COLOURS.astype(int) * 257, 2)), COLOURS)


@pytest.mark.parametrize('size', [None, 3])
def test_images_that_lose_digits_are_counted_in_one_warning(size):
  exif = Image.Exif()
  exif[274] = 6
  turned = io.BytesIO()
  Image.fromarray(np.uint16(GRAY[..., 0])).save(turned, 'PNG', exif=exif)
  files = {
    'eight.png': saved(COLOURS),
    'rgb.png': png(RGB, 2),
    'gray.png': png(GRAY, 0),
    'eight_in_sixteen.png': png(COLOURS.astype(int) * 257, 2),
    'turned.png': turned.getvalue(),
  }
  images = {name: decode_image(data, name) for name, data in files.items()}
  images['turned.png'] = images['turned.png'].rotate(90, expand=True)
  with pytest.warns(UserWarning) as warned:
    stack_images(images.items(), size)
  said = '3 of 5 images have 16 bits a channel, such as rgb.png: rounded to 8'
  assert [str(each.message) for each in warned] == [said]
  stack_images([(name, images[name]) for name in ('eight.png', 'eight_in_sixteen.png')], size)


def test_transparency_of_sixteen_bits_is_heeded():
  values = np.where(INK[..., None] > 0, 3000, 40000).repeat(3, -1)
  named = chunk(b'tRNS', struct.pack('>HHH', 40000, 40000, 40000))
  expected = np.where(INK, round(3000 / 257), 255)
  np.testing.assert_array_equal(decoded(png(values, 2, named)), expected)
  gray = png(values[..., :1], 0, chunk(b'tRNS', struct.pack('>H', 40000)))
  np.testing.assert_array_equal(decoded(gray), expected)


def test_pixels_that_cannot_be_rounded_are_refused():
  refused(tiff(VALUES, '<', extra=1), r'x\.png: 16 bits a channel in the form RGBa;16L; save it as')
  refused(tiff(VALUES, '<', photometric=5), 'in the form CMYK;16L; save it as 8-bit')
  refused(saved(RNG.random((6, 5), np.float32), 'TIFF'), 'pixels of mode F; save it as 8-bit')


def test_a_file_of_another_format_starts_no_program(monkeypatch):
  """Pillow would have PostScript drawn by an interpreter, whatever the name of the file."""
  started = []
  monkeypatch.setattr(EpsImagePlugin, 'Ghostscript', lambda *given, **more: started.append(given))
  data = b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 5\n%%EndComments\nshowpage\n'
  refused(data, r'x\.png: no image file \(70 bytes\) of BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP')
  assert not started


def test_more_pixels_than_the_limit_are_refused_before_they_are_there(monkeypatch):
  huge = png(GRAY, 0).replace(struct.pack('>II', 5, 6), struct.pack('>II', 20_000, 30_000))
  header = struct.pack('>IIBBBBB', 20_000, 30_000, 16, 0, 0, 0, 0)
  huge = huge[:29] + struct.pack('>I', zlib.crc32(b'IHDR' + header)) + huge[33:]
  refused(huge, r'x\.png: .*600000000 pixels.*; make the image smaller')
  monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 20)  # 30 are fewer than twice as many
  refused(saved(COLOURS), 'exceeds limit of 20 pixels.*; make the image smaller')


def test_no_memory_is_one_line(monkeypatch):
  def lacks(*_):
    raise MemoryError

  monkeypatch.setattr('metakit.data.images.open_image', lacks)
  refused(saved(COLOURS), r'x\.png: not enough memory; make the image smaller')


def test_a_size_that_no_memory_holds_is_refused():
  image = 'x.png', decode_image(saved(COLOURS), 'x.png')
  with pytest.raises(ValueError, match='size=1000000 is more than 89,478,485 pixels an image'):
    stack_images([image], 1_000_000)


def test_shrinking_keeps_the_type():
  x = RNG.random((4, 6, 6, 1)).astype(np.float32)
  small = shrink_images(class_table(x, [0, 0, 1, 1]), 2).x
  np.testing.assert_allclose(small, x.reshape(4, 2, 3, 2, 3, 1).mean((2, 4)), rtol=1e-6)
  with pytest.raises(ValueError, match=r'\(4, 6\) are no images'):
    shrink_images(class_table(x[:, :, 0, 0], [0, 0, 1, 1]), 2)
