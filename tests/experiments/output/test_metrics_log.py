import json
import math
import os
import re
import struct

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from experiments.output.metrics_log import metrics_log, read_metrics
from experiments.output.sums import with_sum
from tests.experiments.output.test_results import files_limited_to


def write_run(workdir, resume_step, steps):
  with metrics_log(workdir, resume_step) as log:
    for step in steps:
      log.write(step, {'loss': 1 / (1 + step), 'from': resume_step})


def steps_of(workdir):
  return [line['step'] for line in read_metrics(workdir)]


def events_of(workdir):
  """Reads the event files in the order of TensorBoard: length, checksum, event, checksum."""
  for path in sorted((workdir / 'tensorboard').iterdir()):
    data = path.read_bytes()
    while data:
      length = struct.unpack('<Q', data[:8])[0]
      yield Event.FromString(data[12 : 12 + length])
      data = data[16 + length :]


def scalars_after_purge(workdir):
  """What TensorBoard shows: a START event takes back the events of its step and of later ones."""
  shown = []
  for event in events_of(workdir):
    if event.session_log.status == SessionLog.START:
      shown = [scalar for scalar in shown if scalar[0] < event.step]
    shown += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
  return shown


def test_what_is_written_is_read_with_its_prefix(tmp_path):
  with metrics_log(tmp_path, 0) as log:
    log.write(10, {'loss': 0.5, 'accuracy': 0.75})
    log.write(10, {'accuracy': 0.5, 'accuracy_ci95': 0.25}, prefix='validation')
  assert read_metrics(tmp_path) == [
    {'step': 10, 'train/loss': 0.5, 'train/accuracy': 0.75},
    {'step': 10, 'validation/accuracy': 0.5, 'validation/accuracy_ci95': 0.25},
  ]


def test_tensorboard_gets_the_same_numbers(tmp_path):
  with metrics_log(tmp_path, 0) as log:
    log.write(10, {'loss': 0.5})
    log.write(20, {'accuracy': 0.25}, 'validation')
  expected = [(10, 'train/loss', 0.5), (20, 'validation/accuracy', 0.25)]
  assert scalars_after_purge(tmp_path) == expected


def test_a_resume_takes_back_the_steps_after_it(tmp_path):
  write_run(tmp_path, 0, range(1, 6))
  write_run(tmp_path, 3, range(4, 8))
  assert steps_of(tmp_path) == [1, 2, 3, 4, 5, 6, 7]
  assert [line['train/from'] for line in read_metrics(tmp_path)] == [0] * 3 + [3] * 4
  shown = [
    (step, value) for step, tag, value in scalars_after_purge(tmp_path) if tag == 'train/from'
  ]
  assert shown == [(1, 0), (2, 0), (3, 0), (4, 3), (5, 3), (6, 3), (7, 3)]


def test_a_run_killed_before_its_first_checkpoint_starts_again_from_nothing(tmp_path):
  write_run(tmp_path, 0, [10, 20])
  write_run(tmp_path, 0, [10])
  assert steps_of(tmp_path) == [10]


@pytest.mark.parametrize('length', range(1, 35))
def test_a_line_cut_short_by_a_kill_is_dropped_wherever_it_was_cut(tmp_path, length):
  whole = '{"step": 10, "train/loss": 0.5}\n'
  cut = '{"step": 20, "train/loss": 0.4567}\n'[:length]
  (tmp_path / 'metrics.jsonl').write_text(whole + cut)
  cut_is_whole = cut.endswith('}')  # only the end of the line is missing
  assert steps_of(tmp_path) == ([10, 20] if cut_is_whole else [10])
  write_run(tmp_path, 20 if cut_is_whole else 10, [30])
  assert steps_of(tmp_path) == ([10, 20, 30] if cut_is_whole else [10, 30])


def test_a_broken_line_in_the_middle_is_named(tmp_path):
  (tmp_path / 'metrics.jsonl').write_text('{"step": 1}\n{"ste\n{"step": 3}\n')
  with pytest.raises(ValueError, match=r'metrics.jsonl, line 2, is not a JSON object'):
    read_metrics(tmp_path)


@pytest.mark.parametrize('line', ['[1]', '{"loss": 1}', '{"step": "1"}', 'null', ''])
def test_a_line_without_a_step_is_named(tmp_path, line):
  (tmp_path / 'metrics.jsonl').write_text(line + '\n{"step": 3}\n')
  with pytest.raises(ValueError, match='line 1,'):
    read_metrics(tmp_path)


@pytest.mark.parametrize('old', ['0.25', '"step": 2', 'train/loss": 0.5', '"crc32"'])
def test_a_line_that_was_changed_is_named(tmp_path, old):
  with metrics_log(tmp_path, 0) as log:
    for step in (1, 2, 3):
      log.write(step, {'loss': 0.25 * step})
  path = tmp_path / 'metrics.jsonl'
  text = path.read_text()
  path.write_text(text.replace(old, old.replace('2', '1').replace('loss', 'lost')))
  number = 1 + text[: text.index(old)].count('\n')
  with pytest.raises(ValueError, match=rf'metrics.jsonl, line {number}, .*; delete that line'):
    read_metrics(tmp_path)


def test_lines_of_earlier_versions_hold_no_sum_and_are_in_order(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  line = lambda step, kind: f'{{"step": {step}, "{kind}/loss": 0.5}}\n'
  path.write_text(line(1, 'train') + line(2, 'train') + line(2, 'validation') + line(3, 'train'))
  write_run(tmp_path, 3, [4])
  assert steps_of(tmp_path) == [1, 2, 2, 3, 4]
  assert all('crc32' in json.loads(each) for each in path.read_text().splitlines())
  path.write_text(line(1, 'train') + line(3, 'train') + line(2, 'train'))
  with pytest.raises(ValueError, match=r'line 3, has step 2 of train, after step 3; delete'):
    write_run(tmp_path, 3, [4])


def test_a_changed_last_line_is_no_cut_one(tmp_path):
  (tmp_path / 'metrics.jsonl').write_text('{"step": 1}\n{"step": 2]\n')
  with pytest.raises(ValueError, match='line 2,'):
    read_metrics(tmp_path)


def test_a_resume_says_which_steps_are_missing(tmp_path):
  write_run(tmp_path, 0, [10, 20, 30])
  with pytest.warns(UserWarning, match=r'ends at step 30 and the run goes on after step 60: metri'):
    write_run(tmp_path, 60, [70])
  assert steps_of(tmp_path) == [10, 20, 30, 70]


def test_a_resume_says_which_lines_were_lost_from_the_middle(tmp_path):
  write_run(tmp_path, 0, range(1, 9))
  path = tmp_path / 'metrics.jsonl'
  lines = path.read_text().splitlines(keepends=True)
  path.write_text(''.join(lines[:1] + lines[2:4] + lines[6:]))
  with pytest.warns(UserWarning, match=r'metrics.jsonl has lost lines: 2, 5 to 6, from the learn'):
    write_run(tmp_path, 8, [9])
  assert steps_of(tmp_path) == [1, 3, 4, 7, 8, 9]
  with pytest.warns(UserWarning, match='lost lines: 2, 5 to 6,'):  # and the next one says so again
    write_run(tmp_path, 7, [8])


def test_lines_written_before_they_had_numbers_are_numbered(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  earlier = [with_sum({'step': step, 'train/loss': 0.5}) for step in (1, 2, 3)]
  path.write_text(''.join(json.dumps(line) + '\n' for line in earlier))
  write_run(tmp_path, 3, [4])
  assert [json.loads(line)['line'] for line in path.read_text().splitlines()] == [1, 2, 3, 4]


def test_metrics_that_are_not_finite_stay_valid_json(tmp_path):
  with metrics_log(tmp_path, 0) as log:
    log.write(1, {'loss': float('nan'), 'norm': float('inf'), 'accuracy': 0.5})
  text = (tmp_path / 'metrics.jsonl').read_text()
  json.loads(text, parse_constant=lambda name: pytest.fail(f'{name} is not JSON'))
  (line,) = read_metrics(tmp_path)
  assert math.isnan(line['train/loss']) and math.isnan(line['train/norm'])
  write_run(tmp_path, 1, [2])
  assert steps_of(tmp_path) == [1, 2]


def test_every_line_is_on_disk_before_write_returns(tmp_path):
  with metrics_log(tmp_path, 0) as log:
    log.write(1, {'loss': 0.5})
    assert steps_of(tmp_path) == [1]
    assert len(scalars_after_purge(tmp_path)) == 1


def test_no_run_has_no_metrics(tmp_path):
  assert read_metrics(tmp_path) == [] and read_metrics(tmp_path / 'nowhere') == []


def test_a_resume_that_cannot_write_loses_nothing(tmp_path):
  write_run(tmp_path, 0, range(1, 50))
  before = (tmp_path / 'metrics.jsonl').read_bytes()
  with files_limited_to(100), pytest.raises(OSError, match=r'cannot write .*metrics.jsonl'):
    write_run(tmp_path, 40, [])
  assert (tmp_path / 'metrics.jsonl').read_bytes() == before
  assert sorted(os.listdir(tmp_path)) == ['metrics.jsonl', 'tensorboard']


def test_a_full_disk_is_one_line_naming_the_file_and_the_lines_before_stay(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  with files_limited_to(400), pytest.raises(OSError, match=r'cannot write .*tmp') as error:
    write_run(tmp_path, 0, range(1000))
  assert len(str(error.value).splitlines()) == 1
  kept = steps_of(tmp_path)
  assert kept and kept == list(range(len(kept)))
  write_run(tmp_path, kept[-1], [kept[-1] + 1])
  assert steps_of(tmp_path) == [*kept, kept[-1] + 1]
  assert path.read_bytes().endswith(b'\n')


def test_a_line_that_cannot_be_written_is_blamed_on_its_file(tmp_path):
  with metrics_log(tmp_path, 0) as log:
    (tmp_path / 'metrics.jsonl').unlink()
    (tmp_path / 'metrics.jsonl').mkdir()
    with pytest.raises(IsADirectoryError, match=r'cannot write .*metrics.jsonl: Is a directory;'):
      log.write(1, {'loss': 0.5})


def test_an_error_of_the_training_is_not_blamed_on_the_log(tmp_path):
  with pytest.raises(OSError, match=re.escape('no such zip')), metrics_log(tmp_path, 0):
    raise OSError('no such zip')
