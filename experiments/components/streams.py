"""The streams and strategies that specs name.

A stream is a function that returns a metakit.streams.Stream, and a strategy one of its network, the
most outputs, and the tuning. Both have a line below.
"""

import functools
from collections.abc import Callable, Iterator

import numpy as np

from experiments.components.in_context_events import class_means_of, in_context_of
from metakit import streams
from metakit.data.clinc150 import clinc150
from metakit.data.files import data_folder, find_data
from metakit.data.glyphs import glyphs
from metakit.data.mnist import mnist
from metakit.data.omniglot import omniglot
from metakit.data.series import series
from metakit.data.table import ClassTable
from metakit.objectives import squared_error
from metakit.streams import Event, Strategy, Stream, made_stream, make_stream
from metakit.types import Examples

INPUTS = 784  # numbers of an input: those of an image of 28x28
ALPHABETS = 'Balinese', 'Greek', 'Korean', 'Hebrew'
DOMAINS = 'banking', 'credit_cards', 'travel'
TABLES = 'concrete', 'wine'
STATIONS = 'BASEL', 'OSLO'
PAST = 14  # days of a window
# The order of arrival: kinds of tasks by turns, and the first one again at the end.
ORDER = (
  *('mnist', 'Balinese', 'banking', 'concrete', 'glyphs 0', 'Greek', 'BASEL', 'credit_cards'),
  *('Korean', 'wine', 'glyphs 1', 'OSLO', 'travel', 'Hebrew', 'mnist again'),
)


def made(transfer: str = 'mixed', events: int = 8) -> Stream:
  """Made tasks whose kinship is known (metakit.streams.made_stream).

  Args:
    transfer: 'positive', 'negative', 'none' or 'mixed'.
    events: how many tasks.
  """
  return made_stream(transfer, events)


def real(data_dir: str | None = None, events: int = len(ORDER), shuffle: int = 0) -> Stream:
  """Fifteen real tasks: digits, alphabets, drawn characters, intents, tables and weather.

  Inputs are 784 numbers: pixels, hashed n-grams, or standardised columns and zeros. All are scaled
  to a mean square of 1 over training examples, so that no kind is louder than another. Targets that
  are numbers are standardised by training examples, so that an error of 1 is that of their mean.

  Args:
    events: only the first so many.
    shuffle: another number is another order and other examples.
  """
  drawn = {event.name: event for event in _all_events(data_dir, shuffle)}
  order = list(ORDER)
  if shuffle:
    np.random.default_rng(shuffle).shuffle(order)
  return make_stream(drawn[name] for name in order[: max(events, 1)])


def _all_events(data_dir: str | None, seed: int) -> Iterator[Event]:
  sizes = 400, 100, 300
  digits = mnist(data_dir, 'train')
  for number, name in enumerate(('mnist', 'mnist again')):
    yield _of_classes(name, digits, range(10), sizes=sizes, seed=(seed, number))
  drawings = omniglot(data_dir, 'trainval', 'original', rotations=False)
  few = 200, 80, 120
  for name in ALPHABETS:
    yield _of_classes(name, drawings, _of_group(drawings, name)[:20], sizes=few, seed=(seed, 2))
  made_up = glyphs(alphabets=2, characters=20)
  for number in range(2):
    classes = _of_group(made_up, made_up.group_names[number])
    yield _of_classes(f'glyphs {number}', made_up, classes, sizes=few, seed=(seed, 3))
  for split in ('train', 'validation'):
    intents = clinc150(data_dir, split, INPUTS)
    for name in set(DOMAINS) & set(intents.group_names):
      yield _of_classes(name, intents, _of_group(intents, name), sizes=sizes, seed=(seed, 4))
  yield from _of_numbers(data_dir, sizes, seed)


def _of_group(table: ClassTable, name: str) -> list[int]:
  """Returns the classes of a group, an alphabet or a domain.

  Raises:
    ValueError: if the table has no such group.
  """
  if name not in table.group_names:
    raise ValueError(f'the data has no group {name!r}; get the whole data set again')
  return np.flatnonzero(table.groups == table.group_names.index(name)).tolist()


def _of_classes(
  name: str,
  table: ClassTable,
  classes: range | list[int],
  *,
  sizes: tuple[int, int, int],
  seed: tuple[int, ...],
) -> Event:
  """Returns the event of some classes of a table, which have equal shares in each part."""
  random, each = np.random.default_rng(seed), [size // len(classes) for size in sizes]
  rows: list[list[np.ndarray]] = [[], [], []]
  for number in classes:
    order = table.starts[number] + random.permutation(table.counts[number])[: sum(each)]
    for part, cut in zip(rows, np.split(order, np.cumsum(each)[:-1]), strict=True):
      part.append(cut)
  parts = []
  for part in rows:
    x = np.asarray(table.x[np.concatenate(part)], np.float32).reshape(-1, INPUTS)
    labels = np.repeat(np.arange(len(classes)), [len(cut) for cut in part])
    parts.append(Examples(x, labels.astype(np.int32)))
  return Event(name, *_scaled(parts), outputs=len(classes))


def _of_numbers(data_dir: str | None, sizes: tuple[int, int, int], seed: int) -> Iterator[Event]:
  """Yields the events whose targets are numbers. Weather is parted by time, tables at random."""
  for name in TABLES:
    folder = data_folder(data_dir, 'uci_regression')
    folder = folder / 'uci_regression' if (folder / 'uci_regression').is_dir() else folder
    cells = np.loadtxt(folder / name / 'data.csv.gz', delimiter=',', dtype=np.float64)
    order = np.random.default_rng((seed, 5)).permutation(len(cells))
    yield _of_columns(name, cells[order, :-1], cells[order, -1:], sizes)
  file = find_data(data_dir, 'weather_europe', 'weather_prediction_dataset.csv.gz')
  for name in STATIONS:
    windows = series(file, f'{name}_temp_mean', past=PAST, stride=4)
    yield _of_columns(name, windows.x, windows.y, sizes)


def _of_columns(name: str, x: np.ndarray, y: np.ndarray, sizes: tuple[int, int, int]) -> Event:
  """Returns the event of a regression, standardised by its first rows, which are for training."""
  train = slice(sizes[0])
  normal = lambda v: (v - v[train].mean(0)) / np.maximum(v[train].std(0), 1e-9)
  padded = np.pad(normal(x), ((0, 0), (0, INPUTS - x.shape[1])))
  cuts = np.cumsum(sizes)[:-1]
  inputs, targets = (np.split(v[: sum(sizes)], cuts) for v in (padded, normal(y)))
  parts = [
    Examples(a.astype(np.float32), b.astype(np.float32))
    for a, b in zip(inputs, targets, strict=True)
  ]
  return Event(name, *_scaled(parts), outputs=y.shape[1], objective=squared_error)


def _scaled(parts: list[Examples]) -> tuple[Examples, Examples, Examples]:
  """Returns the parts with inputs whose mean square is 1 over the first, which is for training."""
  scale = np.float32(1 / np.sqrt(np.square(parts[0].x, dtype=np.float64).mean()))
  train, dev, test = (part._replace(x=part.x * scale) for part in parts)
  return train, dev, test


def class_means(outputs: int) -> Strategy:
  """The nearest class mean of the inputs themselves; in a regression the mean target."""
  return streams.adapting(functools.partial(class_means_of, outputs), {})


def in_context(outputs: int, columns: int = 16) -> Strategy:
  """A transformer of the zoo, trained on drawn tables alone, reads the examples (TabPFN).

  It sees the first principal components. Targets that are numbers are told to it as ten classes.

  Args:
    columns: principal components.
  """
  learner_of, params = in_context_of(outputs, columns)
  return streams.adapting(learner_of, params)


STREAMS: dict[str, Callable[..., Stream]] = {'made': made, 'real': real}
STREAM_SUPPLIED = ('data_dir',)
STRATEGIES: dict[str, Callable[..., Strategy]] = {
  'independent': streams.independent,
  'previous': streams.previous,
  'dynamic_knn': streams.dynamic_knn,
  'meta_initialised': streams.meta_initialised,
  'in_context': in_context,
  'class_means': class_means,
}
STRATEGY_SUPPLIED = ('embedding', 'outputs', 'tuning')
