"""The zoo: each learner has a card, is small, learns, and scores what its card says."""

import json

import numpy as np
import pytest

import metakit
from experiments.components.tasks import TASK_SUPPLIED, tasks_for
from experiments.runs.publish import MOST_BYTES, as_tested
from metakit import zoo
from metakit.components.specs import build, parse

NAMES = {
  'clinc150-prototypical',
  'glyphs-prototypical',
  'mnist-gpicl',
  'omniglot-maml',
  'omniglot-prototypical',
  'sinusoid-maml',
  'tabular-classifier',
  'tabular-regressor',
}
CARD = ('command', 'device', 'train_seconds', 'data', 'licence', 'mean', 'ci95', 'episodes', 'task')


def test_every_learner_has_a_card_and_all_are_small():
  assert set(zoo.names()) >= NAMES
  for name in zoo.names():
    card = zoo.card(name)
    assert all(card[key] for key in CARD), name
    assert card['command'].startswith('python -m experiments.train --flagfile=experiments/presets/')
  assert sum(zoo.path_of(name).stat().st_size for name in zoo.names()) <= MOST_BYTES
  with pytest.raises(ValueError, match="'nothing' is not in the zoo; known: "):
    zoo.card('nothing')


def test_a_sine_is_learned_from_ten_points():
  """A card's score is one over sines of amplitudes up to 5; this one has amplitude 2."""
  fitted = metakit.load('sinusoid-maml').adapt(x := np.linspace(-5, 5, 10)[:, None], 2 * np.sin(x))
  queries = np.linspace(-4.5, 4.5, 19)[:, None]
  error = np.mean((fitted.predict(queries) - 2 * np.sin(queries)) ** 2)
  assert error < 0.5 < np.mean((2 * np.sin(queries)) ** 2)


def test_the_learner_and_the_score_of_another_test_may_be_published(tmp_path):
  trained = metakit.load('omniglot-maml')
  assert not trained.learner.queries_seen
  with pytest.raises(ValueError, match=r'results-other\.json is missing; run experiments'):
    as_tested(trained, tmp_path, 'other')
  record = {'learner': 'maml:protocol=transductive', 'mean': 0.5, 'command': 'evaluate'}
  (tmp_path / 'results-other.json').write_text(json.dumps(record), encoding='utf-8')
  other = as_tested(trained, tmp_path, 'other')
  assert other.learner.queries_seen and other.card['mean'] == 0.5
  assert other.card['command'] == trained.card['command'] and other.card['tested by'] == 'evaluate'


@pytest.mark.slow
@pytest.mark.parametrize('name', zoo.names())
def test_a_learner_scores_what_its_card_says(name, data_dir):
  trained, card = metakit.load(name), zoo.card(name)
  task = build(
    parse('task', tasks_for(card['task']), card['task'], supplied=TASK_SUPPLIED),
    data_dir=str(data_dir),
    budget=2**30,
  )
  values = metakit.evaluate(
    trained.learner,
    trained.made_of.judged_by,
    trained.params,
    source=task.source('test'),
    root=metakit.roots(card['seed']).test,
    episodes=200,
    judge=task.judges.get(card['metric']),
  )
  found = metakit.estimate(values[card['metric']])
  assert abs(found.mean - card['mean']) < 2 * (found.ci95 + card['ci95']), json.dumps(card)
