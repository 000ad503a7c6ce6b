"""Omniglot: 1,623 handwritten characters of 50 alphabets, each drawn by 20 people.

Lake, Salakhutdinov, Tenenbaum 2015, Human-level concept learning through probabilistic program
induction, Science 350. The files are images_background.zip (30 alphabets, 964 characters) and
images_evaluation.zip (20 alphabets, 659 characters) of github.com/brendenlake/omniglot.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from zipfile import ZipFile

import numpy as np
from PIL import Image

from metakit.data.files import PathLike, check_choice, find_data, open_zip, read_member
from metakit.data.images import decode_image, stack_images
from metakit.data.table import ClassTable, class_table
from metakit.data.vinyals_split import VINYALS

ORIGIN = 'https://github.com/brendenlake/omniglot, folder python'
DRAWINGS = 20  # of each character
CHARACTERS = {'images_background.zip': 964, 'images_evaluation.zip': 659}
PROTOCOLS = ('vinyals', 'original')
HELD_OUT_ALPHABETS = 5  # of the 30 background alphabets, for validation in protocol 'original'

# Alphabet/character01/0709_01.png behind any folder; macOS adds members that are no drawings.
_MEMBER = re.compile(r'(?!__MACOSX)(?:.*/)?([^/]+/character\d\d)/[^/._][^/]*\.png')


class _Character(NamedTuple):
  archive: ZipFile
  drawings: list[str]  # members of the archive


def omniglot(
  data_dir: PathLike | None = None,
  split: str = 'train',
  protocol: str = 'vinyals',
  *,
  size: int = 28,
  rotations: bool = True,
) -> ClassTable:
  """Reads a part of Omniglot.

  The drawings are inverted (ink 255, paper 0) and resized from 105x105 with Pillow's bilinear
  filter, which does not alias. (The code of Snell et al. resizes bilevel images. For those Pillow
  always takes the nearest pixel, which breaks strokes.)

  Args:
    data_dir: the folder of the two zip files, or the folder above it if theirs is called
      'omniglot'; None stands for the environment variable METAKIT_DATA.
    split: 'train', 'validation', 'test', or 'trainval' (train and validation).
    protocol: 'vinyals' (characters: 1,028 train, 172 validation, 423 test, see
      metakit.data.vinyals_split) or 'original' (train and validation from images_background.zip,
      813 and 151 characters, validation being the last 5 of its 30 alphabets in order of the
      names: Ojibwe, Sanskrit, Syriac (Estrangelo), Tagalog, Tifinagh; test the 659 characters of
      images_evaluation.zip).
    size: pixels of height and width.
    rotations: whether each character also counts as three more classes, turned counterclockwise
      by 90, 180 and 270 degrees (Santoro et al. 2016, arXiv:1605.06065); names are then like
      'Angelic/character01/rot090' instead of 'Angelic/character01'.

  Returns:
    x [classes * 20, size, size, 1] uint8; groups are the alphabets of the part.

  Raises:
    FileNotFoundError: if a zip file is missing.
    ValueError: if an argument is unknown, or a file is damaged or lacks drawings.

  >>> table = omniglot('data', split='test', rotations=False)  # doctest: +SKIP
  >>> table.x.shape, table.names[0]  # doctest: +SKIP
  ((8460, 28, 28, 1), 'Gurmukhi/character42')
  """
  check_choice('split', split, tuple(VINYALS))
  check_choice('protocol', protocol, PROTOCOLS)
  with contextlib.ExitStack() as stack:
    archives = [
      stack.enter_context(open_zip(find_data(data_dir, 'omniglot', file, origin=ORIGIN)))
      for file in _files(split, protocol)
    ]
    drawn = {name: c for archive in archives for name, c in _characters(archive).items()}
    names = _part(sorted(drawn), split, protocol)
    x = 255 - stack_images(_images([drawn[name] for name in names]), size)
  return _table(x, names, rotations)


def by_drawer(table: ClassTable, drawers: Sequence[int]) -> ClassTable:
  """Returns the table whose groups are people. Each class is what one of them drew of a character.

  An alphabet was drawn by 20 people, each of whom drew all of its characters once.

  Args:
    table: of `omniglot`, without rotations, or another one whose classes have a row of each person,
      in the same order in a group.
    drawers: numbers of people, 0 to 19.

  Returns:
    A table of the same x. Class c of person number i of `drawers` has the number
    i * classes + c; names are like 'Korean/drawer03/character01' (counted from 1), groups like
    'Korean/drawer03'.

  Raises:
    ValueError: if there are not so many people.

  >>> table = class_table(np.arange(6), [0, 0, 0, 1, 1, 1], names=['Korean/a', 'Korean/b'])
  >>> drawn = by_drawer(table._replace(group_names=('Korean',)), drawers=[0, 2])
  >>> drawn.names[2:], drawn.x[drawn.starts].tolist()
  (('Korean/drawer03/a', 'Korean/drawer03/b'), [0, 3, 2, 5])
  """
  people = int(table.counts.min())
  if min(drawers) < 0 or max(drawers) >= people:
    raise ValueError(f'drawers={list(drawers)} are not all among 0 to {people - 1}; use these')
  alphabets = [table.group_names[g] for g in table.groups]
  short = [name.removeprefix(f'{a}/') for name, a in zip(table.names, alphabets, strict=True)]
  person = lambda alphabet, d: f'{alphabet}/drawer{d + 1:02d}'
  each = range(len(table.group_names))
  return table._replace(
    starts=np.concatenate([table.starts + d for d in drawers]),
    counts=np.ones(len(drawers) * len(table.names), np.int64),
    names=tuple(
      f'{person(a, d)}/{name}' for d in drawers for a, name in zip(alphabets, short, strict=True)
    ),
    groups=np.concatenate([table.groups * len(drawers) + i for i in range(len(drawers))]),
    group_names=tuple(person(table.group_names[g], d) for g in each for d in drawers),
  )


def _files(split: str, protocol: str) -> tuple[str, ...]:
  background, evaluation = CHARACTERS
  if protocol == 'vinyals':
    return background, evaluation
  return (evaluation,) if split == 'test' else (background,)


def _characters(archive: ZipFile) -> dict[str, _Character]:
  characters: dict[str, _Character] = {}
  for member in sorted(archive.namelist()):
    if match := _MEMBER.fullmatch(member):
      characters.setdefault(match[1], _Character(archive, [])).drawings.append(member)
  expected = CHARACTERS[str(archive.filename).replace('\\', '/').rsplit('/', 1)[-1]]
  if len(characters) != expected:
    raise ValueError(
      f'{archive.filename}: {len(characters)} of {expected} characters; get it from {ORIGIN}'
    )
  for name, character in characters.items():
    if len(character.drawings) != DRAWINGS:
      raise ValueError(
        f'{archive.filename}: {len(character.drawings)} of {DRAWINGS} drawings of {name}; '
        f'get it from {ORIGIN}'
      )
  return characters


def _part(names: Sequence[str], split: str, protocol: str) -> list[str]:
  if protocol == 'vinyals':
    spans = VINYALS[split]
    return [f'{a}/character{n:02d}' for a, first, last in spans for n in range(first, last + 1)]
  alphabets = sorted({_alphabet(name) for name in names})
  chosen = {
    'train': alphabets[:-HELD_OUT_ALPHABETS],
    'validation': alphabets[-HELD_OUT_ALPHABETS:],
  }.get(split, alphabets)
  return [name for name in names if _alphabet(name) in chosen]


def _images(characters: Sequence[_Character]) -> Iterator[tuple[str, Image.Image]]:
  for archive, drawings in characters:
    for member in drawings:
      name = f'{archive.filename}: {member}'
      yield name, decode_image(read_member(archive, member), name)


def _table(x: np.ndarray, names: Sequence[str], rotations: bool) -> ClassTable:
  alphabets = list(dict.fromkeys(map(_alphabet, names)))
  groups = np.array([alphabets.index(_alphabet(name)) for name in names])
  if rotations:
    x = _rotated(x.reshape(len(names), DRAWINGS, *x.shape[1:]))
    names = [f'{name}/rot{angle:03d}' for name in names for angle in (0, 90, 180, 270)]
    groups = np.repeat(groups, 4)
  labels = np.repeat(np.arange(len(names)), DRAWINGS)
  return class_table(x, labels, names, groups=groups, group_names=alphabets)


def _rotated(x: np.ndarray) -> np.ndarray:
  turned = np.stack([np.rot90(x, k, axes=(2, 3)) for k in range(4)], axis=1)
  return turned.reshape(-1, *x.shape[2:])  # [characters * 4 * drawings, height, width, 1]


def _alphabet(name: str) -> str:
  return name.split('/')[0]
