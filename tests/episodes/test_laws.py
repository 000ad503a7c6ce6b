"""Laws of every sampler. A new sampler joins by adding one row to SAMPLERS (and to INVALID)."""

from functools import cache, partial
from typing import NamedTuple

import jax
import numpy as np
import pytest

from metakit.data.table import class_table
from metakit.data.targets import regression_table
from metakit.episodes.augmentation import augment
from metakit.episodes.categorical import categorical, categorical_tasks
from metakit.episodes.class_incremental import Sessions, class_incremental
from metakit.episodes.combinators import mixture, relabel, shorten, switch, vary_shots
from metakit.episodes.few_shot import few_shot
from metakit.episodes.functions import dense, functions, gaussian_process
from metakit.episodes.image_completion import image_completion
from metakit.episodes.image_transforms import mirror_image, shift_image
from metakit.episodes.imbalanced import imbalanced
from metakit.episodes.limited import limited
from metakit.episodes.made_domains import made_domains
from metakit.episodes.one_domain import domain_episodes, one_domain
from metakit.episodes.projected import projected
from metakit.episodes.semi_supervised import semi_supervised
from metakit.episodes.sinusoid import sinusoid
from metakit.episodes.spurious import context_table, spurious
from metakit.episodes.table_regression import table_regression
from metakit.episodes.tables import tables
from metakit.episodes.turned_classes import turned_classes
from metakit.episodes.variable_shot import variable_shot
from metakit.episodes.within_group import within_group
from metakit.keys import roots, task_key
from metakit.types import Sampler

COUNTS = np.array([7, 9, 6, 8, 12, 6, 10, 9])
LABELS = np.repeat(np.arange(8), COUNTS)
IMAGES = np.random.default_rng(0).integers(0, 256, (len(LABELS), 6, 6, 1), np.uint8)
TABLE = class_table(IMAGES, LABELS, groups=np.arange(8) % 2, group_names=['Latin', 'Korean'])
# The same three classes in two domains.
DOMAINS = TABLE._replace(names=tuple(f'{("Latin", "Korean")[c % 2]}/{c // 2}' for c in range(8)))

TASKS = regression_table(IMAGES, np.arange(len(LABELS)) / 3, LABELS)

CONTEXTS = context_table(TABLE, lambda number, x: x + number.astype(x.dtype), 4)

FIXED = {'ways': 3, 'shots': 2, 'queries': 3}
IN_ALL = {'support': 5, 'queries': 6}
SOME_LABELS = {'ways': 3, 'shots': 1, 'queries': 2, 'unlabelled': 2, 'distractors': 2}
SESSIONS = Sessions(base_ways=3, base_shots=4, ways=2, shots=1, number=2, queries=2)
VARIABLE = {'max_ways': 5, 'min_ways': 2, 'max_support': 20, 'max_queries_per_class': 3}


def episodes_of_images():
  return few_shot(TABLE, **FIXED)


def without_info(sampler):
  return lambda key: sampler(key)._replace(info=())


# name: () -> sampler
SAMPLERS = {
  'few_shot': episodes_of_images,
  'few_shot_plan': lambda: few_shot(TABLE, **FIXED).plan,
  'within_group': lambda: within_group(TABLE, **FIXED),
  'within_group_plan': lambda: within_group(TABLE, **FIXED).plan,
  'class_incremental': lambda: class_incremental(TABLE, SESSIONS),
  'class_incremental_plan': lambda: class_incremental(TABLE, SESSIONS).plan,
  'table_regression': lambda: table_regression(TASKS, shots=2, queries=3),
  'table_regression_plan': lambda: table_regression(TASKS, shots=2, queries=3).plan,
  'domain_episodes': lambda: domain_episodes(TABLE, np.arange(8) // 2, **IN_ALL),
  'domain_episodes_plan': lambda: domain_episodes(TABLE, np.arange(8) // 2, **IN_ALL).plan,
  'one_domain': lambda: one_domain(DOMAINS, **FIXED, mixed=True),
  'one_domain_plan': lambda: one_domain(DOMAINS, **FIXED, mixed=True).plan,
  'made_domains': lambda: made_domains(
    partial(one_domain, **FIXED), TABLE, lambda number, x: x + number.astype(x.dtype), names='ab'
  ),
  'imbalanced': lambda: imbalanced(TABLE, **FIXED),
  'imbalanced_plan': lambda: imbalanced(TABLE, **FIXED).plan,
  'semi_supervised': lambda: semi_supervised(TABLE, **SOME_LABELS),
  'semi_supervised_plan': lambda: semi_supervised(TABLE, **SOME_LABELS).plan,
  'variable_shot': lambda: variable_shot(TABLE, **VARIABLE),
  'variable_shot_plan': lambda: variable_shot(TABLE, **VARIABLE).plan,
  'spurious': lambda: spurious(few_shot(CONTEXTS, **FIXED), 4, 0.5),
  'sinusoid': sinusoid,
  'sinusoid:noise': lambda: sinusoid(noise=0.1),
  'augment': lambda: augment(episodes_of_images(), shift_image(2)),
  'augment:class': lambda: augment(episodes_of_images(), mirror_image, 'class'),
  'turned_classes': lambda: turned_classes(partial(few_shot, **FIXED), TABLE),
  'relabel': lambda: relabel(few_shot(TABLE, **FIXED), ways=3),
  'shorten': lambda: shorten(sinusoid(), 3),
  'vary_shots': lambda: vary_shots(sinusoid(), 3),
  'limited': lambda: limited(sinusoid(), 10**6),
  'image_completion': lambda: image_completion(TABLE, 9, 5, fewest=0),
  'image_completion_plan': lambda: image_completion(TABLE, 9, 5).plan,
  'switch': lambda: switch(sinusoid(), sinusoid(amplitude=(5.0, 9.0)), steps=3),
  'categorical': lambda: categorical(categorical_tasks(), 6),
  'functions': lambda: functions(dense(3), 4),
  'functions:noise': lambda: functions(gaussian_process(), 4, noise=0.1),
  'projected_plan': lambda: projected(TABLE, size=4, shots=5).plan,
  'projected': lambda: projected(TABLE, size=4, shots=5),
  'tables': lambda: tables(rows=12, columns=4, queries=4, classes=4, least_rows=4),
  'tables:regression': lambda: tables(
    'regression', rows=12, columns=4, queries=4, least_rows=4, tasks=2**20
  ),
  'mixture': lambda: mixture([sinusoid(), sinusoid(amplitude=(5.0, 9.0))], [1, 2]),
}
FLOATS = (
  'categorical',
  'functions',
  'functions:noise',
  'limited',
  'mixture',
  'projected',
  'shorten',
  'sinusoid',
  'sinusoid:noise',
  'switch',
  'vary_shots',
  'tables',
  'tables:regression',
)

fixed = lambda make: partial(make, TABLE, **FIXED)
streams = lambda **sizes: class_incremental(TABLE, SESSIONS._replace(**sizes))
some_labels = partial(semi_supervised, TABLE, **SOME_LABELS)
variable = partial(variable_shot, TABLE, **VARIABLE)

# (factory, argument, value that must be refused by name)
INVALID = [
  *((fixed(make), name, 0) for make in (few_shot, within_group, imbalanced) for name in FIXED),
  *((fixed(make), 'ways', 9) for make in (few_shot, within_group, imbalanced)),
  *((fixed(make), 'shots', 6) for make in (few_shot, within_group)),
  *((fixed(make), 'queries', 6) for make in (few_shot, within_group)),
  (fixed(within_group), 'ways', 5),
  *((partial(one_domain, DOMAINS, **FIXED), name, 0) for name in FIXED),
  (partial(one_domain, DOMAINS, **FIXED), 'ways', 5),
  (partial(one_domain, DOMAINS, **FIXED), 'queries', 9),
  (partial(domain_episodes, TABLE, np.zeros(8, int), **IN_ALL), 'support', 0),
  (partial(domain_episodes, TABLE, np.zeros(8, int), **IN_ALL), 'queries', 30),
  (partial(domain_episodes, TABLE, **IN_ALL), 'labels', np.full(8, -1)),
  (partial(made_domains, partial(one_domain, **FIXED), TABLE, lambda n, x: x), 'names', 'aa'),
  *((partial(spurious, few_shot(CONTEXTS, **FIXED), 4), 'strength', p) for p in (-0.1, 1.5)),
  (partial(spurious, few_shot(CONTEXTS, **FIXED)), 'contexts', 2),
  (partial(context_table, TABLE, lambda number, x: x), 'contexts', 1),
  (partial(table_regression, TASKS, queries=3), 'shots', 0),
  (partial(table_regression, TASKS, shots=2), 'queries', 0),
  (partial(table_regression, TASKS, queries=3), 'shots', 4),
  (partial(table_regression, shots=2), 'table', TABLE),
  (fixed(imbalanced), 'concentration', 0),
  *((variable, name, 0) for name in [*VARIABLE, 'max_support_per_class']),
  *((streams, name, 0) for name in SESSIONS._fields),
  *((some_labels, name, 0) for name in ('ways', 'shots', 'queries', 'unlabelled')),
  (some_labels, 'distractors', -1),
  (some_labels, 'ways', 7),
  (variable, 'min_ways', 6),
  (variable, 'max_support', 4),
  (partial(functions, dense()), 'shots', 0),
  (partial(functions, dense()), 'queries', 0),
  (partial(functions, dense()), 'noise', -1.0),
  (sinusoid, 'shots', 0),
  (sinusoid, 'queries', -1),
  (sinusoid, 'amplitude', (2.0, 1.0)),
  (sinusoid, 'phase', (0.0, float('inf'))),
  (sinusoid, 'x_range', (float('nan'), 1.0)),
  (sinusoid, 'noise', -0.1),
  (partial(relabel, few_shot(TABLE, **FIXED)), 'ways', 0),
  (partial(relabel, few_shot(TABLE, **FIXED)), 'ways', 4),
  (partial(relabel, without_info(few_shot(TABLE, **FIXED))), 'ways', 2),
  (partial(vary_shots, sinusoid(shots=3)), 'fewest', 4),
  (partial(limited, sinusoid()), 'episodes', 0),
  (partial(limited, sinusoid()), 'episodes', 2**31),
  (partial(image_completion, TABLE), 'shots', 0),
  (partial(image_completion, TABLE, 9), 'queries', 28),
  (partial(image_completion, TABLE, 9), 'fewest', 10),
  (partial(mixture, [sinusoid()]), 'weights', [1, 1]),
  (partial(mixture, [sinusoid()]), 'weights', [-1]),
  (mixture, 'samplers', []),
  *((tables, name, 0) for name in ('rows', 'columns', 'queries', 'least_rows', 'tasks')),
  (tables, 'kind', 'ranking'),
  (tables, 'least_rows', 101),
  (tables, 'classes', 1),
  (tables, 'missing', 1.5),
  (shift_image, 'max_pixels', -1),
]

# A plan, floats, numbers of examples that vary, a choice of samplers: what compiles differently.
DIFFERENT = ('few_shot', 'variable_shot', 'functions:noise', 'projected', 'mixture')
# One of integers and one of floats, where a law compiles a program of its own.
QUICK = ('few_shot', 'functions')
# Asked operation by operation, which compiles hundreds of programs.
OP_BY_OP = ('few_shot',)
# A plan is part of the whole episode, whose row is quick, and asks what compiles most.
PLANS = [name for name in SAMPLERS if name.endswith('_plan')]
WHOLE = [name for name in SAMPLERS if name not in PLANS]
# What an optimised program might round otherwise, beside other programs of the same draws.
OPTIMISED = (*DIFFERENT, 'sinusoid:noise', 'categorical', 'augment')


def samplers(slow=(), compiler=(), names=WHOLE):
  """Marks a law of samplers that is slow for some, and asked of optimised programs of some."""

  def marked(name):
    marks = [pytest.mark.slow] if name in slow else []
    return pytest.param(name, marks=[*marks, *[pytest.mark.compiler] * (name in compiler)])

  return pytest.mark.parametrize('name', list(map(marked, names)))


every_sampler = samplers(slow=PLANS, names=SAMPLERS)
of_optimised_programs = samplers(slow=PLANS, compiler=OPTIMISED, names=SAMPLERS)
slow_if_alike = samplers(slow=set(SAMPLERS) - set(DIFFERENT), compiler=OPTIMISED)
quick_for_two = samplers(slow=set(SAMPLERS) - set(QUICK))


class Built(NamedTuple):
  """A sampler, compiled once for all laws."""

  sampler: Sampler
  jitted: Sampler
  mapped: Sampler
  traces: list  # one entry each time `jitted` is traced


@cache
def build(name):
  sampler, traces = SAMPLERS[name](), []

  def counted(key):
    traces.append(key)
    return sampler(key)

  # Of a sampler that is built again, so that what maps it has to equal it in this too.
  return Built(sampler, jax.jit(counted), jax.jit(jax.vmap(SAMPLERS[name]())), traces)


def keys(*shape):
  return jax.random.split(jax.random.key(1, impl='threefry2x32'), shape)


def assert_same_bits(ours, theirs):
  assert jax.tree.structure(ours) == jax.tree.structure(theirs)
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b), strict=True)


def assert_same(ours, theirs, floats):
  """The same bits or, where floats are rounded as the compiler likes, the same to rounding."""
  close = partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-6)
  same = partial(jax.tree.map, close) if floats else assert_same_bits
  same(ours, theirs)


def stack(episodes):
  return jax.tree.map(lambda *leaves: np.stack(leaves), *episodes)


@of_optimised_programs
def test_the_same_key_gives_the_same_episode(name):
  for key in keys(2):
    assert_same_bits(build(name).jitted(key), build(name).jitted(key))


@pytest.mark.compiler
@pytest.mark.slow
@pytest.mark.parametrize('name', OPTIMISED)
def test_an_episode_outside_of_a_jit_has_the_same_bits(name):
  """Where one program multiplies and adds, it rounds once; two programs round twice."""
  sampler = SAMPLERS[name]()
  for key in keys(2):
    assert_same_bits(sampler(key), build(name).jitted(key))


@samplers(slow=set(SAMPLERS) - set(OP_BY_OP), compiler=OPTIMISED)
def test_jit_changes_nothing(name):
  sampler, key = build(name).sampler, keys()  # what an episode is drawn from is made before
  with jax.disable_jit():
    plain = sampler(key)
  assert_same(build(name).jitted(key), plain, name in FLOATS)


@quick_for_two
def test_float64_changes_no_draw(name):
  """Only the precision of what is computed from them."""
  plain = build(name).jitted(keys())
  with jax.enable_x64(True):
    ours = jax.jit(SAMPLERS[name]())(keys())
  assert_same(jax.tree.map(lambda a, b: a.astype(b.dtype), ours, plain), plain, name in FLOATS)


def test_other_generators_are_refused_by_name():
  """Those of a process, by who names episodes, and those of a key."""
  with jax.threefry_partitionable(False), pytest.raises(ValueError, match='PARTITIONABLE'):
    task_key(roots(0).test, 0, 0)
  with pytest.raises(ValueError, match='rbg'):
    task_key(jax.random.key(0, impl='rbg'), 0, 0)


@slow_if_alike
def test_vmap_of_a_sampler_built_again_is_a_loop(name):
  loop = [build(name).jitted(key) for key in keys(16)]
  assert_same(build(name).mapped(keys(16)), stack(loop), name == 'mixture')


@quick_for_two
def test_pmap_is_vmap(name):
  devices = jax.local_device_count()
  mapped = jax.pmap(jax.vmap(build(name).sampler))(keys(16).reshape(devices, -1))
  merged = jax.tree.map(lambda a: np.asarray(a).reshape(-1, *a.shape[2:]), mapped)
  assert_same(merged, build(name).mapped(keys(16)), name == 'mixture')


@every_sampler
def test_traced_once_for_many_keys(name):
  before = len(build(name).traces)  # of other laws; tests/conftest.py may have made room since
  for key in keys(16):
    build(name).jitted(key)
  assert len(build(name).traces) <= before + 1


@every_sampler
def test_different_keys_give_different_episodes(name):
  leaves = jax.tree.leaves(stack([build(name).jitted(key) for key in keys(16)]))
  rows = np.concatenate([np.asarray(leaf).reshape(16, -1) for leaf in leaves], axis=1)
  assert len({tuple(row) for row in rows.tolist()}) == 16


@every_sampler
def test_x_y_and_weight_have_one_length(name):
  support, query, _ = build(name).jitted(keys())
  for part in (support, query):
    assert len(part.x) == len(part.y)
    assert part.weight is None or part.weight.shape == part.y.shape[:1]


@pytest.mark.parametrize(('make', 'name', 'value'), INVALID)
def test_invalid_sizes_are_refused_by_name(make, name, value):
  with pytest.raises(ValueError, match=name):
    make(**{name: value})
