"""Settings chosen on validation tasks, and what was chosen tested once."""

import json

import pytest

from experiments.output.metrics_log import read_metrics
from experiments.runs.choose import Trial, best_of, last_validation, name_of
from tests.experiments.commands import done, refused, run

RATES = '--learner=maml:inner_learning_rate={}'


def training(folder):
  path = folder / 'training.flags'
  path.write_text(
    '--task=sinusoid:shots=5,queries=5\n--network=mlp:width=4,depth=1\n--steps=4\n'
    '--tasks_per_step=2\n--validation_episodes=8\n'
  )
  return f'--training={path}'


def test_the_best_validation_is_chosen_and_a_failure_never():
  accuracies = [Trial('a', 'accuracy', 0.5, 0.1), Trial('b', 'accuracy', 0.75, 0.1), Trial('c')]
  assert best_of(accuracies).flags == 'b'
  losses = [each._replace(metric='loss') for each in accuracies[:2]]
  assert best_of(losses).flags == 'a'
  with pytest.raises(ValueError, match='all candidates failed'):
    best_of([Trial('a'), Trial('b')])
  lines = [{'validation/loss': 2.0, 'validation/loss_ci95': 0.2}, {'train/loss': 1.0}]
  assert last_validation(lines, 'a') == Trial('a', 'loss', 2.0, 0.2)
  both = {'validation/accuracy': 0.5, 'validation/accuracy_ci95': 0.1}
  assert last_validation([*lines, lines[0] | both], 'a') == Trial('a', 'accuracy', 0.5, 0.1)


@pytest.mark.parametrize(
  'candidate', ['', 'maml', '--steps', '--workdir=a', '--notest', '--seed=1']
)
def test_a_candidate_is_made_of_settings(candidate):
  with pytest.raises(ValueError, match='is no setting to choose; give flags of'):
    name_of(candidate)


def test_candidates_are_several(tmp_path):
  flags = ['choose', training(tmp_path), f'--workdir={tmp_path / "out"}']
  twice = [f'--candidate={RATES.format(0.1)}'] * 2
  assert 'give two candidates or more, each of them once' in refused(run(*flags, *twice))
  assert not (tmp_path / 'out').exists()


@pytest.mark.slow
def test_what_was_chosen_alone_is_tested(tmp_path):
  """One of three diverges; of the others the one with the lower validation loss is chosen."""
  rates = 1e-9, 0.01, 1e30
  candidates = [RATES.format(rate) for rate in rates]
  out = tmp_path / 'out'
  flags = [f'--candidate={each}' for each in candidates]
  flags += [training(tmp_path), f'--workdir={out}', '--episodes=20', '--trial_steps=2']
  done('choose', *flags)
  choice = json.loads((out / 'choice.json').read_text())
  trials = {each['flags']: each['mean'] for each in choice['candidates']}
  assert list(trials) == candidates and trials[candidates[2]] is None
  folder = lambda each, more='': out / f'{name_of(each)}{more}'
  for each in candidates[:2]:
    *_, last = (line for line in read_metrics(folder(each, '-trial')) if 'validation/loss' in line)
    assert last['step'] == 2 and last['validation/loss'] == trials[each]
    assert not (folder(each, '-trial') / 'results.json').exists()
  best = min(candidates[:2], key=trials.get)
  (other,) = {*candidates[:2]} - {best}
  assert choice['chosen'] == best and not folder(other).exists()
  record = json.loads((folder(best) / 'results.json').read_text())
  assert record['choice'] == choice and (record['steps'], record['episodes']) == (4, 20)
