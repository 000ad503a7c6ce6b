"""Bad input gets one clear line and exit status 1, before anything is trained or written."""

import gzip
import subprocess
from pathlib import Path

import numpy as np
import pytest

from experiments.components.schedules import SCHEDULES
from experiments.components.tasks import TASKS
from metakit.components import learners as c
from metakit.components.optimizers import OPTIMIZERS
from tests.disks import small_disk
from tests.experiments.commands import (
  TINY,
  done,
  finish,
  images_file,
  refused,
  run,
  run_all,
  run_whole,
  start,
  task,
)

SMALL = '--network=transformer:width=8,depth=1'
MANY_TASKS = ['--tasks_per_step=2000000']
UNKNOWN = {
  'an unknown task': (['--task=omniglott'], "unknown task 'omniglott'; known: arrays,"),
  'an unknown learner': (['--learner=mamal'], "unknown learner 'mamal'; known: alfa, alpha_tim,"),
  'an unknown argument': (['--task=glyphs:way=3'], "no argument 'way'; accepted: ways=5, shots=1"),
  'a value of another type': (['--network=conv4:depth=deep'], "depth='deep' is not of type int"),
  'an unknown mode': (['--learner=maml:mode=exact'], 'mode=exact is unknown; use one of unroll,'),
  'no inner steps': (['--learner=maml:inner_steps=0'], 'inner_steps=0 learns nothing'),
  'an inner optimizer without a derivative': (
    ['--learner=maml:inner_optimizer=lion'],
    'derivative 0 in its gradients (a sign, say); use another',
  ),
  'a mode that the learner cannot use': (
    ['--learner=maml:mode=implicit'],
    'this learner has none; use proximal > 0 (imaml), or mode mixed',
  ),
  'an unknown flag': (['--task_per_step=3'], 'task_per_step'),
  'a stray argument': (['glyphs'], "unexpected argument 'glyphs'"),
  'no steps': (['--steps=0'], 'steps'),
  'no tasks': (['--tasks_per_step=0'], 'tasks_per_step'),
  'a network that does not fit': (['--learner=in_context', '--network=conv4'], 'use transformer'),
  'a sequence sorted by class': (
    ['--learner=in_context', '--network=recurrent'],
    'use --network=transformer:attention=set',
  ),
  'a sequence longer than the positions': (
    ['--learner=in_context', '--task=dense', '--network=transformer:positions=4'],
    '40 tokens are more than positions=4; use network transformer with positions>=40',
  ),
  'a pool above its index': (
    ['--learner=in_context', SMALL, '--task=projected:base=glyphs,tasks=4294967296'],
    'tasks=4294967296 exceeds the largest number on a device, 2147483647 (int32)',
  ),
  'seen tasks that are not those of training': (
    [
      *('--learner=in_context', SMALL, '--task=projected:base=glyphs,tasks=16'),
      '--test_task=projected:base=glyphs,tasks=64,seen=true',
    ],
    'seen=true, but training is on projected:base=glyphs',
  ),
  'seen tasks after training on others': (
    [
      *('--learner=in_context', SMALL, '--task=dense'),
      '--test_task=projected:base=glyphs,tasks=64,seen=true',
    ],
    'seen=true, but training is on dense',
  ),
  'a base set too small': (
    ['--learner=in_context', SMALL, '--task=projected:base=random,shots=7000'],
    'shots+queries=7001 exceeds the 6000 rows of the base set',
  ),
  'a base set that is not there': (
    ['--learner=in_context', SMALL, '--task=projected:base=kmnist', '--data_dir=.'],
    'kmnist: none of train-images-idx3-ubyte.gz and the three others, kmnist/VERSION/dataset_info',
  ),
  'a pool of functions without weights': (
    ['--learner=in_context', '--task=decision_trees:pool=4'],
    'the functions of decision_trees are no vectors of weights',
  ),
  'a mixture of other inputs': (
    ['--learner=in_context', '--task=mixed_functions:classes=dense+fourier'],
    "classes='fourier' is unknown; use one of dense, sparse",
  ),
  'regression for a classifier': (['--task=sinusoid'], 'classifies'),
  'no images for a convolution': (['--task=sinusoid', '--learner=maml'], 'use mlp for other data'),
  'a network without outputs': (
    ['--task=sinusoid', '--learner=maml', '--network=identity'],
    'network identity has no outputs of its own',
  ),
  'an unknown normalisation': (
    ['--learner=ridge:how=l1'],
    "how='l1' is unknown; use one of un, l2n, cl2n, power",
  ),
  'a head without classes': (['--task=sinusoid', '--learner=ridge'], 'learner ridge classifies'),
  'no place of the data': (['--task=folder'], 'folder:path='),
  'an optimizer without schedules': (
    ['--optimizer=rprop'],
    'use other arguments, or --schedule=constant',
  ),
  'a schedule of no steps': (['--schedule=halve:every=0'], 'every=0 is not positive'),
  'a time that is no number': (['--save_minutes=nan'], '--save_minutes=nan is not finite'),
  'steps beyond counting': ([f'--steps={10**30}'], 'exceeds the largest number on a device'),
  'a rate below zero': (['--optimizer=adam:learning_rate=-1'], 'use learning_rate > 0'),
  'an episode larger than the memory': (
    ['--task=sinusoid:shots=2000000000', '--learner=maml', '--network=mlp', *MANY_TASKS],
    'GiB and there are',
  ),
}


def write_broken_files(folder):
  """Writes a zip, IDX and image file that cannot be read; each format has a folder of its own."""
  for name in ('omniglot', 'mnist', 'pictures', 'pictures/cat'):
    (folder / name).mkdir()
  for name in ('images_background.zip', 'images_evaluation.zip'):
    (folder / 'omniglot' / name).write_bytes(b'PK\x03\x04 not a zip')
  for part in ('train', 't10k'):
    header = b'\x00\x00\x08\x03' + np.array([2, 28, 28], '>u4').tobytes()
    images = folder / 'mnist' / f'{part}-images-idx3-ubyte.gz'
    images.write_bytes(gzip.compress(header + bytes(100)))
    labels = folder / 'mnist' / f'{part}-labels-idx1-ubyte.gz'
    labels.write_bytes(gzip.compress(b'\x00\x00\x08\x01' + bytes(4)))
  (folder / 'pictures' / 'cat' / 'one.png').write_bytes(b'\x89PNG\r\n\x1a\n broken')


def broken_cases(folder):
  """(arguments, what the line says) for each kind of bad data, made in `folder`."""
  write_broken_files(folder)
  good = images_file(folder)
  nan, mismatch, cut, small = (folder / name for name in ('nan', 'mismatch', 'cut', 'few'))
  for each in (nan, mismatch, cut, small):
    each.mkdir()
  x = np.zeros((40, 8, 8, 1), np.float32)
  x[7, 3] = np.nan
  y = np.repeat(np.arange(10), 4)
  few = images_file(small, x=np.zeros((32, 8, 8, 1), np.uint8), y=np.repeat(np.arange(8), 4))
  half = images_file(cut)
  half.write_bytes(half.read_bytes()[:3000])
  return {
    'ways above the classes': ([task(good, ways=30)], 'ways=30 exceeds the 12 classes'),
    'ways above the validation classes': ([task(few, ways=3)], 'ways=3 exceeds the 2 classes'),
    'shots above the examples': (
      [f'--task=arrays:path={good},ways=3,shots=4,queries=3'],
      'shots+queries=7 exceeds the 6 examples of each class; use shots+queries<=6',
    ),
    'zero shots': ([f'--task=arrays:path={good},ways=3,shots=0'], 'shots=0 is not positive'),
    'a missing file': ([task(folder / 'none.npz')], 'none.npz'),
    'a truncated npz': ([task(half)], 'truncated (3000 bytes)'),
    'NaN': ([task(images_file(nan, x=x, y=y))], 'NaN'),
    'labels that do not match': ([task(images_file(mismatch, y=y))], '120 examples'),
    'a wrong zip': (['--task=omniglot', f'--data_dir={folder / "omniglot"}'], 'no zip file'),
    'a missing data set': (['--task=omniglot', f'--data_dir={nan}'], '--data_dir'),
    'a truncated IDX': (
      ['--task=mnist', f'--data_dir={folder / "mnist"}'],
      'truncated: 116 of 1584 bytes',
    ),
    'a broken image': ([f'--task=folder:path={folder / "pictures"},ways=2'], 'one.png'),
    'tasks that devices cannot share': (
      [task(good), '--cpu_devices=3', '--parallel=pmap', '--tasks_per_step=4'],
      'tasks_per_step=4 is not divisible by the 3 devices',
    ),
    'a network without a context': (
      ['--learner=cavia', '--network=resnet12:width=2', task(good)],
      'this one does not; use mlp or conv4',
    ),
    'a network larger than the memory': (
      ['--network=conv4:width=1000000,depth=2', '--learner=maml', task(good)],
      'training maml takes',
    ),
    'test episodes of other ways': (
      [task(good), '--learner=maml', task(good, ways=2).replace('--task', '--test_task')],
      'use the same ways',
    ),
  }


def is_here(item):
  return item.path == Path(__file__) and hasattr(item, 'callspec')


@pytest.fixture(scope='module')
def outcomes(tmp_path_factory, request):
  """Runs the cases that are asked for; name -> (status, stdout, stderr, expected, workdir)."""
  folder = tmp_path_factory.mktemp('bad')
  cases = UNKNOWN | broken_cases(folder)
  assert set(cases) == set(CASES)
  asked = {each.callspec.params.get('case') for each in request.session.items if is_here(each)}
  cases = {name: case for name, case in cases.items() if name in asked}
  workdirs = [folder / f'work{number}' for number in range(len(cases))]

  def command(arguments, workdir):
    usual = [each for each in TINY if '--network' not in str(arguments) or '--network' not in each]
    return ['train', *usual, f'--workdir={workdir}', *arguments]

  commands = [command(case[0], each) for case, each in zip(cases.values(), workdirs, strict=True)]
  ended = run_all(commands)
  rows = zip(ended, cases.values(), workdirs, strict=True)
  return dict(zip(cases, ((*end, case[1], each) for end, case, each in rows), strict=True))


@pytest.mark.parametrize(
  'case', ['an unknown task', pytest.param('an unknown flag', marks=pytest.mark.slow)]
)
def test_a_process_of_its_own_says_the_same(case, outcomes):
  assert run_whole('train', *TINY, *UNKNOWN[case][0]) == outcomes[case][:3]


CASES = [
  *UNKNOWN,
  'ways above the classes',
  'ways above the validation classes',
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
  'a network without a context',
  'a network larger than the memory',
  'test episodes of other ways',
]


# The quick ones have another of each kind: a name, an argument, a size, a network or a task that
# does not fit, a file.
SLOW = (
  'an unknown learner',
  'a value of another type',
  'an unknown mode',
  'no inner steps',
  'an inner optimizer without a derivative',
  'a mode that the learner cannot use',
  'a stray argument',
  'no tasks',
  'a sequence sorted by class',
  'a pool above its index',
  'seen tasks after training on others',
  'a base set too small',
  'a pool of functions without weights',
  'a mixture of other inputs',
  'no images for a convolution',
  'an unknown normalisation',
  'a head without classes',
  'a schedule of no steps',
  'steps beyond counting',
  'ways above the validation classes',
  'zero shots',
  'a truncated npz',
  'a network without a context',
)


@pytest.mark.parametrize(
  'case', [pytest.param(case, marks=[pytest.mark.slow] * (case in SLOW)) for case in CASES]
)
def test_one_clear_line_and_nothing_written(case, outcomes):
  *ended, expected, workdir = outcomes[case]
  error = refused(ended)
  assert expected in error and 'Traceback' not in error
  assert not workdir.exists()


def test_a_folder_of_other_files_is_left_alone(tmp_path):
  (tmp_path / 'thesis.tex').write_text('years of work')
  sinusoid = ['--task=sinusoid', '--learner=maml', '--network=mlp']
  error = refused(run('train', *sinusoid, f'--workdir={tmp_path}'))
  assert 'holds files but no flags.json' in error
  assert [p.name for p in tmp_path.iterdir()] == ['thesis.tex']


def test_help_lists_every_component_with_its_defaults():
  status, out, _ = run('train', '--help')
  assert status == 0
  for table in (TASKS, c.LEARNERS, c.NETWORKS, OPTIMIZERS, SCHEDULES):
    assert table
    for name in table:
      assert f'\n  {name}:' in out or f'\n  {name}\n' in out
  for line in (
    'omniglot:ways=5,shots=1,queries=15',
    'prototypical:protocol=inductive,how=un,losses=none,distance=euclidean',
    'conv4:width=64,depth=4,downsample=pool,norm=batch',
    'adam:learning_rate=0.001,b1=0.9',
    'cosine:warmup=0,final=0.0',
    '--workdir',
  ):
    assert line in out


def test_a_disk_too_small_is_one_line_and_nothing_is_written(tmp_path):
  with small_disk(tmp_path, '96k') as disk:
    arguments = [task(images_file(tmp_path)), *TINY, '--steps=4', f'--workdir={disk / "work"}']
    error = refused(run('train', *arguments))
    assert 'MiB of space and this run needs' in error
    assert not any(disk.iterdir())


def test_a_disk_that_cannot_be_written_is_one_line_and_loses_nothing(tmp_path):
  with small_disk(tmp_path, '64m') as disk:
    small = [*TINY, '--network=mlp:width=4,depth=1', '--steps=4', '--curve=none']
    trains = [task(images_file(tmp_path)), *small, f'--workdir={disk / "work"}']
    done('train', *trains)
    before = {path: path.read_bytes() for path in disk.rglob('*') if path.is_file()}
    subprocess.run(['mount', '-o', 'remount,ro', disk], check=True)
    started = [
      start('train', *trains),
      start('train', *trains[:-1], f'--workdir={disk / "new"}'),
      start('evaluate', f'--workdir={disk / "work"}', '--episodes=12', '--curve=none'),
    ]
    for status, _, error in list(map(finish, started)):
      *_, said = error.splitlines()
      assert status == 1 and 'Traceback' not in error
      assert said.startswith('error: ') and 'Read-only file system' in said and str(disk) in said
    assert {path: path.read_bytes() for path in disk.rglob('*') if path.is_file()} == before


def test_a_workdir_that_was_never_trained_is_refused_by_evaluate(tmp_path):
  error = refused(run('evaluate', f'--workdir={tmp_path}'))
  assert 'train first' in error
