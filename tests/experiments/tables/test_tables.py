"""Pages that are made from stored results say what the files say."""

import json

import pytest

from experiments.output.records import RESULTS
from experiments.output.results import DESCRIPTION, write_results
from experiments.tables import __main__ as command
from experiments.tables import presets, readme, results, sweeps
from experiments.tables.pages import keep, replace_between
from tests.experiments.commands import REPOSITORY
from tests.experiments.output.test_results import files_limited_to, record

BEGIN, END = '<!-- results -->', '<!-- /results -->'
README = f'# metakit\n\n{BEGIN}\n{END}\n<!-- performance -->\n<!-- /performance -->\n\nMore.\n'
PLANNED = {name: 'x' for name in DESCRIPTION} | {'status': 'unmeasured', 'row': 'planned'}
PRESET = 'python -m experiments.train --flagfile=experiments/presets/proto.flags'


def repository(folder, **records):
  """Makes a repository of a README and result files."""
  (folder / 'README.md').write_text(README)
  (folder / RESULTS).mkdir(parents=True)
  for name, each in records.items():
    write_results(folder / RESULTS / f'{name}.json', each)
  return folder


def write(root, page, check=False):
  return keep(root, page.texts(root), check)


def cells(line):
  return [cell.strip() for cell in line.strip('|').split(' | ')]


def rows(**records):
  """Returns the rows of the table of all results, by what they show."""
  group = results.Group('all', ('*',))
  header, _, *lines = results.table(group, records).splitlines()
  return {cells(line)[0]: dict(zip(cells(header), cells(line), strict=True)) for line in lines}


def test_every_page_of_the_repository_is_what_the_files_say():
  """All but those of learners and heads, which .ci/run checks: they make every learner."""
  light = [
    page for page in command.PAGES if page.__name__.rpartition('.')[2] not in ('learners', 'heads')
  ]
  assert len(light) == len(command.PAGES) - 2
  for page in light:
    write(REPOSITORY, page, check=True)


def test_a_row_says_what_was_measured_and_links_to_its_file():
  row = rows(a=record(row='prototypical', published=0.988))['prototypical']
  assert row['score'] == '[98.40 ± 0.13%](a.json)' and row['published'] == '98.8%'
  assert row['protocol'] == 'inductive' and row['training time'] == '41 min'


def test_a_loss_is_raw():
  one = record(row='curves', metric='loss', published=0.67) | {'mean': 0.6123, 'ci95': 0.021}
  row = rows(a=one)['curves']
  assert row['score'] == '[0.612 ± 0.021](a.json)' and row['published'] == '0.67'


def test_columns_are_those_that_some_record_fills():
  beside = {'ratio': 1.08, 'ratio_after': 7, 'difference': 0.00312, 'difference_after': 5}
  plain = record(row='plain')
  assert 'learns from step' not in rows(a=plain)['plain']
  one = record(row='one') | {'beside_bayes': beside, 'onset_step': 1200}
  never = record(row='never', steps=4000) | {'onset_step': None}
  both = rows(a=plain, b=one, c=never)
  assert both['one']['beside the Bayes predictor'] == (
    'at most 1.080 x the Bayes error (after 7), predictions within 0.0031 (after 5)'
  )
  column = [both[name]['learns from step'] for name in ('plain', 'one', 'never')]
  assert column == ['-', '1,200', 'never in 4,000']


def test_densities_stand_beside_the_exact_posterior():
  density = {'coverage': {'90%': {'mean': 0.912, 'ci95': 0.001}}}
  gap = {'gap': {'mean': 0.0123, 'ci95': 0.0004, 'episodes': 9}}
  beside = {'unit': 'nats', 'difference': 0.02, 'difference_after': 3}
  exact = record(row='exact') | {'density': density | gap, 'beside_bayes': beside}
  both = rows(a=exact, b=record(row='unknown') | {'density': density}, c=record(row='none'))
  column = lambda name: [both[row][name] for row in ('exact', 'unknown', 'none')]
  assert column('above the exact posterior') == ['0.0123 ± 0.0004', '-', '-']
  assert column('in intervals of 90%') == ['91.20 ± 0.10%', '91.20 ± 0.10%', '-']


def test_runs_of_several_seeds_share_a_row():
  runs = {f'run_{seed}': record(row=f'a, seed {seed}') | {'mean': 0.5 + seed} for seed in (0, 1)}
  row = rows(**runs)['a']
  assert row['score'] == '[50.00 ± 0.13%](run_0.json); [150.00 ± 0.13%](run_1.json)'
  assert row['training time'] == '41 min'  # the same of both


def test_an_unmeasured_row_says_so_and_shows_no_number():
  row = rows(a=PLANNED)['planned (x)']
  assert row['score'] == '[unmeasured](a.json)'
  assert row['published'] == row['training time'] == '-'


def test_a_bar_in_a_cell_does_not_end_it():
  table = results.table(results.Group('all', ('*',)), {'a': record(row='a | b\nc')})
  assert r'a \| b c' in table and len(table.splitlines()) == 3


def test_a_record_stands_in_the_first_group_that_fits():
  grouped = results.group(
    {'omniglot_5way_1shot_x': record(), 'in_context_new': record(), 'y': PLANNED}
  )
  assert {group.title: list(members) for group, members in grouped.items()} == {
    'Omniglot, 5-way 1-shot': ['omniglot_5way_1shot_x'],
    'In-context regression': ['in_context_new'],
    'Others': ['y'],
  }


def test_what_a_table_says_already_is_left_out_of_its_rows():
  group = results.Group('t', ('*',), 'Omniglot, ')
  words = 'Omniglot, MAML, training images shifted by up to 2 pixels, seed 3'
  assert results.brief(group, words) == 'MAML (a)'


def test_the_headlines_are_stored_and_link_to_their_files():
  assert len(readme.HEADLINES) == 10
  missing = [
    n for n in readme.HEADLINES.values() if not (REPOSITORY / RESULTS / f'{n}.json').exists()
  ]
  assert not missing
  words, name = next(iter(readme.HEADLINES.items()))
  table = readme.headlines({name: record(published=0.99)})
  link = f'[98.40 ± 0.13%](experiments/results/{name}.json)'
  assert table.splitlines()[2:] == [f'| {words} | {link} | 99% | 41 min | inductive |']


def test_the_table_of_speed_compares_in_one_unit():
  row = lambda name, ms, rate: {
    'name': name,
    'milliseconds': [ms],
    'per_second': rate,
    'unit': 'episodes',
  }
  cases = [row('5-way 1-shot', 10, 200_000), row('PyTorch, randperm', 200, 10_000)]
  cases[1] |= {'baseline': '5-way 1-shot', 'ratio': [0.05]}
  suite = {'rows': cases, 'device': 'cpu x2 (AMD EPYC)'}
  (line,) = readme.speed({'plans': suite}).splitlines()[2:]
  rates = '200,000 episodes/s | PyTorch: 10,000 episodes/s'
  assert line == f'| draw a 5-way 1-shot task | {rates} | 20 | 2 CPU cores (AMD EPYC) |'
  slow = row('NumPy', 1155, 8661)
  assert readme.alike(row('ours', 991, 10_086), slow) == ('991 ms', '1,155 ms')


def test_only_the_tables_change_and_writing_again_changes_nothing(tmp_path):
  name = next(iter(readme.HEADLINES.values()))
  root = repository(tmp_path, **{name: record()})
  assert write(root, readme) == [readme.PAGE]
  text = (root / 'README.md').read_text()
  before, after = README.split(f'{BEGIN}\n{END}')[0], '\n\nMore.\n'
  assert text.startswith(before + BEGIN) and text.endswith(after) and '98.40' in text
  assert write(root, readme) == []
  assert (root / 'README.md').read_text() == text


def test_a_stale_page_is_found_and_left_alone(tmp_path):
  root = repository(tmp_path, a=record(row='first'))
  write(root, results)
  write(root, results, check=True)
  write_results(root / RESULTS / 'a.json', record(row='changed'))
  text = (root / results.PAGE).read_text()
  with pytest.raises(ValueError, match=r'stale: experiments/results/README.md; run python'):
    write(root, results, check=True)
  assert (root / results.PAGE).read_text() == text and 'first' in text


def test_an_edited_number_is_stale(tmp_path):
  root = repository(tmp_path, a=record())
  write(root, results)
  page = root / results.PAGE
  page.write_text(page.read_text().replace('98.40', '99.40'))
  with pytest.raises(ValueError, match='stale'):
    write(root, results, check=True)


def test_presets_show_what_was_measured_with_them(tmp_path):
  planned = PLANNED | {'command': PRESET}
  root = repository(
    tmp_path,
    a=record(row='first', command=PRESET),
    b=record(row='second', command='evaluate', train_seconds=60) | {'training_command': PRESET},
    c=record(row='another'),
    d=planned,
  )
  folder = root / presets.FOLDER
  folder.mkdir()
  (folder / 'proto.flags').write_text('# What: it is.\n#= stale\n--steps=3\n')
  (folder / 'new.flags').write_text('# What: else.\n--steps=3\n')
  with pytest.raises(ValueError, match=r'presets/new.flags, experiments/presets/proto.flags;'):
    write(root, presets, check=True)
  write(root, presets)
  assert write(root, presets) == []
  title, first, second, time, flag = (folder / 'proto.flags').read_text().splitlines()
  assert (title, flag) == ('# What: it is.', '--steps=3')
  assert first == '#= Score: 98.40 ± 0.13% (first, inductive)'
  assert second == '#= Score: 98.40 ± 0.13% (second, inductive)'
  assert time == f'#= Time: 60 s to 41 min on {record()["device"]}'
  unmeasured = ['#= Score: unmeasured', '#= Time: unmeasured']
  assert (folder / 'new.flags').read_text().splitlines()[1:3] == unmeasured


def test_presets_of_sweeps_and_comparisons_name_the_page_of_their_table():
  swept = {'command': PRESET, 'device': 'cpu', 'cells': [{'width': 8, 'seconds': 30.0}] * 2}
  learned = {'command': PRESET, 'device': 'cpu', 'cells': [{'train_seconds': 7.0}] * 3}
  heads = {'command': PRESET, 'device': 'cpu', 'cells': [{'head': 'ridge'}]}
  none = {folder: [] for folder in presets.PAGES}
  shown = lambda **others: presets.lines('proto.flags', [], none | others)
  assert shown(sweeps=[swept]) == [
    'Score: a table in experiments/results/sweeps.md',
    'Time: 30 s on cpu',  # a width is trained once
  ]
  assert shown(comparisons=[learned])[1] == 'Time: 21 s on cpu'
  assert shown(heads=[heads]) == [
    'Score: a table in metakit/heads/README.md',
    'Time: see the table',
  ]


@pytest.mark.parametrize('text', ['', BEGIN, END, f'{END} {BEGIN}', f'{BEGIN}{END}{BEGIN}{END}'])
def test_missing_markers_are_named(text):
  with pytest.raises(ValueError, match=r'the page needs one line <!-- results -->'):
    replace_between(text, 'table', 'results')


def test_a_file_that_is_no_record_is_named(tmp_path):
  root = repository(tmp_path, bad={'metric': 'loss'})
  with pytest.raises(ValueError, match=r'bad.json lacks protocol'):
    write(root, readme)
  assert (root / 'README.md').read_text() == README


def test_a_full_disk_leaves_the_page(tmp_path):
  root = repository(tmp_path, a=record())
  with files_limited_to(100), pytest.raises(OSError, match=r'cannot write .*README.md'):
    write(root, readme)
  assert (root / 'README.md').read_text() == README


def test_a_sweep_is_a_table_of_widths_and_numbers_of_tasks(tmp_path):
  root = repository(tmp_path)
  assert sweeps.texts(root) == {}
  folder = root / RESULTS / 'sweeps'
  folder.mkdir()
  score = {'mean': 0.51234, 'ci95': 0.01, 'episodes': 1000}
  cell = {'width': 64, 'parameters': 108298, 'tasks': 4096, 'seconds': 90.0, 'unseen tasks': score}
  swept = [cell, cell | {'tasks': 65536}, cell | {'width': 128, 'seconds': 30.0}]
  sweep = {'metric': 'gain', 'cells': swept, 'device': 'cpu x2', 'command': 'sweep'}
  (folder / 'one.json').write_text(json.dumps(sweep))
  with pytest.raises(ValueError, match='the sweep sweep has no row'):
    sweeps.texts(root)
  (folder / 'one.json').write_text(json.dumps({'row': 'the transition', **sweep}))
  page = sweeps.texts(root)[sweeps.PAGE]
  assert '## the transition' in page.splitlines()
  assert '1,000 test episodes each; trained in 2 min on 2 CPU cores' in page  # both widths
  assert '| 64 | 108,298 | 65,536 | 0.512 ± 0.010 |' in page


def test_the_command_names_what_it_wrote(tmp_path, monkeypatch):
  monkeypatch.setattr(command, 'PAGES', (readme, results))
  root = repository(tmp_path, a=record())
  with pytest.raises(ValueError, match=r'stale: README.md, experiments/results/README.md; run'):
    command.run(root, check=True)
  said = command.run(root, check=False)
  assert said.endswith('2 were written: README.md, experiments/results/README.md')
  assert command.run(root, check=True).endswith('0 were written')
