"""Tests of three levels: what is new in them, what they cost, and what is said of them."""

import json

import jax
import numpy as np
import pytest

from experiments.output.report import Report, render
from experiments.runs import evaluation, levels
from experiments.runs.setup import check_fits, make_setup
from metakit.evaluation import judge_queries
from metakit.tasks import fingerprint_of, with_tested
from tests.experiments.commands import done
from tests.experiments.output.test_results import record
from tests.experiments.runs.test_setup import parsed
from tests.experiments.runs.test_testing import initial

GROUPS, CLASSES, ROWS, FEATURES = 6, 6, 12, 4
SIZES = 'ways=3,shots=1,queries=2'


def written(folder, each=CLASSES, rows=ROWS):
  """A file of groups, in each of which other features tell the classes apart; the rest is noise."""
  random = np.random.default_rng(0)
  classes = np.arange(GROUPS * each)
  centres = np.zeros((len(classes), GROUPS, FEATURES))
  centres[classes, classes // each] = 2 * random.normal(size=(len(classes), FEATURES))
  x = centres[:, None] + random.normal(size=(len(classes), rows, GROUPS, FEATURES))
  y = np.repeat(classes, rows)
  x = x.reshape(len(y), -1).astype(np.float32)
  np.savez(folder / 'x.npz', x=x, y=y, groups=classes // each)
  return folder / 'x.npz'


def made(path, *arguments, task=f'{SIZES},levels=0.34'):
  given = [f'--task=arrays:path={path},{task}', '--network=mlp:width=4', *arguments]
  return make_setup(parsed(given), '', budget_gib=1)


@pytest.fixture(scope='module')
def setup(tmp_path_factory):
  return made(written(tmp_path_factory.mktemp('levels')))


def ready(setup, task=None):
  learner = setup.learner(setup.test_task)
  params = initial(learner, setup)
  return evaluation.prepare(setup, params, task or setup.test_task, split='test', seed=0)


@pytest.mark.parametrize('embedded', [True, False])
def test_the_levels_are_measured_by_the_program_of_the_test(setup, embedded, monkeypatch, capsys):
  tested, traced = ready(setup), []
  assert tested.quick[0] is not tested.learner
  if not embedded:
    tested = tested._replace(quick=(tested.learner, tested.source))

  def judge(*given):
    traced.append(given)
    return judge_queries(*given)

  monkeypatch.setattr(levels, 'judge_of_test', lambda task: judge)
  values = evaluation.per_episode(tested, 20, judge=judge)['accuracy']
  before = len(traced)
  found = levels.record_levels(tested, values)['levels']
  assert [*found] == ['instances', 'classes', 'families'] and len(traced) == before > 0
  assert found['families']['mean'] == pytest.approx(values.mean())
  at_new = levels.at_level(tested, 'classes')
  plainly = evaluation.per_episode(at_new._replace(quick=(tested.learner, at_new.source)), 20)
  assert found['classes']['mean'] == pytest.approx(plainly['accuracy'].mean())
  said = capsys.readouterr().out.splitlines()
  assert len(said) == 3 and said[1].startswith('accuracy of new classes of training groups: ')


def test_a_level_is_named_by_its_classes_and_shares_the_rows_of_the_device(setup):
  task, parts = setup.test_task, ('train', 'test', *setup.test_task.levels)
  names = {part: {*task.table(part).names} for part in parts}
  assert names['train'] == names['instances'] and names['test'] == names['families']
  assert not names['train'] & names['classes'] and not names['test'] & names['classes']
  sources = [task.source(part) for part in parts]
  assert all(isinstance(s.data, jax.Array) and s.data is sources[0].data for s in sources)
  assert len({fingerprint_of(task, part) for part in ('train', 'instances', 'classes')}) == 3
  assert task.said().endswith(
    'tests of new examples of 16 classes, of 8 classes of the same groups, of 6 classes of new'
  )
  whole = levels.at_level(ready(setup, with_tested(task, 'all')), 'families')
  assert whole.source.data is sources[0].data and whole.quick == (whole.learner, whole.source)


def test_the_report_shows_a_level_a_row():
  names = {'number': 1200, 'first': ['a'], 'sha256': ''}
  one = lambda mean, classes: {'mean': mean, 'ci95': 0.01, 'classes': classes}
  known = {'instances': one(0.9, names), 'classes': one(0.8, ['a', 'b'])}
  page = render(Report('levels', 'python', [record() | {'levels': known}]))
  row = '<th scope="row">new classes of training groups</th><td>2</td><td>80.00 ± 1.00%</td>'
  assert row in page and '<td>1,<wbr>200</td><td>90.00 ± 1.00%</td>' in page
  assert 'Levels of' not in render(Report('none', 'python', [record()]))


def test_levels_without_sense_are_one_line(tmp_path):
  path = written(tmp_path)
  with pytest.raises(ValueError, match=r'levels=1.0 is no share'):
    made(path, task=f'{SIZES},levels=1')
  with pytest.raises(ValueError, match=r'sampler=one_domain has the same classes in all domains'):
    made(path, task=f'{SIZES},levels=0.3,sampler=one_domain')
  classes = made(path, task=f'{SIZES},levels=0.3,split=class')
  with pytest.raises(ValueError, match=r'same groups .*, so no test is of a new group; use anoth'):
    check_fits(classes)
  few = made(path, task='ways=9,shots=1,queries=2,levels=0.34')
  with pytest.raises(ValueError, match=r'part validation of .*: ways=9 exceeds the 6 classes'):
    check_fits(few)
  other = made(path, f'--test_task=arrays:path={path},{SIZES},levels=0.5')
  with pytest.raises(ValueError, match='train and test on the same data with equal levels'):
    check_fits(other)
  np.savez(tmp_path / 'y.npz', x=np.ones((40, 2)), y=np.ones(40), groups=np.arange(40) // 4)
  with pytest.raises(ValueError, match=r'levels=0.3 is for classes, and .* is a regression'):
    made(tmp_path / 'y.npz', task='levels=0.3')
  rows = made(path, task='ways=3,shots=1,queries=4,levels=0.34')
  with pytest.raises(ValueError, match=r'part instances of .*: shots\+queries=5 exceeds the 4'):
    check_fits(rows)


@pytest.mark.slow
def test_what_is_newer_is_harder(tmp_path):
  """Features of one group tell nothing of another, and a network learns those of training."""
  done(
    'train',
    f'--task=arrays:path={written(tmp_path, 9, 20)},{SIZES},levels=0.34',
    '--network=mlp:width=64',
    '--steps=400',
    '--tasks_per_step=4',
    '--episodes=300',
    '--curve=none',
    f'--workdir={tmp_path / "run"}',
  )
  known = json.loads((tmp_path / 'run/results.json').read_text())
  near, new, far = (known['levels'][level] for level in ('instances', 'classes', 'families'))
  assert near['mean'] - near['ci95'] > new['mean'] + new['ci95']
  assert new['mean'] - new['ci95'] > far['mean'] + far['ci95']
  assert far['mean'] == known['mean'] and far['classes'] == known['classes']['test']
  assert 'Levels of generalisation' in (tmp_path / 'run/report.html').read_text()
