"""What runs of every family of tasks show: a report, the best predictor beside, headlines."""

import numpy as np
import pytest

from experiments.output.results import read_results
from tests.experiments.commands import (
  TINY,
  done,
  finish,
  run,
  start_whole,
)

GLYPHS = '--task=glyphs:alphabets=1,queries=2'
RATE = '--learner=maml:inner_learning_rate=0.01'  # larger ones diverge in the curve's ten steps
SMALL = '--network=transformer:width=8,depth=1,heads=2'
PROJECTED = '--task=projected:base=glyphs,shots=12,size=8'
TABLES = '--task=tables:rows=12,columns=3,queries=4,least_rows=4'
OTHERS = {
  'maml': ['--learner=maml:inner_steps=2', GLYPHS, '--network=conv4:width=4,depth=2'],
  'in context': ['--learner=in_context', GLYPHS, f'{SMALL},attention=set'],
  'curriculum': ['--learner=in_context', '--task=sparse:shots=12,curriculum_steps=1', SMALL],
  'projected': ['--learner=in_context', PROJECTED, '--network=recurrent:width=8'],
  'comparison': [PROJECTED, '--network=mlp:width=8'],
  'sinusoid': [RATE, '--task=sinusoid', '--network=mlp', '--clip_norm=1'],
  'variable': [f'{GLYPHS},sampler=variable_shot,ways=7', '--network=mlp:width=8'],
  'tables': ['--learner=tabular:width=8,depth=1,heads=2', f'{TABLES},classes=3'],
}


@pytest.mark.slow
@pytest.mark.parametrize('name', OTHERS)
def test_every_family_trains_to_a_report(name, tmp_path):
  usual = [each for each in TINY if '--network' not in each]
  workdir = f'--workdir={tmp_path / "run"}'
  curve = f'--curve={"full" if name == "sinusoid" else "short"}'
  command = ['train', *usual, '--steps=2', curve, *OTHERS[name], workdir]
  out = done(*command)
  assert ('no exact reference of this task is known' in out) == (name == 'projected')
  record = read_results(tmp_path / 'run' / 'results.json')
  assert np.isfinite(record['mean']) and record['steps'] == 2
  if name in ('variable', 'comparison', 'tables'):
    assert 'adaptation' not in record  # there is nothing to draw it against
  else:
    assert len(next(iter(record['adaptation'].values()))) >= (6 if name == 'sinusoid' else 2)


@pytest.fixture(scope='module')
def regressor(tmp_path_factory):
  """An in-context learner of linear functions, hardly trained."""
  workdir = tmp_path_factory.mktemp('functions') / 'run'
  usual = [each for each in TINY if '--network' not in each]
  more = ['--learner=in_context', '--task=dense:dim=2,shots=4,noise=0.5', SMALL, '--steps=2']
  command = ['train', *usual, *more, '--episodes=1000', f'--workdir={workdir}']
  out = done(*command)
  return workdir, out


def test_the_bayes_predictor_is_shown_beside_the_learner(regressor):
  workdir, out = regressor
  record = read_results(workdir / 'results.json')
  curves = {n: record[n]['examples'] for n in ('adaptation', 'reference', 'difference')}
  assert all([point['amount'] for point in each] == [0, 1, 2, 3, 4] for each in curves.values())
  learner, best, apart = (np.array([p['mean'] for p in each]) for each in curves.values())
  assert (np.diff(best) < 0).all() and (learner > best).all()
  assert best[0] == pytest.approx(2.25, abs=0.5) and best[-1] < 1  # d + noise^2 = 2.25
  # The error of the posterior mean is independent of what it is compared with.
  np.testing.assert_allclose(learner - best, apart, atol=0.3)
  ratio, difference = (learner / best).max(), (apart / best[0]).max()
  assert f'at most {ratio:.3f} x the Bayes error' in out
  assert f'predictions within {difference:.4f} (after' in out
  # Keys and values of 4 examples, a number read, flags of presence, the last label.
  assert record['state_size'] == 4 * (2 * 8 + 1) + 1 + 1
  assert 'onset_step' not in record  # two steps do not tell
  page = (workdir / 'report.html').read_text()
  assert record['curve_episodes'] == 1000 and 'Mean over 1,000 test episodes' in page
  assert 'Bayes predictor on the same episodes' in page
  assert 'How much the first query attends' in page


@pytest.mark.slow  # test_evaluate.py asks what it is, test_binaries.py for other results
def test_the_gain_is_a_headline_of_its_own(regressor):
  workdir, _ = regressor
  usual = ['evaluate', f'--workdir={workdir}', '--episodes=12', '--curve=none']
  out = done(*usual, '--metric=gain', '--name=gain')
  record = read_results(workdir / 'results-gain.json')
  assert record['metric'] == 'gain' and 'gain' in out
  gains = np.load(workdir / 'episodes-gain.npz')['gain']
  assert record['mean'] == pytest.approx(gains.mean())
  status, _, error = run(*usual, '--metric=accuracy', '--name=other')
  assert status == 1 and 'use one of gain, likeness_to_descent, loss' in error


@pytest.mark.slow
def test_the_likeness_to_descent_is_a_headline_too(regressor):
  workdir, _ = regressor
  usual = ['evaluate', f'--workdir={workdir}', '--episodes=12', '--curve=none']
  status, out, error = run(*usual, '--metric=likeness_to_descent')
  assert status == 0 and 'likeness_to_descent' in out, error
  assert -1 <= read_results(workdir / 'results-evaluation.json')['mean'] <= 1


@pytest.mark.slow
@pytest.mark.parametrize(
  ('task', 'metric', 'names'),
  [
    ('gaussian_mixture:dim=3,shots=4,queries=16', 'mixture_weight', 'implied_over_posterior'),
    ('categorical:tasks=8,shots=7', 'regret', 'regret_over_weight'),
  ],
)
def test_what_should_be_equal_is_compared(task, metric, names, tmp_path):
  """For an untrained learner it is not; the closed forms are tested with the measures."""
  workdir = f'--workdir={tmp_path / "run"}'
  usual = [each for each in TINY if '--network' not in each]
  command = ['train', *usual, '--learner=in_context', f'--task={task}', SMALL, '--steps=2']
  out = done(*command, workdir)
  assert 'predictions within' in out
  done('evaluate', workdir, f'--metric={metric}', '--episodes=300', '--name=pair')
  record = read_results(tmp_path / 'run' / 'results-pair.json')
  values = np.load(tmp_path / 'run' / 'episodes-pair.npz')
  second, first = (values[name].ravel() for name in names.split('_over_'))
  assert record[names]['slope'] == pytest.approx(np.polyfit(first, second, 1)[0], abs=1e-3)
  assert record[names]['correlation'] == pytest.approx(np.corrcoef(first, second)[0, 1], abs=1e-3)
  assert 'What should be equal' in (tmp_path / 'run' / 'report-pair.html').read_text()


@pytest.mark.slow
def test_training_without_a_flag_reaches_ninety_percent_on_unseen_glyphs(tmp_path):
  """Only the test and its report are shorter than a user's."""
  shorter = ['--episodes=200', '--curve=short', f'--workdir={tmp_path / "run"}']
  status, out, error = finish(start_whole('train', *shorter), timeout=600)
  assert status == 0, error
  assert read_results(tmp_path / 'run' / 'results.json')['mean'] >= 0.9
  assert 'report: ' in out
