"""What the specs of in-context tasks mean for each split."""

import gzip

import jax
import numpy as np
import pytest
from PIL import Image

from experiments.components.augmentations import augmentations_of, of_photos
from experiments.components.class_parts import ClassParts
from experiments.components.data_sources import by_signature, kept_omniglot
from experiments.components.sequence_tasks import base_set
from experiments.components.table_tasks import classification, table_task
from experiments.components.tasks import TASK_SUPPLIED, TASKS
from experiments.runs import evaluation
from metakit.components.docstrings import meanings
from metakit.components.specs import build, parse
from metakit.data import ClassTable
from metakit.data.splits import PARTS
from metakit.episodes import (
  augment,
  cut_out,
  few_shot,
  jitter_colours,
  mirror_image,
  shift_image,
  turn_hue,
  turned_classes,
  warp_image,
)
from metakit.keys import roots
from tests import tiny
from tests.data.test_mnist import idx
from tests.episodes.test_few_shot import many, one


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
  """A folder like MNIST's, of images whose pixels are all their own number."""
  folder = tmp_path_factory.mktemp('mnist')
  for prefix, first, count in (('train', 0, 180), ('t10k', 180, 40)):
    images = np.broadcast_to(np.arange(first, first + count)[:, None, None], (count, 28, 28))
    for name, array in (('images-idx3', images), ('labels-idx1', np.arange(count) % 10)):
      (folder / f'{prefix}-{name}-ubyte.gz').write_bytes(gzip.compress(idx(array)))
  return folder


def made(spec, digits=None):
  return build(parse('task', TASKS, spec), data_dir=digits, budget=1e9)


def test_no_image_is_in_two_splits(digits):
  splits = ('train', 'validation', 'test')
  each = [
    set(base_set('mnist', split, digits, pixels=14).x[:, 3, 3, 0].tolist()) for split in splits
  ]
  assert [len(numbers) for numbers in each] == [150, 30, 40]
  assert set().union(*each) == set(range(220))


def test_images_of_noise_are_one_a_class_and_others_in_each_split():
  splits = ('train', 'validation', 'test')
  each = [np.asarray(base_set('random', split, '', pixels=14).x, float) for split in splits]
  images = np.stack([x.reshape(10, 600, -1) for x in each])
  np.testing.assert_array_equal(images, images[:, :, :1].repeat(600, axis=2))
  alike = np.corrcoef(images[:, :, 0].reshape(30, -1))
  assert np.abs(alike - np.eye(30)).max() < 0.4  # 196 pixels: 1/14 by chance


def task_of(episodes):
  return set(episodes.info['task'].tolist())


@pytest.mark.parametrize('seen', [False, True])
def test_tasks_are_those_of_training_if_seen_is_true_alone(digits, seen):
  """One task in each pool: the projection of a constant image of value 1 gives it away."""
  task = made(f'projected:size=4,shots=9,tasks=1,seen={str(seen).lower()}', digits)
  train, test = (one(task.source(split)) for split in ('train', 'test'))
  # All images are constant, so every projected x is a multiple of the task's own direction.
  direction = lambda episode: episode.support.x[0] / np.linalg.norm(episode.support.x[0])
  alike = abs(float(direction(train) @ direction(test)))
  assert (alike > 0.9999) == seen


def test_with_tasks_0_no_task_occurs_twice(digits):
  task = made('projected:size=4,shots=9,tasks=0', digits)
  assert len(task_of(many(task.source('train').plan, 300))) == 300
  with pytest.raises(ValueError, match='with tasks=0 none occurs twice'):
    made('projected:tasks=0,seen=true', digits)


@pytest.mark.slow  # with tasks=0 none occurs twice, above
def test_unseen_tasks_are_many_however_few_are_trained_on(digits):
  task = made('projected:size=4,shots=9,tasks=2', digits)
  assert task_of(many(task.source('train').plan, 300)) == {0, 1}
  assert len(task_of(many(task.source('test').plan, 300))) == 300


def test_biases_are_of_training_alone(digits):
  task = made('projected:size=4,shots=9,fixed_labels=1,fixed_projection=1', digits)
  info = {split: many(task.source(split).plan, 50).info for split in ('train', 'validation')}
  for name in ('labels', 'projection'):
    assert (info['train'][name] == -1).all()
    assert (info['validation'][name] == info['validation']['task']).all()
  task = made('projected:size=4,shots=9,repeated=1,distinct=2', digits)
  rows = {split: many(task.source(split).plan, 50).support.x for split in ('train', 'validation')}
  different = {split: {len(set(row)) for row in each.tolist()} for split, each in rows.items()}
  assert different['train'] <= {1, 2} and different['validation'] == {9}
  assert task.chance == 0.1 and made('projected', digits).chance is None


def own_images(folder, kind, digits):
  x = np.arange(36, dtype=np.uint8).repeat(16).reshape(36, 4, 4)
  y = np.arange(36) % 3
  if kind == 'npz':
    np.savez(folder / 'x.npz', x=x, y=y)
    return folder / 'x.npz'
  if kind == 'idx':
    return digits
  for number, (image, label) in enumerate(zip(x, y, strict=True)):
    (folder / 'abc'[label]).mkdir(exist_ok=True)
    Image.fromarray(image).save(folder / 'abc'[label] / f'{number:02}.png')
  return folder


@pytest.mark.parametrize('kind', ['npz', 'folder', 'idx'])
def test_a_base_set_may_be_ones_own_and_no_example_is_in_two_parts(tmp_path, kind, digits):
  place = own_images(tmp_path, kind, digits)
  task = made(f'projected:base={place},pixels=2,size=4,shots=3')
  each = [set(np.asarray(task.source(part).data).ravel().tolist()) for part in PARTS]
  counts, classes = ([150, 30, 40], 10) if kind == 'idx' else ([24, 6, 6], 3)
  assert [len(numbers) for numbers in each] == counts
  assert len(set().union(*each)) == sum(counts) and task.num_outputs == classes
  assert task.said().startswith(
    f'projected {place}: train ({counts[0]} examples of 2 x 2 x 1 in {classes} classes ('
  )


def test_own_features_are_projected_as_they_are_and_mistakes_get_one_line(tmp_path):
  x = np.arange(36.0).reshape(12, 3)
  np.savez(tmp_path / 'x.npz', x=x, y=np.arange(12) % 2)
  task = made(f'projected:base={tmp_path}/x.npz,size=4,shots=3')
  assert one(task.source('train')).support.x.shape == (3, 4)
  np.savez(tmp_path / 'y.npz', x=x, y=x[:, 0], groups=np.arange(12) % 2)
  np.savez(tmp_path / 'few.npz', x=x, y=np.arange(12) % 6)
  (tmp_path / 'none').mkdir()
  wrong = {
    'x.np': "base='.*x.np' is unknown; use one of mnist, .*, or the path of an .npz file",
    'y.npz': 'y.npz.*a base set has classes, and these are targets of a regression',
    'few.npz': "few.npz: class '0' has too few examples to hold one in 6 out",
    'none': 'none: no images in class/image or group/class/image',
  }
  for name, said in wrong.items():
    with pytest.raises(ValueError, match=said) as error:
      made(f'projected:base={tmp_path / name},size=4,shots=3')
    assert '\n' not in str(error.value)


def test_a_curriculum_grows_inputs_and_examples():
  """Garg et al. 2022, section A.2: 5 inputs and 11 examples; one and two more at a time."""
  task = made('dense:dim=8,shots=20,curriculum_steps=100')
  schedule = task.source('train').schedule
  at = jax.jit(lambda step: schedule(step)(jax.random.key(0)))
  for step, inputs, examples in ((0, 5, 10), (99, 5, 10), (100, 6, 12), (5000, 8, 20)):
    episode = at(step)
    assert (np.asarray(episode.query.x) != 0).sum() == inputs
    assert np.asarray(episode.support.weight).tolist() == [1] * examples + [0] * (20 - examples)
  assert task.source('test').schedule is None
  with pytest.raises(ValueError, match='curriculum_steps=-1 is negative'):
    made('dense:curriculum_steps=-1')


def test_biases_may_end(digits):
  spec = 'projected:size=4,shots=9,repeated=1,distinct=2,fixed_labels=1'
  task = made(f'{spec},biased_steps=100', digits)
  train = task.source('train')
  keys = jax.random.split(jax.random.key(0), 50)
  planned = jax.jit(lambda step: jax.vmap(train.schedule(step))(keys).support.x)
  different = lambda step: {len(set(row)) for row in planned(step).tolist()}
  assert different(0) | different(99) <= {1, 2} and different(100) == {9}
  always, never = made(spec, digits).source('train'), made('projected:size=4,shots=9', digits)
  at = jax.jit(lambda step: train.schedule(step)(jax.random.key(0)))
  for step, expected in ((99, always), (100, never.source('train'))):
    jax.tree.map(np.testing.assert_array_equal, at(step), one(expected.plan))
  assert task.chance == 0.1 and task.source('validation').schedule is None
  for wrong in ('projected:biased_steps=5', f'{spec},biased_steps=-1'):
    with pytest.raises(ValueError, match='biased_steps='):
      made(wrong, digits)


@pytest.mark.slow
def test_mixed_functions_have_outputs_of_one_size():
  task = made('mixed_functions:classes=dense+sparse+sign_vectors,dim=20,shots=4')
  episodes = many(task.source('train'), 4000)
  component, y = np.asarray(episodes.info['function']['component']), np.asarray(episodes.support.y)
  for c in range(3):
    assert np.square(y[component == c]).mean() == pytest.approx(1, rel=0.15)
  assert made('mixed_functions:classes=dense+decision_trees,dim=5').reference is None


@pytest.mark.parametrize(
  ('spec', 'episodes'),
  [
    ('sign_vectors', 200),
    ('sparse', None),
    *(
      pytest.param(*each, marks=pytest.mark.slow)
      for each in (
        ('mixed_functions', 200),
        ('sparse:nonzeros=5', 200),
        ('dense:pool=65536', None),
        ('gaussian_process', None),
      )
    ),
  ],
)
def test_a_slow_reference_is_of_few_episodes(spec, episodes, monkeypatch):
  task = made(spec)
  assert task.reference is not None
  assert task.reference_episodes == episodes
  learner, source = task.reference._replace(prefixes=print), task.source('test')
  tested = evaluation.Tested(
    task, learner, {}, source, (learner, source), 'test', roots(0).test, 'vmap'
  )
  monkeypatch.setattr(evaluation, 'prefix_curves', lambda tested, episodes: episodes)
  assert evaluation.adaptation_curves(None, tested, 5000) == (episodes or 5000)
  assert evaluation.adaptation_curves(None, tested, 100) == 100


PIXEL = [(0, 0), (1, 1), (1, 1), (0, 0)]


def test_training_images_alone_are_shifted():
  """By up to so many pixels: every one of them is some shift of the image that it was."""
  plain, moved = (
    classification(
      ClassParts('', lambda part: tiny.table(classes=4), augmentations=transforms),
      ways=3,
      shots=1,
      queries=2,
      budget=2**20,
    )
    for transforms in ([], [(shift_image(1), 'example')])
  )
  assert moved.source('test').finish is None and moved.source('validation').finish is None
  assert moved.source('train', 2).plan(jax.random.key(0)).support.x.shape == (6,)
  after = one(moved.source('train')).query.x
  before = np.pad(one(lambda key: plain.source('train')(jax.random.split(key)[0])).query.x, PIXEL)
  size = after.shape[1]
  found = [
    [(i, j) for i in range(3) for j in range(3) if (old[i : i + size, j : j + size] == new).all()]
    for old, new in zip(before, after, strict=True)
  ]
  assert all(len(each) == 1 for each in found) and len({each[0] for each in found}) > 1


def test_images_are_shifted_by_whole_pixels_or_warped_or_left_alone():
  key, image = jax.random.key(3), tiny.table(classes=4).x[0]
  assert augmentations_of(0, 0.0, 0.0, mirror=False) == []
  assert augmentations_of(0, 0.0, 0.0, mirror=True) == [(mirror_image, 'class')]
  for given, expected in (
    ((2, 0.0, 0.0), shift_image(2)),
    ((2, 9.0, 0.1), warp_image(2, 9.0, 0.1)),
    ((0, 0.0, 0.1), warp_image(0, 0, 0.1)),
  ):
    for mirror in (False, True):
      *first, (transform, each) = augmentations_of(*given, mirror=mirror)
      assert each == 'example' and first == [(mirror_image, 'class')] * mirror
    both = lambda *drawn: [change(*drawn) for change in (transform, expected)]  # noqa: B023
    np.testing.assert_array_equal(*jax.jit(both)(key, image))


def test_photos_are_changed_one_by_one_in_training_alone():
  """Quarter turns are classes; then each image is changed by itself, by all changes in turn."""
  pixels = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 3), np.uint8)
  table = tiny.table(classes=4)._replace(x=pixels)
  parts = of_photos(lambda: ClassParts('', lambda part: table))
  sizes = {'ways': 3, 'shots': 1, 'queries': 2}
  changed = {'rotations': True, 'mirror': True, 'shift': 2, 'jitter': 0.4, 'hue': 0.1, 'cutout': 3}
  task = table_task(parts)(budget=2**20, **sizes, **changed)
  assert task.source('test').finish is None and task.table('test').names[0] == '0'
  assert task.table('train').names[:2] == ('0/rot000', '0/rot090')
  expected = turned_classes(lambda table: few_shot(table, **sizes), table)
  jitter = jitter_colours(0.4, 0.4, 0.4)
  for change in (mirror_image, shift_image(2), jitter, turn_hue(0.1), cut_out(3)):
    expected = augment(expected, change)
  both = jax.jit(lambda key: (task.source('train')(key), expected(key)))(jax.random.key(0))
  jax.tree.map(np.testing.assert_array_equal, *both)


@pytest.mark.parametrize('name', ['folder', 'mnist', 'tfds:<name>'])
def test_tasks_of_photos_say_how_images_are_changed(name):
  assert meanings(TASKS[name])['jitter'].startswith('bound of random changes of brightness')
  parse('task', TASKS, f'{name}:mirror=true,jitter=0.4,hue=0.1,cutout=8', supplied=TASK_SUPPLIED)


def test_validation_classes_may_be_trained_on_too(monkeypatch):
  """And only trained on: validation and test stay what they are, and are read once."""
  kept_omniglot.cache_clear()
  loaded = []
  load = lambda data_dir, part, **given: loaded.append(part) or tiny.table(classes=6)
  monkeypatch.setattr('experiments.components.data_sources.load_omniglot', load)
  for given in ({}, {'trainval': True}):
    task = TASKS['omniglot'](budget=2**20, data_dir='folder', queries=2, **given)
    for part in ('train', 'validation', 'test'):
      task.source(part)
  assert loaded == ['train', 'validation', 'test', 'trainval']
  kept_omniglot.cache_clear()  # of what is no Omniglot


def test_a_new_data_source_is_a_task_by_its_signature():
  """Read part by part if it has an argument `split`; otherwise its classes are parted."""
  asked = []

  def birds(data_dir: str, split: str = 'train', size: int = 8) -> ClassTable:
    """Reads calls of birds."""
    asked.append((data_dir, split, size))
    return tiny.table(classes=6)

  def shells(path: str, size: int = 8) -> ClassTable:
    """Reads shells."""
    asked.append((str(path), size))
    return tiny.table(classes=10)

  known = {'birds': table_task(by_signature(birds)), 'shells': table_task(by_signature(shells))}
  component = parse('task', known, 'birds:size=4', supplied=TASK_SUPPLIED)
  assert str(component) == 'birds:ways=5,shots=1,queries=15,sampler=few_shot,levels=0.0,size=4'
  task = build(
    parse('task', known, 'birds:queries=1,size=4', supplied=TASK_SUPPLIED), data_dir='d', budget=1e9
  )
  task.source('test')
  assert asked == [('d', 'test', 4)] and task.parted() == 'official'
  with pytest.raises(ValueError, match='task shells needs the place of its data'):
    build(parse('task', known, 'shells', supplied=TASK_SUPPLIED), budget=1e9)
  task = build(
    parse('task', known, 'shells:/beach,ways=2,queries=1,split=class', supplied=TASK_SUPPLIED),
    budget=1e9,
  )
  assert task.source('train')(jax.random.key(0)).support.y.shape == (2,)
  assert asked[1:] == [('/beach', 8)] and task.parted() == 'classes'


def test_arrays_are_a_file_or_one_for_each_split(tmp_path):
  """A file's classes are split; a folder's files are as they are."""
  for part, first in (('train', 0), ('validation', 10), ('test', 20)):
    x = np.arange(first, first + 10, dtype=np.float32)
    np.savez(tmp_path / f'{part}.npz', x=np.repeat(x, 2)[:, None], y=np.repeat(np.arange(5), 4))
  source = made(f'arrays:path={tmp_path},ways=2,shots=1,queries=1').source
  for part, first in (('train', 0), ('validation', 10), ('test', 20)):
    assert set(np.ravel(source(part).data).tolist()) == set(range(first, first + 10))
  source = made(f'arrays:path={tmp_path / "train.npz"},ways=1,shots=1,queries=1').source
  assert [len(source(part).data) for part in ('train', 'validation', 'test')] == [12, 4, 4]
