"""Bad input gets one clear line and exit status 1, before anything is trained or written."""

import concurrent.futures
import gzip

import numpy as np
import pytest

from tests.experiments.commands import TINY, images_file, run, task

UNKNOWN = {
  'an unknown task': (['--task=omniglott'], "unknown task 'omniglott'; known: arrays,"),
  'an unknown learner': (['--learner=mamal'], "unknown learner 'mamal'; known: in_context, maml"),
  'an unknown argument': (['--task=glyphs:way=3'], "no argument 'way'; accepted: ways=5, shots=1"),
  'a value of another type': (['--network=conv4:width=wide'], "width='wide' is not of type int"),
  'an unknown flag': (['--task_per_step=3'], 'task_per_step'),
  'a stray argument': (['glyphs'], "unexpected argument 'glyphs'"),
  'no steps': (['--steps=0'], 'steps'),
  'no tasks': (['--tasks_per_step=0'], 'tasks_per_step'),
  'a network that does not fit': (['--learner=in_context', '--network=conv4'], 'use transformer'),
  'regression for a classifier': (['--task=sinusoid'], 'classifies'),
}


def broken_cases(folder):
  """(arguments, what the line says) for each kind of bad data, made in `folder`."""
  good = images_file(folder)
  nan = folder / 'nan'
  nan.mkdir()
  x = np.zeros((40, 8, 8, 1), np.float32)
  x[7, 3] = np.nan
  y = np.repeat(np.arange(10), 4)
  mismatch, cut, zips = (folder / name for name in ('mismatch', 'cut', 'omniglot'))
  for each in (mismatch, cut, zips):
    each.mkdir()
  half = images_file(cut)
  half.write_bytes(half.read_bytes()[:3000])
  (zips / 'images_background.zip').write_bytes(b'PK\x03\x04 not a zip')
  (zips / 'images_evaluation.zip').write_bytes(b'PK\x03\x04 not a zip')
  idx = folder / 'mnist'
  idx.mkdir()
  for name in ('train-images-idx3-ubyte.gz', 't10k-images-idx3-ubyte.gz'):
    (idx / name).write_bytes(gzip.compress(b'\x00\x00\x08\x03' + bytes(20)))
  for name in ('train-labels-idx1-ubyte.gz', 't10k-labels-idx1-ubyte.gz'):
    (idx / name).write_bytes(gzip.compress(b'\x00\x00\x08\x01' + bytes(4)))
  pictures = folder / 'pictures' / 'cat'
  pictures.mkdir(parents=True)
  (pictures / 'one.png').write_bytes(b'\x89PNG\r\n\x1a\n broken')
  return {
    'ways above the classes': ([task(good, ways=30)], 'ways=30 exceeds the 12 classes'),
    'shots above the examples': (
      [f'--task=arrays:path={good},ways=3,shots=4,queries=3'],
      'shots+queries=7 exceeds the 6 examples of class',
    ),
    'zero shots': ([f'--task=arrays:path={good},ways=3,shots=0'], 'shots=0 is not positive'),
    'a missing file': ([task(folder / 'none.npz')], 'none.npz'),
    'a truncated npz': ([task(half)], 'images.npz'),
    'NaN': ([task(images_file(nan, x=x, y=y))], 'NaN'),
    'labels that do not match': ([task(images_file(mismatch, y=y))], '120 examples'),
    'a wrong zip': (['--task=omniglot', f'--data_dir={zips}'], 'images_'),
    'a missing data set': (['--task=omniglot', f'--data_dir={nan}'], '--data_dir'),
    'a truncated IDX': (['--task=mnist', f'--data_dir={idx}'], 'ubyte'),
    'a broken image': ([f'--task=folder:path={pictures.parent},ways=2'], 'one.png'),
    'tasks that devices cannot share': (
      [task(good), '--parallel=pmap', '--tasks_per_step=3'],
      'tasks_per_step=3 is not divisible by the 2 devices',
    ),
    'test episodes of other ways': (
      [task(good), '--learner=maml', task(good, ways=2).replace('--task', '--test_task')],
      'use the same ways',
    ),
    'a folder of other files': (
      [task(good), f'--workdir={nan}'],
      'holds files but no flags.json',
    ),
  }


@pytest.fixture(scope='module')
def outcomes(tmp_path_factory):
  """Runs every case, two at a time; returns name -> (status, stdout, stderr, expected, workdir)."""
  folder = tmp_path_factory.mktemp('bad')
  cases = UNKNOWN | broken_cases(folder)
  two = {'XLA_FLAGS': '--xla_force_host_platform_device_count=2'}

  def outcome(item):
    number, (arguments, expected) = item
    workdir = folder / f'work{number}'
    defaults = (
      [*TINY, f'--workdir={workdir}']
      if '--network' not in str(arguments)
      else [f'--workdir={workdir}']
    )
    return *run('train', *defaults, *arguments, **two), expected, workdir

  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    return dict(zip(cases, pool.map(outcome, enumerate(cases.values())), strict=True))


CASES = [
  *UNKNOWN,
  'ways above the classes',
  'shots above the examples',
  'zero shots',
  'a missing file',
  'a truncated npz',
  'NaN',
  'labels that do not match',
  'a wrong zip',
  'a missing data set',
  'a truncated IDX',
  'a broken image',
  'tasks that devices cannot share',
  'test episodes of other ways',
  'a folder of other files',
]


@pytest.mark.parametrize('case', CASES)
def test_one_clear_line_and_nothing_written(case, outcomes):
  status, out, error, expected, workdir = outcomes[case]
  assert status == 1
  assert expected in error
  assert len(error.strip().splitlines()) == 1
  assert 'Traceback' not in error
  assert out == ''
  assert not workdir.exists()


def test_no_case_is_left_out(outcomes):
  assert set(outcomes) == set(CASES)


def test_help_lists_every_component_with_its_defaults():
  status, out, _ = run('train', '--help')
  assert status in (0, 1)  # absl exits with 1 after --help
  for line in (
    'omniglot:ways=5,shots=1,queries=15',
    'prototypical:distance=euclidean,protocol=inductive',
    'conv4:width=64,depth=4,downsample=pool,norm=batch',
    'adam:learning_rate=0.001,b1=0.9',
    'cosine:warmup=0,final=0.0',
    '--workdir',
  ):
    assert line in out


def test_a_full_disk_is_one_line_and_keeps_what_was_there(tmp_path):
  import subprocess

  disk = tmp_path / 'disk'
  disk.mkdir()
  mounted = subprocess.run(
    ['mount', '-t', 'tmpfs', '-o', 'size=96k', 'tmpfs', disk], capture_output=True
  )
  if mounted.returncode:
    pytest.skip('this test mounts a small disk, which this user may not')
  try:
    arguments = [task(images_file(tmp_path)), *TINY, '--steps=4', f'--workdir={disk / "work"}']
    status, _, error = run('train', *arguments)
    assert status == 1
    assert 'error: ' in error and 'space' in error.lower()
    assert 'Traceback' not in error
  finally:
    subprocess.run(['umount', '-l', disk], check=True)


def test_a_workdir_that_was_never_trained_is_refused_by_evaluate(tmp_path):
  status, _, error = run('evaluate', f'--workdir={tmp_path}')
  assert (status, len(error.strip().splitlines())) == (1, 1)
  assert 'train first' in error
