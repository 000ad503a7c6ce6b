"""Several runs on one page, from the files of their workdirs."""

import json

import numpy as np
import pytest

from experiments.output.metrics_log import metrics_log
from experiments.output.results import write_results
from experiments.runs.compare_workdirs import Options, compare_workdirs
from metakit.estimates import IDENTITY, estimate
from tests.experiments.output.test_report import Page, words_of
from tests.experiments.output.test_results import record


def write_run(folder, *, shift=0.0, root=0, episodes=50, **changes):
  values = np.random.default_rng(3).random(50)[:episodes] * 0.5 + shift
  folder.mkdir(parents=True)
  score = estimate(values)
  write_results(folder / 'results.json', record() | score._asdict() | changes)
  identity = np.array(json.dumps({'episodes': 'glyphs', 'root': root}))
  np.savez(folder / 'episodes.npz', **{'accuracy': values, IDENTITY: identity})
  with metrics_log(folder, 0) as log:
    for step in (10, 20, 30):
      log.write(step, {'loss': 1 / step, 'accuracy': 0.5 + shift})
      log.write(step, {'accuracy': 0.4 + shift}, prefix='validation')
  return str(folder)


@pytest.fixture(scope='module')
def page(tmp_path_factory):
  """Of four runs, of which the last was tested on other episodes; (page, folders)."""
  home = tmp_path_factory.mktemp('runs')
  known = {'mean': 0.2, 'gain': 0.001, 'ci95': 0.01, 'episodes': 50}
  curve = {'inner steps': [{'amount': n, 'mean': 0.2 * n, 'ci95': 0.01} for n in (0, 1)]}
  folders = [
    write_run(home / 'maml', learner='maml:inner_steps=1,mode=unroll', adaptation=curve),
    write_run(home / 'reptile', shift=0.125, learner='maml:inner_steps=5,mode=unroll'),
    write_run(
      home / 'a$b' / 'maml', episodes=20, baselines={'metric': 'accuracy', 'untrained': known}
    ),
    write_run(home / 'other', root=1, adaptation=curve),
  ]
  compare_workdirs(Options(folders, '', str(home / 'page.html')))
  return Page((home / 'page.html').read_text()), folders


def test_differences_are_paired_by_episode(page):
  """The same values, shifted, differ by exactly that; of other numbers the common ones count."""
  text = words_of(page[0])
  first, _, third, _ = page[1]
  assert f'reptile - {first} 12.50 ± 0.00% 50 differ' in text
  assert f'{third} - {first} 0.00 ± 0.00% 20 not told apart' in text
  assert 'other - reptile not compared they saw other episodes' in text


def test_the_page_shows_results_curves_settings_and_commands(page):
  read, (first, *_) = page
  text = words_of(read)
  assert 'accuracy 20.10% is no better than the same network untrained' in text
  labels = [svg['aria-label'] for svg in read.all('svg')]
  curves = ('train loss', 'train accuracy', 'validation accuracy')
  assert labels == [
    *(f'{name} of 4 runs against training steps' for name in curves),
    'accuracy of 2 runs against inner steps',
  ]
  assert 'learner inner_steps 1 5' in text and 'learner mode unroll unroll' in text
  assert f'{first} 50.00% at step 30' in text
  assert text.count('python -m experiments') == 4
  levels = [int(tag[1]) for tag, _ in read.elements if tag in ('h1', 'h2', 'h3')]
  assert levels[0] == 1 and set(np.diff(levels)) <= {-1, 0, 1}


def test_what_cannot_be_compared_is_one_line(tmp_path, capsys):
  one = write_run(tmp_path / 'one')
  for folders, said in (
    ([one], 'give --workdir once for each run'),
    ([one, one], 'names one folder twice'),
    ([one, str(tmp_path / 'no')], 'no/results.json'),
  ):
    with pytest.raises(SystemExit):
      compare_workdirs(Options(folders, '', str(tmp_path / 'page.html')))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('error: ') and said in line
  assert not (tmp_path / 'page.html').exists()
