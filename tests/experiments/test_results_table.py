import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.output.results import DESCRIPTION, write_results
from experiments.tables import results_table
from experiments.tables.results_table import render_table, run, update
from tests.experiments.test_results import files_limited_to, record

BEGIN, END = '<!-- results -->', '<!-- /results -->'
README = f'# metakit\n\nResults.\n\n{BEGIN}\n{END}\n\nMore text.\n'


def repository(folder, **records):
  """Makes a repository of a README and results files."""
  (folder / 'README.md').write_text(README)
  (folder / 'experiments' / 'results').mkdir(parents=True)
  for name, each in records.items():
    write_results(folder / 'experiments' / 'results' / f'{name}.json', each)
  return folder


def cells(line):
  return [cell.strip() for cell in line.strip('|').split(' | ')]


def only_row(one):
  return dict(zip(results_table.COLUMNS, cells(render_table([one]).splitlines()[2]), strict=True))


def test_a_row_says_what_was_measured_and_how():
  row = only_row(record(row='prototypical, Omniglot Vinyals 5-way 1-shot', published=0.988))
  assert row['what'] == 'prototypical, Omniglot Vinyals 5-way 1-shot'
  assert row['protocol'] == 'inductive'
  assert row['mean ± 95% interval'] == '98.40 ± 0.13%'
  assert row['episodes'] == '10,000' and row['published'] == '98.8%'
  assert row['training time'] == '41 min'
  assert row['command'] == '`python -m experiments.train --task=omniglot`'


def test_a_loss_is_raw():
  row = only_row(record(metric='loss', published=0.67) | {'mean': 0.6123, 'ci95': 0.021})
  assert row['mean ± 95% interval'] == '0.612 ± 0.021' and row['published'] == '0.67'


def test_a_row_of_a_known_prior_is_shown_beside_it():
  beside = {'ratio': 1.08, 'ratio_after': 7, 'difference': 0.00312, 'difference_after': 5}
  row = only_row(record(metric='loss') | {'mean': 0.6123, 'ci95': 0.021, 'beside_bayes': beside})
  assert row['mean ± 95% interval'] == (
    '0.612 ± 0.021; at most 1.080 x the Bayes error (after 7), predictions within 0.0031 (after 5)'
  )
  row = only_row(record() | {'onset_step': 1200, 'steps': 4000})
  assert row['mean ± 95% interval'].endswith('; learns in context by step 1,200')


def test_an_unmeasured_row_says_so_and_shows_no_number():
  planned = {name: 'x' for name in DESCRIPTION} | {'status': 'unmeasured', 'row': 'planned'}
  row = only_row(planned)
  assert row['mean ± 95% interval'] == 'unmeasured'
  assert [row[name] for name in ('episodes', 'training time', 'device')] == ['-'] * 3


def test_a_bar_in_a_cell_does_not_end_it():
  table = render_table([record(row='a | b\nc')])
  assert r'a \| b c' in table and len(table.splitlines()) == 3


def test_only_the_table_changes_and_writing_again_changes_nothing(tmp_path):
  root = repository(tmp_path, a=record(row='first'), b=record(row='second'))
  run(root, check=False)
  text = (root / 'README.md').read_text()
  before, after = README.split(f'{BEGIN}\n{END}')
  assert text.startswith(before + BEGIN) and text.endswith(END + after)
  assert text.index('first') < text.index('second')
  run(root, check=False)
  assert (root / 'README.md').read_text() == text


def test_a_stale_table_is_found_and_left_alone(tmp_path):
  root = repository(tmp_path, a=record())
  run(root, check=False)
  run(root, check=True)
  write_results(root / 'experiments' / 'results' / 'a.json', record(row='changed'))
  text = (root / 'README.md').read_text()
  with pytest.raises(ValueError, match=r'stale in README.md; run python'):
    run(root, check=True)
  assert (root / 'README.md').read_text() == text


def test_an_edited_number_is_stale(tmp_path):
  root = repository(tmp_path, a=record())
  run(root, check=False)
  text = (root / 'README.md').read_text()
  (root / 'README.md').write_text(text.replace('98.40', '99.40'))
  with pytest.raises(ValueError, match='stale'):
    run(root, check=True)


def test_presets_show_what_was_measured_with_them(tmp_path):
  command = 'python -m experiments.train --flagfile=experiments/presets/proto.flags'
  planned = {name: 'x' for name in DESCRIPTION} | {'status': 'unmeasured', 'command': command}
  root = repository(
    tmp_path,
    a=record(row='first', command=command),
    b=record(row='second', command='evaluate') | {'training_command': command},
    c=record(row='another'),
    d=planned,
  )
  preset = root / 'experiments' / 'presets' / 'proto.flags'
  preset.parent.mkdir()
  preset.write_text('# What it is.\n#= stale\n--steps=3\n')
  with pytest.raises(ValueError, match=r'stale in README.md, proto.flags'):
    run(root, check=True)
  for _ in range(2):
    run(root, check=False)
    title, first, second, flag = preset.read_text().splitlines()
    assert (title, flag) == ('# What it is.', '--steps=3')
    assert first.startswith('#= first, inductive: 98.40 ± 0.13% (trained 41 min on ')
    assert second.startswith('#= second, inductive')


@pytest.mark.parametrize('text', ['', BEGIN, END, f'{END} {BEGIN}', f'{BEGIN}{END}{BEGIN}{END}'])
def test_missing_markers_are_named(text):
  with pytest.raises(ValueError, match=r'README.md needs one line <!-- results -->'):
    update(text, 'table')


def test_a_file_that_is_no_record_is_named(tmp_path):
  root = repository(tmp_path, bad={'metric': 'loss'})
  with pytest.raises(ValueError, match=r'bad.json lacks protocol'):
    run(root, check=False)
  assert (root / 'README.md').read_text() == README


def test_a_full_disk_leaves_the_readme(tmp_path):
  root = repository(tmp_path, a=record())
  with files_limited_to(100), pytest.raises(OSError, match=r'cannot write .*README.md'):
    run(root, check=False)
  assert (root / 'README.md').read_text() == README


def test_the_command_line_writes_checks_and_fails_in_one_line(tmp_path):
  root = repository(tmp_path, a=record())
  source = Path(results_table.__file__).parents[1]
  files = shutil.ignore_patterns('results', 'presets')
  shutil.copytree(source, root / 'experiments', ignore=files, dirs_exist_ok=True)

  def command(*arguments):
    line = [sys.executable, '-m', 'experiments.results_table', *arguments]
    environment = {**os.environ, 'PYTHONPATH': str(root)}
    return subprocess.run(line, cwd=root, env=environment, capture_output=True, text=True)

  stale = command('--check')
  assert stale.returncode == 1 and len(stale.stderr.splitlines()) == 1 and 'stale' in stale.stderr
  written = command()
  assert written.returncode == 0 and 'rows: 1' in written.stdout, written.stderr
  assert command('--check').returncode == 0
  assert command('--chekc').returncode == 1


def test_a_sweep_is_a_table_of_widths_and_numbers_of_tasks():
  score = {'mean': 0.51234, 'ci95': 0.01, 'episodes': 1000}
  cell = {'width': 64, 'parameters': 108298, 'tasks': 4096, 'seconds': 90.0, 'unseen tasks': score}
  cells = [cell, cell | {'tasks': 65536}, cell | {'width': 128, 'seconds': 30.0}]
  sweep = {'row': 'the transition', 'metric': 'gain', 'cells': cells, 'device': 'cpu x2'}
  page = results_table.render_sweep(sweep | {'command': 'python -m experiments.sweep'})
  assert page.splitlines()[0] == '## the transition'
  assert '1,000 episodes each; trained 2 min on cpu x2' in page  # both widths, each once
  assert '| 64 | 108,298 | 65,536 | 0.512 ± 0.010 |' in page


def test_the_page_of_sweeps_is_written_and_checked(tmp_path):
  root = repository(tmp_path, a=record())
  folder = root / 'experiments' / 'results' / 'sweeps'
  folder.mkdir()
  score = {'mean': 0.5, 'ci95': 0.01, 'episodes': 10}
  cell = {'width': 8, 'parameters': 100, 'tasks': 2, 'seconds': 1.0, 'unseen tasks': score}
  sweep = {'metric': 'gain', 'cells': [cell], 'device': 'cpu', 'command': 'sweep'}
  (folder / 'one.json').write_text(json.dumps(sweep))
  with pytest.raises(ValueError, match='the sweep sweep has no row'):
    run(root, check=False)
  (folder / 'one.json').write_text(json.dumps({'row': 'one', **sweep}))
  with pytest.raises(ValueError, match=r'sweeps.md'):
    run(root, check=True)
  run(root, check=False)
  assert run(root, check=True)
  assert '| 8 | 100 | 2 | 0.500 ± 0.010 |' in (folder.parent / 'sweeps.md').read_text()
