"""A neural process from the command line to a file, and curves of tasks of random lengths."""

import json

import jax
import numpy as np
import pytest

import metakit
from experiments.components.tasks import TASK_SUPPLIED, TASKS
from experiments.runs import evaluation
from metakit.components.specs import build, parse
from metakit.sources import abstract_episode
from tests.experiments.commands import run

LENGTHS = {
  'gaussian_process:shots=6,fewest_shots=0,queries=3': (False, True),
  'gaussian_process:shots=6,queries=3': (True, True),
  'mixed_processes:shots=6,queries=3': (False, True),
}


@pytest.mark.parametrize('spec', LENGTHS)
def test_curves_are_of_whole_supports(spec):
  task = build(parse('task', TASKS, spec, supplied=TASK_SUPPLIED))
  source, whole = task.source('test'), lambda of: abstract_episode(of).support.weight is None
  tested = evaluation.Tested(
    task, None, None, source, (None, source), 'test', jax.random.key(0), 'none'
  )
  assert (whole(source), whole(evaluation.whole_supports(tested))) == LENGTHS[spec]


@pytest.mark.slow
def test_a_neural_process_is_trained_tested_stored_and_used(tmp_path):
  status, _, errors = run(
    'train',
    '--task=gaussian_process:kernel=matern52,noise=0.1,shots=5,fewest_shots=0,queries=4',
    '--learner=anp:width=8,depth=1,heads=2,latents=2,decoder_depth=1,samples=2',
    *('--steps=4', '--tasks_per_step=2', '--validation_episodes=4', '--episodes=8'),
    f'--workdir={tmp_path / "run"}',
  )
  assert status == 0, errors
  record = json.loads((tmp_path / 'run' / 'results.json').read_text())
  assert record['network'] == 'none' and record['metric'] == 'loss'
  trained = metakit.load(tmp_path / 'run')
  x = np.linspace(-1, 1, 5, dtype=np.float32)[:, None]
  assert trained.adapt(x, np.sin(x)).predict(x).shape == (5, 1)
