import json

import pytest

from experiments.tables import launch
from experiments.tables.pages import keep

PREFLIGHT = {
  'topology': 'v5e:4x4',
  'chips': 16,
  'tasks per chip and step': 4,
  'MiB of arguments': 83.3,
  'MiB of temporaries': 7.6,
  'GFLOP asked for, a chip and step': 2.389,
  'collectives': {'all-reduce': 1},
  'command': 'python -m launch.preflight --flagfile=experiments/presets/omniglot_maml.flags',
}
CHAOS = {
  'runs': 3,
  'processes': 2,
  'seen': {'SIGKILL in training': 4, 'ended with 75': 2, 'runs that ended differently': 1},
  'command': 'python -m experiments.chaos --runs=3',
  'device': 'cpu',
}


def test_a_compiled_step_is_a_row():
  assert launch.preflights([PREFLIGHT]).splitlines()[-1] == (
    '| omniglot_maml | v5e:4x4 | 64 | 83.3 | 7.6 | 2.389 | 1 all-reduce |'
  )


def test_killed_runs_are_counted():
  assert launch.chaos(CHAOS) == (
    '`python -m experiments.chaos --runs=3` on cpu: 3 runs of 2 processes each, hit 4 times '
    '(4 SIGKILL in training, 2 ended with 75); 1 ended otherwise than the undisturbed run, '
    'compared bit by bit.'
  )


def test_the_page_is_written_between_its_markers_and_checked(tmp_path):
  folder = tmp_path / launch.RESULTS
  folder.mkdir(parents=True)
  page = tmp_path / launch.PAGE
  page.parent.mkdir()
  page.write_text('# Launching\n\n<!-- results -->\n<!-- /results -->\n')
  for name, record in (('preflight_a', PREFLIGHT), ('chaos', CHAOS)):
    (folder / f'{name}.json').write_text(json.dumps(record))
  keep(tmp_path, launch.texts(tmp_path), check=False)
  assert page.read_text().startswith('# Launching\n') and 'omniglot_maml' in page.read_text()
  keep(tmp_path, launch.texts(tmp_path), check=True)
  (folder / 'chaos.json').write_text(json.dumps(CHAOS | {'runs': 4}))
  with pytest.raises(ValueError, match=r'stale: launch/README.md; run '):
    keep(tmp_path, launch.texts(tmp_path), check=True)
