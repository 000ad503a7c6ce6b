"""The grammar of component specs."""

import pytest

from metakit.components.specs import build, parse, write_spec


def folder(path: str = '', ways: int = 5, note: str | None = None):
  return path, ways, note


def network(width: int = 8):
  return width


def loud(gain: float = 2.0, curve=abs, names: tuple[str, ...] = ()):
  return gain, curve, names


FACTORIES = {'folder': folder, 'network': network, 'loud': loud}
PATHS = [
  '/plain/path',
  '/birds, trees',
  ',',
  '"',
  '"quoted"',
  'a "quote" inside, and a comma',
  '""',
  '","',
  ' spaces around ',
  'a=b,c=d',
  '/a=b',
  'path=/x',
  '/data:2024,ways=3',
  'new\nline',
  'ends in a newline\n',
  '/ü/照片,1',
  'back\\slash\\,"',
  'none',
  '',
]


def parsed(spec):
  return parse('task', FACTORIES, spec).arguments


@pytest.mark.parametrize('path', PATHS)
def test_what_is_written_is_read_back(path):
  given = {'path': path, 'ways': 3, 'note': None}
  component = parse('task', FACTORIES, write_spec('folder', given))
  assert component.arguments == given
  assert parsed(str(component)) == given and parsed(component.brief()) == given
  assert parsed(f'{component},ways=4') == given | {'ways': 4}  # the later value counts


@pytest.mark.parametrize('path', ['/photos', 'photos/a=b', '/a:b', '"/photos, old"', '"a=b"'])
def test_a_path_may_come_first_without_its_name(path):
  read = path.strip('"')
  assert parsed(f'folder:{path}') == {'path': read, 'ways': 5, 'note': None}
  assert parsed(f'folder:{path} , ways=3')['ways'] == 3


@pytest.mark.parametrize(
  ('spec', 'unknown'),
  [
    ('network:8', "'8'"),
    ('network:wide=8', "'wide'"),
    ('folder:ways=3,/photos', "'/photos'"),
    ('folder:/birds, trees', "'trees'"),
  ],
)
def test_a_value_in_another_place_is_named(spec, unknown):
  with pytest.raises(ValueError, match=f'has no argument {unknown}; accepted: '):
    parsed(spec)


def test_an_argument_that_no_text_stands_for_keeps_its_default():
  component = parse('task', FACTORIES, 'loud:gain=3')
  assert component.arguments == {'gain': 3.0} and build(component) == (3.0, abs, ())
  with pytest.raises(ValueError, match=r"has no argument 'curve'; accepted: gain=2\.0"):
    parsed('loud:curve=abs')
