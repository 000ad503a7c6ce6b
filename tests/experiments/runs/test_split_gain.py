"""A gain over ordinary training, in two parts, over domains."""

import json

import jax
import numpy as np
import pytest

from experiments.components import domain_tasks
from experiments.output.gains import AFTER, BEFORE, ORDINARY, shares
from metakit.data.table import class_table
from tests.experiments.commands import TINY, done, run

RNG = np.random.default_rng(0)
DOMAINS = np.array([4, 4, 4, 9, 9, 2])
SCORES = {name: RNG.normal(size=6) for name in (ORDINARY, BEFORE, AFTER)}


def test_the_parts_add_up_and_their_intervals_are_over_domains():
  found = shares(SCORES, DOMAINS)
  first, second, both = found.values()
  assert both.mean == pytest.approx(first.mean + second.mean)
  gain = SCORES[AFTER] - SCORES[BEFORE]
  of_domain = [gain[number == DOMAINS].mean() for number in (2, 4, 9)]
  assert second.mean == pytest.approx(np.mean(of_domain))
  assert second.ci95 == pytest.approx(1.959964 * np.std(of_domain, ddof=1) / 3**0.5)


def test_writers_are_apart_and_an_episode_has_characters_of_one(monkeypatch):
  """On five characters of two alphabets, the second one too small."""
  names = ('A/a', 'A/b', 'A/c', 'B/a', 'B/b')
  rows = np.arange(100)  # row 20 c + d is character c by person d
  table = class_table(rows, rows // 20, names, groups=[0, 0, 0, 1, 1], group_names='AB')
  monkeypatch.setattr(domain_tasks, 'kept_omniglot', lambda *given, **sizes: table)
  task = domain_tasks.writers_task(budget=0, data_dir='', shots=1, queries=2)
  seen = {}
  for part in ('train', 'validation', 'test'):
    episode = task.source(part).plan(jax.random.key(0))
    drawn = np.concatenate([episode.support.x, episode.query.x])
    assert sorted(drawn // 20) == [0, 1, 2] and len(set(drawn % 20)) == 1
    assert (episode.query.y == np.asarray(episode.query.x) // 20).all()
    seen[part] = set(task.table(part).starts % 20)
  assert [len(people) for people in seen.values()] == [14, 3, 3]
  assert set.union(*seen.values()) == set(range(20))


@pytest.mark.slow  # a training
def test_the_command_tests_a_run_before_and_after_its_inner_steps(tmp_path):
  """A run beside itself: what adaptation gains is what the start lacks, episode by episode."""
  workdir, output = tmp_path / 'run', tmp_path / 'gain.json'
  usual = [each for each in TINY if '--network' not in each]
  task = [
    '--task=sinusoid:shots=5',
    '--learner=maml:inner_steps=1',
    '--network=mlp:width=8,depth=1',
  ]
  done('train', *usual, *task, '--steps=2', f'--workdir={workdir}')
  both = [f'--ordinary={workdir}', f'--episodic={workdir}', f'--output={output}']
  out = done('split_gain', *both, '--episodes=12')
  record = json.loads(output.read_text(encoding='utf-8'))
  scores = {name: each['mean'] for name, each in record['scores'].items()}
  gains = {name: each['mean'] for name, each in record['gains'].items()}
  assert scores[ORDINARY] == scores[AFTER] != scores[BEFORE]
  assert gains['both together'] == 0 and gains['adaptation'] == -gains['episodic training']
  assert gains['adaptation'] == pytest.approx(scores[AFTER] - scores[BEFORE])
  assert out.splitlines()[-1] == f'record: {output}'
  status, _, error = run('split_gain', *both, '--ordinary=nowhere')
  assert status == 1 and error.startswith('error: ') and error.count('\n') == 1, error
