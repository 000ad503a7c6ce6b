"""The command that measures which groups help which."""

import json

import numpy as np
import pytest

from tests.experiments.commands import done, run

SMALL = (
  '--task=glyphs:alphabets=9,queries=3',
  '--network=mlp:width=8,depth=1',
  '--sources=5',
  '--steps=2',
  '--tasks_per_step=2',
  '--episodes=4',
)


@pytest.mark.slow  # two programs
def test_the_command_measures_each_pair(tmp_path):
  """The seeds differ, and their mean is what is judged."""
  output = tmp_path / 'found.json'
  out = done('transfer', *SMALL, '--seeds=2', f'--output={output}')
  record = json.loads(output.read_text(encoding='utf-8'))
  by_seed = np.array(record['by_seed'])
  assert by_seed.shape == (2, 5, 5) and (by_seed[0] != by_seed[1]).any()
  np.testing.assert_allclose(record['matrix'], by_seed.mean(0), atol=1e-5)
  assert len(set(record['bits'])) == 5 and 'bits against accuracy' in out
  assert set(record['predictors']) == {
    *('likeness', 'pivots and likeness', 'pivots', 'another seed'),
  }


def test_bad_input_is_one_line(tmp_path):
  status, _, error = run('transfer', '--task=sinusoid', f'--output={tmp_path / "found.json"}')
  assert status and 'no groups of classes' in error and not (tmp_path / 'found.json').exists()
