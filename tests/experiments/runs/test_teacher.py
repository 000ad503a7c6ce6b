"""Trainings that learn from the answers of an earlier run (--teacher)."""

import dataclasses
import json
import re
import shutil
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from experiments.output.results import read_results
from experiments.runs.setup import make_setup
from experiments.runs.teacher import with_teacher
from experiments.runs.trained import write_trained
from experiments.runs.workdir import checksums_of
from metakit.keys import roots
from metakit.sources import abstract_episode
from metakit.trained import load, save
from tests.experiments.commands import TINY, done, images_file, refused, run, task
from tests.experiments.runs.test_setup import parsed

LEARNER = 'pretrained:head=simpleshot,scale=4'
NETWORK = 'conv4:width=4,depth=1'


@pytest.fixture(scope='module')
def files(tmp_path_factory):
  """Of 8x8 images, of larger ones, and of fewer classes: what --task says of each."""
  folders = [tmp_path_factory.mktemp('data') for _ in range(3)]
  large, fewer = {'x': np.zeros((120, 9, 9, 1), np.uint8)}, {'y': np.arange(120) // 12}
  kinds = zip(folders, ({}, large, fewer), strict=True)
  return dict(
    zip(('usual', 'large', 'fewer'), (images_file(f, **k) for f, k in kinds), strict=True)
  )


def made(images, learner=LEARNER, network=NETWORK):
  flags = [task(images), f'--learner={learner}', f'--network={network}']
  return make_setup(parsed(flags), '', budget_gib=1)


def params_of(setup, seed=0):
  shapes = abstract_episode(setup.task.source('train'))
  episode = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
  return jax.device_get(jax.jit(setup.learner(setup.task).init)(roots(seed).init, episode))


@pytest.fixture(scope='module')
def teacher(tmp_path_factory, files):
  """The workdir of a teacher."""
  folder, setup = tmp_path_factory.mktemp('teacher'), made(files['usual'])
  write_trained(setup, SimpleNamespace(params=params_of(setup)), {}, workdir=folder)
  return folder


def test_a_student_has_the_answers_of_its_teacher_to_learn_from(teacher, files):
  setup = made(files['usual'])
  taught = with_teacher(setup, str(teacher))
  assert taught.learner(taught.task) is taught.learner(taught.task)
  source, params = setup.task.source('train'), params_of(setup, seed=1)
  episode = jax.jit(source)(jax.random.key(0))
  loss = lambda setup, params: jax.jit(setup.learner(setup.task).loss)(
    jax.random.key(0), params, episode
  )[0]
  assert loss(taught, params) != loss(setup, params)
  assert with_teacher(setup, None) is setup and with_teacher(setup, '') is setup


def test_a_run_belongs_to_the_parameters_of_its_teacher(teacher, files, tmp_path):
  setup, other = made(files['usual']), tmp_path / 'other.safetensors'
  trained = load(teacher)
  params = jax.tree.map(np.copy, trained.params)
  params['layer']['kernel'][0, 0] += 1e-3
  save(other, dataclasses.replace(trained, params=params))
  sums = [checksums_of(with_teacher(setup, str(where)))['teacher'] for where in (teacher, other)]
  assert sums[0] != sums[1] and 'teacher' not in checksums_of(setup)


@pytest.mark.parametrize(
  ('given', 'said'),
  [
    ({'network': 'conv4:width=5,depth=1'}, r'is another: its network is .*width=4,.*use a run'),
    ({'images': 'fewer'}, 'number of training classes is 12, and here it is 6; use a run with'),
    ({'images': 'large'}, r'shape of an example is \(8, 8, 1\), and here it is \(9, 9, 1\)'),
    ({'learner': f'{LEARNER},cosine=false'}, 'its cosine is True, and here it is False; use a run'),
    ({'learner': 'prototypical'}, 'is for --learner=pretrained, which learns from its answers'),
  ],
)
def test_a_teacher_of_another_kind_is_refused(teacher, files, given, said):
  setup = made(**{**given, 'images': files[given.get('images', 'usual')]})
  with pytest.raises(ValueError, match=said):
    with_teacher(setup, str(teacher))


def test_what_is_no_teacher_is_refused(files, tmp_path):
  setup = made(files['usual'])
  with pytest.raises(ValueError, match='nowhere is no workdir of a training'):
    with_teacher(setup, 'nowhere')
  with pytest.raises(ValueError, match='is no run of --learner=pretrained; train one first'):
    with_teacher(setup, 'glyphs-prototypical')
  tuned = made(files['usual'], learner=f'{LEARNER},until=3')
  write_trained(tuned, SimpleNamespace(params=params_of(tuned)), {}, workdir=tmp_path)
  with pytest.raises(ValueError, match='was tuned on episodes, which its last layer was not'):
    with_teacher(setup, str(tmp_path))


@pytest.mark.slow
def test_a_student_goes_on_with_the_same_bits_and_with_no_other_teacher(tmp_path):
  begun = ['train', task(images_file(tmp_path)), f'--learner={LEARNER}', *TINY, '--curve=none']
  begun += ['--save_every=2', '--optimizer=sgd:learning_rate=0.1', '--schedule=constant']
  done(*begun, '--steps=2', f'--workdir={tmp_path / "first"}')
  student = [*begun, '--steps=4', f'--teacher={tmp_path / "first"}']
  whole, again = tmp_path / 'whole', tmp_path / 'again'
  done(*student, f'--workdir={whole}')
  shutil.copytree(whole, again)
  for path in (again / 'checkpoints').glob('4*'):
    shutil.rmtree(path) if path.is_dir() else path.unlink()
  for path in again.glob('*.safetensors'):
    path.unlink()
  status, _, said = run(*student, f'--workdir={again}')
  assert status == 0 and 'again at step 2' in said
  one, other = (load(folder).params for folder in (whole, again))
  jax.tree.map(np.testing.assert_array_equal, one, other)
  assert read_results(whole / 'results.json')['teacher'] == str(tmp_path / 'first')
  record = json.loads((tmp_path / 'first' / 'results.json').read_text())
  named = record | {'classes': {'train': ['a', 'b']}}
  (tmp_path / 'first' / 'results.json').write_text(json.dumps(named))
  assert 'was trained on other classes, as' in refused(run(*student, f'--workdir={again}'))
  shutil.copy(whole / 'trained.safetensors', tmp_path / 'first')
  (tmp_path / 'first' / 'results.json').write_text(json.dumps(record))
  error = refused(run(*student, f'--workdir={again}'))
  assert re.search('belongs to other data: the checksum of teacher is', error)
