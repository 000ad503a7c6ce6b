"""A file of tests that costs more than its budget fails by name."""

from types import SimpleNamespace

import pytest

from tests import budgets
from tests.budgets import Budgets, Cost, excesses, in_order, read, written

TABLE = {'tests/a.py': Cost(100, 10.0), 'tests/b.py': Cost(5, 0.5)}


def test_a_table_is_read_as_it_was_written():
  text = written(TABLE)
  assert read(text) == TABLE
  assert text.startswith('# In all 105 programs, 10 seconds')


@pytest.mark.parametrize(
  ('cost', 'said'),
  [
    (Cost(225, 49.0), []),
    (Cost(226, 1.0), ['tests/a.py compiled 226 programs, budget 100']),
    (Cost(1, 51.0), ['tests/a.py took 51 s of processor, budget 10']),
  ],
)
def test_what_is_beyond_its_budget_is_named(cost, said):
  assert excesses({'tests/a.py': cost, 'tests/b.py': Cost(5, 0.5)}, TABLE) == said


def test_a_file_without_a_line_is_named_with_the_remedy():
  (said,) = excesses({'tests/new.py': Cost(0, 0.0)}, TABLE)
  assert said == 'tests/new.py has no line in budgets.txt: pytest --write-budgets tests/new.py'
  (said,) = excesses({'metakit/new.py': Cost(0, 0.0)}, TABLE)  # the option is known from tests/
  assert said.endswith('pytest --write-budgets tests/test_budgets.py metakit/new.py')


def item(nodeid, *groups):
  marks = [SimpleNamespace(args=(group,)) for group in groups]
  return SimpleNamespace(nodeid=nodeid, iter_markers=lambda name: iter(marks))


def test_groups_stay_together_and_the_most_expensive_is_first():
  laws = [item(f'tests/a.py::{law}[{row}]', row) for law in 'xy' for row in ('maml', 'anil')]
  items = [item('tests/b.py::one'), *laws, item('tests/new.py::one'), item('tests/b.py::two')]
  order = [each.nodeid.split('::')[1] for each in in_order(items, TABLE)]
  assert order == ['one', 'x[maml]', 'y[maml]', 'x[anil]', 'y[anil]', 'one', 'two']


def session_of(tmp_path, monkeypatch, workers, markexpr='not slow', **options):
  """Ends a session of two workers; returns it and the plugin."""
  for name, file in (('TABLE', 'budgets.txt'), ('SLOW', 'budgets_slow.txt')):
    (tmp_path / file).write_text(written(TABLE))
    monkeypatch.setattr(budgets, name, tmp_path / file)
  monkeypatch.setenv('XLA_FLAGS', '--xla_backend_optimization_level=0')
  option = SimpleNamespace(markexpr=markexpr)
  chosen = {'write_budgets': False} | options
  plugin = Budgets(SimpleNamespace(option=option, getoption=chosen.get))
  for costs in workers:
    spent = {'costs': costs, 'peak': 1e9}
    plugin.pytest_testnodedown(SimpleNamespace(workeroutput={'spent': spent}))
  session = SimpleNamespace(exitstatus=pytest.ExitCode.OK)
  plugin.pytest_sessionfinish(session)
  return session, plugin


def test_the_costs_of_all_workers_are_added_and_fail_the_session(tmp_path, monkeypatch):
  half = {'tests/a.py': (120, 2.0)}
  session, plugin = session_of(tmp_path, monkeypatch, [half, half])
  assert session.exitstatus == pytest.ExitCode.TESTS_FAILED
  lines = []
  plugin.pytest_terminal_summary(SimpleNamespace(write_line=lambda text, **_: lines.append(text)))
  assert lines[0] == '240 programs, 4 s of processor in tests, at most 1.00 GB a worker'
  assert lines[1:] == ['FAILED budget: tests/a.py compiled 240 programs, budget 100']
  session, _ = session_of(tmp_path, monkeypatch, [half])
  assert session.exitstatus == pytest.ExitCode.OK


@pytest.mark.parametrize(
  ('markexpr', 'file', 'other'),
  [
    ('not slow', 'budgets.txt', 'budgets_slow.txt'),
    ('slow and not compiler', 'budgets_slow.txt', 'budgets.txt'),
  ],
)
def test_budgets_are_written_for_the_files_that_ran(markexpr, file, other, tmp_path, monkeypatch):
  """Those of a tier into its own table."""
  monkeypatch.setattr(budgets, 'kept', dict)
  costs = {'tests/b.py': (7, 0.7)}
  _, plugin = session_of(tmp_path, monkeypatch, [costs], markexpr, write_budgets=True)
  assert plugin.budgets == TABLE | {'tests/b.py': Cost(7, 0.7)}
  assert read((tmp_path / file).read_text()) == plugin.budgets
  assert read((tmp_path / other).read_text()) == TABLE


def test_slow_tests_are_judged_by_no_budget(tmp_path, monkeypatch):
  session, _ = session_of(tmp_path, monkeypatch, [{'tests/a.py': (999, 99.0)}], 'slow')
  assert session.exitstatus == pytest.ExitCode.OK


def test_a_process_that_runs_tests_reports_to_the_one_that_started_it():
  config = SimpleNamespace(workeroutput={})
  plugin = Budgets(config)
  plugin.costs = {'tests/a.py': Cost(1, 2.0)}
  plugin.pytest_sessionfinish(SimpleNamespace())
  assert config.workeroutput['spent']['costs'] == {'tests/a.py': (1, 2.0)}


def test_programs_are_dropped_between_groups_before_within_one_and_not_in_vain(monkeypatch):
  memory, dropped = [1.25e9], []
  monkeypatch.setattr(budgets, 'resident', lambda: memory[0])
  monkeypatch.setattr(budgets, 'give_back_memory', lambda: None)
  monkeypatch.setattr(budgets.jax, 'clear_caches', lambda: dropped.append(memory[0]))
  room = budgets.Room()
  room.look(between_groups=False)
  assert dropped == []
  room.look(between_groups=True)
  assert dropped == [1.25e9]
  room.look(between_groups=True)  # dropping them has not helped
  memory[0] = 1.6e9
  room.look(between_groups=False)
  assert dropped == [1.25e9, 1.6e9] and room.peak == 1.6e9


def test_programs_are_dropped_before_they_are_too_many(monkeypatch):
  dropped = []
  monkeypatch.setattr(budgets, 'resident', lambda: 1e6)
  monkeypatch.setattr(budgets, 'memory_maps', lambda: budgets.TOO_MANY_MAPS + 1)
  monkeypatch.setattr(budgets.jax, 'clear_caches', lambda: dropped.append(1))
  room = budgets.Room()
  for _ in range(budgets.LOOK_EVERY):
    assert dropped == []
    room.look(between_groups=False)
  assert dropped == [1]


def test_freed_memory_is_given_back():
  held = [bytes(1000) for _ in range(300_000)]
  much = budgets.resident()
  if not much:
    pytest.skip('this system does not say what memory a process has')
  del held[::2], held
  budgets.give_back_memory()
  assert budgets.resident() < much - 150e6
