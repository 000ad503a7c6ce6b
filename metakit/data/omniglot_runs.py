"""The 20 one-shot classification runs on which people were tested; their error was 4.5%.

Lake, Salakhutdinov, Tenenbaum 2015, Human-level concept learning through probabilistic program
induction, Science 350: 20-way 1-shot, each run within one alphabet of the evaluation set; ten
alphabets, two runs each. The file is all_runs.zip of github.com/brendenlake/omniglot, folder
python/one-shot-classification.
"""

import re
from zipfile import ZipFile

import numpy as np

from metakit.data.files import PathLike, damaged, find_data, open_zip, read_member
from metakit.data.images import decode_image, stack_images
from metakit.types import Episode, Examples

ORIGIN = 'https://github.com/brendenlake/omniglot, folder python/one-shot-classification'
RUNS, WAYS = 20, 20
_LINE = re.compile(r'(run\d\d/test/item\d\d\.png)\s+run\d\d/training/class(\d\d)\.png')


def omniglot_runs(data_dir: PathLike | None = None, size: int = 28) -> Episode:
  """Reads the 20 official runs of one-shot classification of Omniglot.

  Args:
    data_dir: the folder of all_runs.zip, or the folder above it if its own is called 'omniglot';
      None stands for the environment variable METAKIT_DATA.
    size: pixels of height and width; images are made as metakit.data.omniglot makes them.

  Returns:
    An Episode with a leading axis of runs: support and query x [20, 20, size, size, 1] uint8,
    y [20, 20] int32.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is damaged or lacks a drawing.

  >>> runs = omniglot_runs('data')  # doctest: +SKIP
  >>> runs.support.x.shape, runs.support.y.shape  # doctest: +SKIP
  ((20, 20, 28, 28, 1), (20, 20))
  """
  path = find_data(data_dir, 'omniglot', 'all_runs.zip', origin=ORIGIN)
  with open_zip(path) as archive:
    runs = [_run(archive, f'run{number:02d}', size) for number in range(1, RUNS + 1)]
  support, query = (
    Examples(np.stack([r[i].x for r in runs]), np.stack([r[i].y for r in runs])) for i in (0, 1)
  )
  return Episode(support, query)


def _run(archive: ZipFile, name: str, size: int) -> Episode:
  held = set(archive.namelist())
  support = [f'{name}/training/class{k:02d}.png' for k in range(1, WAYS + 1)]
  listed = f'{name}/class_labels.txt'
  if missing := {*support, listed} - held:
    raise damaged(archive.filename, f'no {min(missing)}')
  answers = _LINE.findall(read_member(archive, listed).decode(errors='replace'))
  if len(answers) != WAYS or {item for item, _ in answers} - held:
    raise damaged(archive.filename, f'{listed} does not name {WAYS} drawings that are there')
  labels = [np.arange(WAYS, dtype=np.int32), np.array([int(k) - 1 for _, k in answers], np.int32)]
  images = [_drawings(archive, members, size) for members in (support, [i for i, _ in answers])]
  return Episode(*(Examples(x, y) for x, y in zip(images, labels, strict=True)))


def _drawings(archive: ZipFile, members: list[str], size: int) -> np.ndarray:
  named = ((f'{archive.filename}: {m}', m) for m in members)
  return 255 - stack_images(((n, decode_image(read_member(archive, m), n)) for n, m in named), size)
