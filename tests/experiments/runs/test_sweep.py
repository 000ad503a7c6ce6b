"""The sweep as a user runs it."""

import json

import pytest

from tests.experiments.commands import done, refused, run, run_all

TWO_HEADS = '--network=transformer:depth=2,heads=2'


@pytest.mark.slow
def test_a_sweep_trains_side_by_side_and_goes_on_after_the_last_width(tmp_path):
  command = ['sweep', '--task=projected:base=random,shots=6', '--pools=0,3', '--widths=4,8']
  command += [
    TWO_HEADS,
    '--steps=3',
    '--tasks_per_step=2',
    '--episodes=5',
    f'--workdir={tmp_path / "run"}',
  ]
  out = done(*command)
  cells = json.loads((tmp_path / 'run' / 'results.json').read_text())['cells']
  assert [(c['width'], c['tasks']) for c in cells] == [(4, 1), (4, 8), (8, 1), (8, 8)]
  assert all(-1 <= c['unseen tasks']['mean'] <= 1 for c in cells)
  assert 'phase diagram' in out
  before = (tmp_path / 'run' / 'width-4.json').stat().st_mtime_ns
  (tmp_path / 'run' / 'width-8.json').unlink()
  done(*command)
  assert json.loads((tmp_path / 'run' / 'results.json').read_text())['cells'][:2] == cells[:2]
  assert (tmp_path / 'run' / 'width-4.json').stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_sweep_of_functions_is_measured_against_both_posteriors(tmp_path):
  """With one task in the pool its posterior is that task; untrained models are far from both."""
  usual = ['sweep', '--pools=0,6', '--widths=4', TWO_HEADS, '--steps=2', '--tasks_per_step=2']
  command = [*usual, '--episodes=40', f'--workdir={tmp_path / "run"}']
  done(*command, '--task=dense:dim=2,shots=4')
  one, many = json.loads((tmp_path / 'run' / 'results.json').read_text())['cells']
  assert (one['tasks'], many['tasks']) == (1, 64)
  assert all(len([v for v in cell.values() if isinstance(v, dict)]) == 4 for cell in (one, many))
  assert 'from the posterior of all (width 4)' in (tmp_path / 'run' / 'report.html').read_text()
  # Side by side, each is as if it were alone.
  alone = [*usual[:1], '--pools=6', *usual[2:], '--episodes=40', f'--workdir={tmp_path / "alone"}']
  done(*alone, '--task=dense:dim=2,shots=4')
  (again,) = json.loads((tmp_path / 'alone' / 'results.json').read_text())['cells']
  for name, score in again.items():
    if isinstance(score, dict):
      assert score['mean'] == pytest.approx(many[name]['mean'], rel=1e-3)


BAD_SWEEPS = {
  'a pool of its own': (['--task=dense:pool=4'], 'a sweep has its own pool; leave it out'),
  'widths that are none': (['--widths=a'], '--widths=a is no list of different integers'),
  'no widths': (['--widths='], 'is no list of different integers'),
  'a pool too large': (['--pools=31'], '--pools=31 is no list of different integers from 0 to 30'),
  'a width without heads': (['--widths=30'], 'heads=4 does not divide width=30'),
  'an unknown layout': (['--layout=foo'], 'layout'),
  'a width in the network': (['--network=transformer:width=8'], "has no argument 'width'"),
  'a posterior too large': (['--task=dense:dim=2', '--pools=21'], 'no exact reference is known'),
  'a set learner': (['--network=transformer:attention=set'], 'a sweep needs a causal network'),
  'too few positions': (
    ['--task=dense:dim=2,shots=4', '--network=transformer:positions=4'],
    '5 tokens are more than positions=4',
  ),
  'another task': (['--task=glyphs'], 'unknown task of a sweep'),
  'missing data': (['--task=projected:base=kmnist'], 'kmnist'),
  'several devices': (['--parallel=pmap'], 'a sweep uses one device'),
}


def test_a_bad_sweep_is_refused_in_one_line_before_anything_is_written(tmp_path):
  commands = [['sweep', f'--workdir={tmp_path / "run"}', *more] for more, _ in BAD_SWEEPS.values()]
  ended = run_all(commands)
  for each, (_, expected) in zip(ended, BAD_SWEEPS.values(), strict=True):
    assert expected in refused(each)
  assert not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_a_sweep_that_diverges_says_so(tmp_path):
  usual = ['sweep', '--task=dense:dim=2,shots=4', '--pools=1', '--widths=4', '--episodes=4']
  more = ['--steps=20', '--learning_rate=1e30', f'--workdir={tmp_path / "run"}']
  status, _, error = run(*usual, *more)
  assert status == 1 and 'lower --learning_rate' in error
  assert not (tmp_path / 'run' / 'results.json').exists()
