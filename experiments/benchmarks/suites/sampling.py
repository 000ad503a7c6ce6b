"""How fast tasks are made, as plans (row numbers) and as whole episodes, beside other ways.

The table has the shape of Omniglot: 1,200 classes of 20 images of 28x28 bytes. Every form makes the
same number of episodes in a call. It is checked before it is timed: the classes of an episode
differ, the rows of a class differ and belong to it, and images are those of the rows.
"""

import random
import tempfile
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.packages import installed
from experiments.benchmarks.suite import AT_LEAST, AT_MOST, FASTER, LONGER, Aim, Suite
from experiments.benchmarks.timing import Case
from metakit.data.table import ClassTable
from metakit.episodes.few_shot import few_shot
from metakit.episodes.one_domain import domain_episodes
from metakit.sources import gather_rows, read_ahead
from metakit.types import Episode

CLASSES, ROWS, WAYS, SHOTS, QUERIES = 1200, 20, 5, 1, 15
PLANS, WHOLE, BATCHES = 4096, 256, 4
CLASSES_OF_DOMAIN = 24
OURS = '5-way 1-shot'
SIZES = {  # ways, shots, queries
  OURS: (WAYS, SHOTS, QUERIES),
  '5-way 5-shot': (5, 5, 15),
  '20-way 1-shot': (20, 1, 15),
  '20-way 5-shot': (20, 5, 15),
}
NUMBERS_OF_CLASSES = 1_000, 100_000, 1_000_000
NUMBERS_OF_ROWS = 200, 20_000


def plans() -> list[Case]:
  """Returns the cases of plans, each compared with ours of 5-way 1-shot tasks."""
  cases = [_plan(name, _table(CLASSES, ROWS), *sizes) for name, sizes in SIZES.items()]
  for classes in NUMBERS_OF_CLASSES:
    cases.append(_plan(f'{OURS}, {classes:,} classes', _table(classes, ROWS)))
  for rows in NUMBERS_OF_ROWS:
    cases.append(_plan(f'{OURS}, {rows:,} rows a class', _table(CLASSES, rows)))
  cases.append(_one_domain())
  return cases + [_case(name, draw, PLANS, peer=True) for name, draw in _other_plans(PLANS).items()]


def episodes() -> list[Case]:
  """Returns the cases of whole episodes, each compared with ours of 5-way 1-shot tasks."""
  table = _with_images(_table(CLASSES, ROWS))
  cases = [_whole(name, table, *sizes) for name, sizes in SIZES.items()]
  cases.append(_whole(f'{OURS}, 12,000 classes', _with_images(_table(12_000, ROWS))))
  cases.append(_whole(f'{OURS}, rows of 784 bytes', table._replace(x=table.x.reshape(-1, 784))))
  cases.append(_whole(f'{OURS}, as float32', table, dtype=jnp.float32))
  cases.append(_case(f'{OURS}, read by the host', _read(table, table.x), WHOLE))
  cases.append(_case(f'{OURS}, read from the disk', _read(table, _on_disk(table.x)), WHOLE))
  for name, draw in _other_plans(WHOLE).items():
    cases.append(_case(name, _others_whole(name, table, draw), WHOLE, peer=True))
  return cases


def _table(classes: int, rows: int) -> ClassTable:
  """A table of row numbers without examples."""
  starts, counts = np.arange(classes) * rows, np.full(classes, rows)
  names = ('',) * classes
  return ClassTable(None, starts, counts, names, np.zeros(classes, np.int32), ('',))


def _with_images(table: ClassTable) -> ClassTable:
  rng = np.random.default_rng(0)
  return table._replace(x=rng.integers(0, 256, (table.counts.sum(), 28, 28, 1), np.uint8))


def _on_disk(x: np.ndarray) -> np.ndarray:
  with tempfile.NamedTemporaryFile() as file:  # a mapped file outlives its name
    np.save(file, x)
    file.flush()
    return np.load(file.name, mmap_mode='r')


def _case(name: str, call: Callable[[], Any], number: int, peer: bool = False) -> Case:
  baseline = '' if name == OURS else OURS
  return Case(name, call, number, baseline=baseline, unit='episodes', peer=peer)


def _plan(
  name: str, table: ClassTable, ways: int = WAYS, shots: int = SHOTS, queries: int = QUERIES
) -> Case:
  plan, keys = few_shot(table, ways, shots, queries=queries).plan, _keys(PLANS)
  planner = jax.jit(jax.vmap(plan))
  check_rows(_rows(planner(keys), ways), int(table.counts[0]))
  return _case(name, lambda: planner(keys), PLANS)


def _one_domain() -> Case:
  """The same number of examples as of 5-way 1-shot tasks, from one of 50 domains of 24 classes."""
  table, labels = _table(CLASSES, ROWS), np.arange(CLASSES) % CLASSES_OF_DOMAIN
  groups = np.arange(CLASSES) // CLASSES_OF_DOMAIN
  table = table._replace(groups=groups, group_names=('',) * (groups[-1] + 1))
  source = domain_episodes(table, labels, support=WAYS * SHOTS, queries=WAYS * QUERIES)
  planner, keys = jax.jit(jax.vmap(source.plan)), _keys(PLANS)
  drawn = planner(keys)
  rows = np.concatenate([drawn.support.x, drawn.query.x], axis=1)[:, None]
  check_rows(rows, ROWS * CLASSES_OF_DOMAIN)
  return _case('one domain', lambda: planner(keys), PLANS)


def _keys(number: int) -> jax.Array:
  return jax.random.split(jax.random.key(0), number)


def _rows(episodes: Episode, ways: int) -> np.ndarray:
  """Returns the row numbers of planned episodes, [episodes, ways, examples of a class]."""
  parts = (np.asarray(part.x) for part in (episodes.support, episodes.query))
  return np.concatenate([part.reshape(len(part), ways, -1) for part in parts], axis=2)


def check_rows(rows: Any, rows_of_class: int) -> None:
  """Raises ValueError unless classes and rows are drawn without replacement.

  Args:
    rows: [episodes, ways, examples of a class].
    rows_of_class: how many rows each class has.
  """
  rows = np.asarray(rows)
  classes = rows // rows_of_class
  different = lambda a: bool((np.diff(np.sort(a, axis=-1), axis=-1) > 0).all())
  if (classes != classes[..., :1]).any() or not (different(classes[..., 0]) and different(rows)):
    raise ValueError('a plan repeats a class or a row, or mixes classes')


def _other_plans(number: int) -> dict[str, Callable[[], Any]]:
  """Returns other ways to draw the rows of `number` 5-way 1-shot episodes; each is checked."""
  examples, rng = SHOTS + QUERIES, np.random.default_rng(0)

  def by_choice(key: jax.Array) -> jax.Array:
    of_classes, of_rows = jax.random.split(key)
    classes = jax.random.choice(of_classes, CLASSES, (WAYS,), replace=False)
    choose = lambda key: jax.random.choice(key, ROWS, (examples,), replace=False)
    return classes[:, None] * ROWS + jax.vmap(choose)(jax.random.split(of_rows, WAYS))

  def by_top_k(key: jax.Array) -> jax.Array:
    of_classes, of_rows = jax.random.split(key)
    classes = jax.lax.top_k(jax.random.uniform(of_classes, (CLASSES,)), WAYS)[1]
    rows = jax.lax.top_k(jax.random.uniform(of_rows, (WAYS, ROWS)), examples)[1]
    return classes[:, None] * ROWS + rows

  def numpy_episode() -> np.ndarray:
    classes = rng.choice(CLASSES, WAYS, replace=False)
    return np.stack([c * ROWS + rng.permutation(ROWS)[:examples] for c in classes])

  def python_episode() -> list[list[int]]:
    drawn = random.sample(range(CLASSES), WAYS)
    return [[c * ROWS + row for row in random.sample(range(ROWS), examples)] for c in drawn]

  keys = _keys(number)
  choice, top_k = jax.jit(jax.vmap(by_choice)), jax.jit(jax.vmap(by_top_k))
  forms: dict[str, Callable[[], Any]] = {
    'jax.random.choice': lambda: choice(keys),
    'jax.lax.top_k': lambda: top_k(keys),
    'NumPy': lambda: np.stack([numpy_episode() for _ in range(number)]),
    'random.sample': lambda: np.array([python_episode() for _ in range(number)]),
  }
  if installed('torch'):
    forms['PyTorch, randperm'] = _torch_plans(number)
  for draw in forms.values():
    check_rows(draw(), ROWS)
  return forms


def _torch_plans(number: int) -> Callable[[], Any]:
  """As samplers of PyTorch libraries draw: a permutation of all classes, one of each class."""
  import torch

  def episode() -> Any:
    classes = torch.randperm(CLASSES)[:WAYS]
    return torch.stack([c * ROWS + torch.randperm(ROWS)[: SHOTS + QUERIES] for c in classes])

  return lambda: torch.stack([episode() for _ in range(number)])


def _whole(
  name: str,
  table: ClassTable,
  ways: int = WAYS,
  shots: int = SHOTS,
  queries: int = QUERIES,
  dtype: Any = jnp.uint8,
) -> Case:
  plan, keys = few_shot(table, ways, shots, queries=queries).plan, _keys(WHOLE)
  data = jnp.asarray(table.x)

  @jax.jit
  def draw_episodes(keys: jax.Array, data: jax.Array) -> Episode:
    whole = jax.vmap(lambda key: gather_rows(plan(key), data))(keys)
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if leaf.ndim > 2 else leaf, whole)

  expected = table.x[np.asarray(jax.vmap(plan)(keys[:8]).query.x)]
  np.testing.assert_array_equal(draw_episodes(keys[:8], data).query.x, expected)
  return _case(name, lambda: draw_episodes(keys, data), WHOLE)


def _read(table: ClassTable, data: np.ndarray) -> Callable[[], Any]:
  """Reads episodes as training does of a table on the host: in batches, one ahead of its use."""
  plan = jax.jit(jax.vmap(few_shot(table, WAYS, SHOTS, queries=QUERIES).plan))
  keys = _keys(WHOLE)
  batches = jnp.split(keys, BATCHES)
  return lambda: list(read_ahead(lambda i: plan(batches[i]), data, range(BATCHES)))


def _others_whole(name: str, table: ClassTable, draw: Callable[[], Any]) -> Callable[[], Any]:
  """Returns what makes whole episodes of another way to draw rows."""
  if name.startswith('jax'):
    data = jnp.asarray(table.x)
    take = jax.jit(lambda rows: data[rows])
    return lambda: take(draw())
  if name.startswith('PyTorch'):
    import torch

    images = torch.from_numpy(table.x)
    return lambda: images[draw()]
  return lambda: table.x[draw()]


OF_PLANS = (
  Aim(OURS, 'per_second', '', AT_LEAST, 150_000),
  Aim(OURS, FASTER, 'PyTorch, randperm', AT_LEAST, 10),
  Aim(f'{OURS}, 1,000,000 classes', LONGER, OURS, AT_MOST, 1.1),
)
OF_EPISODES = (
  Aim(f'{OURS}, rows of 784 bytes', 'per_second', '', AT_LEAST, 70_000),
  Aim(OURS, 'per_second', '', AT_LEAST, 100_000),
)
SUITES = {'plans': Suite(plans, OF_PLANS), 'episodes': Suite(episodes, OF_EPISODES)}
