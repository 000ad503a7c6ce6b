"""The simulation of two regimes: its numbers against closed forms and scikit-learn."""

import json
from functools import partial

import jax
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from experiments.runs import two_regimes
from experiments.runs.two_regimes import HEADS, class_means, draw, error, first_true, least_error
from experiments.tables.comparisons import explained, on_regimes
from metakit.keys import roots
from tests.experiments.commands import done, run_all

KEY = roots(3).test


def test_examples_have_the_published_moments():
  labels = np.repeat(np.arange(3), 40_000)
  x = np.asarray(draw(KEY, labels, ways=3, features=4).x).reshape(3, 40_000, 4)
  np.testing.assert_allclose(x.mean(1), [[-1] * 4, [1] * 4, [2] * 4], atol=0.05)
  np.testing.assert_allclose(x.var(1), [[4, 4, 1, 1]] * 3, rtol=0.05)


def test_the_least_error_is_that_of_who_knows_the_distribution():
  labels = np.arange(200_001) % 3
  x = np.asarray(draw(KEY, labels, ways=3, features=4).x)
  variance = np.array([4, 4, 1, 1])
  away = np.square(x[:, None] - class_means(3)[:, None]) / variance
  wrong = (away.sum(-1).argmin(1) != labels).mean()
  assert least_error(3, 4) == pytest.approx(wrong, abs=4 * np.sqrt(0.25 / len(labels)))


def test_errors_are_those_of_scikit_learn():
  """Of the same examples, padded ones left out."""
  number, room = 30, 64
  measured = partial(error, HEADS['logistic'](3), ways=3, features=10, room=room)
  ours = float(jax.jit(measured)(KEY, number))
  of_labels, of_noise, of_test = jax.random.split(KEY, 3)
  drawn = np.asarray(jax.random.randint(of_labels, (room,), 0, 3))
  labels = np.concatenate([np.arange(3), drawn[3:]])
  support = draw(of_noise, labels, ways=3, features=10)
  asked = draw(of_test, np.arange(two_regimes.TESTED) % 3, ways=3, features=10)
  theirs = LogisticRegression(C=1.0, max_iter=1000, tol=1e-6)
  theirs.fit(np.asarray(support.x)[:number], labels[:number])
  assert ours == pytest.approx(1 - theirs.score(np.asarray(asked.x), asked.y), abs=1e-3)


def test_the_first_of_a_monotone_property_is_found():
  for size in range(1, 20):
    for place in range(size + 1):
      asked = []
      found = first_true(lambda i: asked.append(i) or i >= place, size)  # noqa: B023
      assert found == place and all(0 <= i < size for i in asked)


@pytest.mark.slow  # what is kept and refused is quick, below
def test_the_command_line_writes_a_record_and_its_table(tmp_path):
  flags = ['--features=2,4', '--ways=2', '--repeats=1']
  out = done('two_regimes', *flags, f'--workdir={tmp_path}')
  before = (tmp_path / 'two_regimes.json').read_bytes()
  others = [[*flags[:2], '--repeats=2'], ['--features=1', *flags[1:]], flags]
  commands = [['two_regimes', *other, f'--workdir={tmp_path}'] for other in others]
  other, none, again = run_all(commands)
  assert other[0] == 1 and 'was measured with another repeats; give another --workdir' in other[2]
  assert none[0] == 1 and '--features=1 is no list of numbers of 2 or more' in none[2]
  assert again[:2] == (0, out)
  assert (tmp_path / 'two_regimes.json').read_bytes() == before
  record = json.loads((tmp_path / 'two_regimes.json').read_text())
  cells = record['cells']
  assert [cell['features'] for cell in cells] == [2, 4]
  assert all(4 <= cell['naive_bayes'] <= cell['logistic'] for cell in cells)
  lines = on_regimes(record | {'row': 'Regimes'}).splitlines()
  assert f'| 4 | {cells[1]["naive_bayes"]} | {cells[1]["logistic"]} |' in lines
  assert f'features 4, naive_bayes {cells[1]["naive_bayes"]}' in out


def test_what_was_measured_is_kept_and_another_setting_is_refused(tmp_path):
  path, setting = tmp_path / 'two_regimes.json', {'seed': 0, 'repeats': 2}
  cells = [{'ways': 2, 'features': n, 'naive_bayes': 4, 'logistic': 4} for n in (4, 12)]
  assert two_regimes.read_done(path, setting, [(2, 4)]) == {}
  path.write_text(json.dumps({'cells': cells, **setting}))
  done = two_regimes.read_done(path, setting, [(2, 4), (2, 12), (2, 20)])
  assert done == {(2, 4): cells[0], (2, 12): cells[1]}
  with pytest.raises(ValueError, match=r'was measured with another seed; give another --workdir'):
    two_regimes.read_done(path, {'seed': 1, 'repeats': 2}, [(2, 4), (2, 12)])
  with pytest.raises(ValueError, match=r'holds 2 classes of 12 features too; ask for all'):
    two_regimes.read_done(path, setting, [(2, 4)])
  path.write_text('{"cells": [')
  with pytest.raises(ValueError, match=r'two_regimes.json is not JSON'):
    two_regimes.read_done(path, setting, [(2, 4)])


def test_what_a_line_explains():
  assert explained(np.arange(4.0), [1, 3, 5, 7]) == pytest.approx(1)
  assert np.isnan(explained(np.arange(2.0), [1, None]))
