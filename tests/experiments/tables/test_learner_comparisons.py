"""Comparisons of learners as tables."""

import numpy as np
import pytest
from scipy import stats

from experiments.tables.learner_comparisons import sections


def test_a_comparison_has_a_row_for_each_learner():
  estimate = lambda mean: {'mean': mean, 'ci95': 0.01, 'episodes': 10000}
  cell = {'metric': 'loss', 'task': 'sinusoid:shots=10', 'train_seconds': 60.0}
  cells = [
    {**cell, 'learner': name, 'steps': {'1': estimate(mean), '5': estimate(mean / 2)}}
    for name, mean in (('maml', 0.5), ('anil', 1.0))
  ]
  record = {'cells': cells, 'row': 'Sinusoids', 'device': 'cpu', 'command': 'python'}
  (text,) = sections([record])
  assert '| learner | after 1 | after 5 | training time |' in text
  assert '| `maml` | 0.500 ± 0.010 | 0.250 ± 0.010 |' in text
  assert '| `anil` | 1.000 ± 0.010 | 0.500 ± 0.010 |' in text
  assert '10,000 test episodes of `sinusoid:shots=10`, on cpu' in text


def scored(nats):
  of = lambda mean: {'mean': mean, 'ci95': 0.01}
  scores = {'nats': of(nats), 'squared_error': of(2 * nats), 'ece': of(nats / 100)}
  density = scores | {'coverage': {'90%': of(0.9 + nats / 10)}}
  return {'mean': -nats, 'ci95': 0.01, 'episodes': 2000, 'density': density}


def test_densities_are_averaged_over_seeds():
  """Records of one row are one table; log p becomes a loss; the interval is that of the seeds."""
  nats = np.array([-1.0, -1.5, -1.25])
  cell = {'metric': 'loss', 'task': 'sine_line:shots=10', 'train_seconds': 60.0}
  records = [
    {
      'cells': [
        {**cell, 'learner': 'maml', 'steps': {'5': scored(value), '50': scored(value + 0.5)}},
        {**cell, 'learner': 'cnp', 'steps': {'0': scored(value + 1)}},
      ],
      **{'row': 'Lines', 'device': 'cpu', 'command': 'python', 'seed': seed},
    }
    for seed, value in enumerate(nats)
  ]
  (text,) = sections(records)
  half = stats.sem(nats) * stats.t.ppf(0.975, 2)
  assert half == pytest.approx(0.621, abs=1e-3)
  assert '2,000 test episodes of `sine_line:shots=10`, on cpu. Means over seeds 0, 1, 2' in text
  assert (
    '| `maml` | 5 | 1.25 ± 0.62 | -2.5 ± 1.2 | -0.0125 ± 0.0062 | 77.50 ± 6.21% | 60 s |' in text
  )
  assert '| `maml` | 50 | 0.75 ± 0.62 |' in text
  assert '| `cnp` | - | 0.25 ± 0.62 |' in text
  (alone,) = sections(records[:1])
  assert '| `maml` | 5 | 1 | -2 | -0.01 | 80.00% |' in alone
  records[1]['cells'][0]['steps']['5']['density']['squared_error']['mean'] = None  # as in a record
  (diverged,) = sections(records)
  assert '| `maml` | 5 | 1.25 ± 0.62 | not finite | -0.0125 ± 0.0062 |' in diverged
