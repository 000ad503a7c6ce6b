import contextlib
import io
import os
import pty
import struct
import termios

import pytest

from experiments.output.progress import clock_time, episode_progress, progress, status_line


class Terminal(io.StringIO):
  def isatty(self):
    return True


def still_clock():
  """Returns (clock, set_clock): a clock that stands still until it is set."""
  now = [0.0]
  return lambda: now[0], lambda seconds: now.__setitem__(0, seconds)


def shown(updates, total_steps=2000, tasks_per_step=16, start_step=0, stream=None):
  """Runs (seconds, step, metrics) updates and returns what was written."""
  stream = stream or io.StringIO()
  clock, set_clock = still_clock()
  with progress(total_steps, tasks_per_step, start_step, stream=stream, clock=clock) as running:
    for seconds, step, metrics in updates:
      set_clock(seconds)
      running.update(step, metrics)
  return stream.getvalue()


def everything_in(controller):
  """Returns what was written to a pseudo-terminal that is now closed."""
  chunks = []
  with os.fdopen(controller, 'rb', buffering=0) as screen, contextlib.suppress(OSError):
    while chunk := screen.read(4096):  # Linux ends with an error, others with b''
      chunks.append(chunk)
  return b''.join(chunks).decode()


def test_rate_and_time_left_do_not_count_the_first_dispatch():
  # 100 s of compilation, then 100 steps in 5 s: 20 steps/s, 320 tasks/s, 1800 steps in 90 s.
  lines = shown([(100, 100, {'loss': 1.5}), (105, 200, {'loss': 0.412, 'accuracy': 0.873})])
  assert lines.splitlines() == [
    'compiling',
    'step 100/2000  loss 1.500',
    'step 200/2000  320 tasks/s  loss 0.412  accuracy 0.873  1:30 left',
  ]


def test_steps_done_before_a_resume_do_not_count_in_the_rate():
  lines = shown([(50, 1100, {}), (60, 1200, {})], start_step=1000)
  assert lines.splitlines()[-1] == 'step 1200/2000  160 tasks/s  1:20 left'


def test_a_line_at_most_every_ten_seconds_and_the_last_one():
  updates = [(second, 10 * second, {'loss': 1.0}) for second in range(1, 35)]
  _, *lines = shown(updates).splitlines()
  steps = [int(line.split()[1].split('/')[0]) for line in lines]
  assert steps == [10, 110, 210, 310, 340]


def test_the_last_step_says_how_long_it_took_compilation_included():
  assert shown([(60, 1000, {}), (120, 2000, {})]).splitlines()[-1].endswith('took 2:00')


def test_the_last_line_is_not_printed_twice():
  assert len(shown([(0, 1000, {}), (20, 2000, {})]).splitlines()) == 3  # and 'compiling'


def test_a_pipe_hears_of_the_compilation_before_it_is_done_if_there_is_one():
  stream = io.StringIO()
  with progress(10, 1, 0, stream=stream):
    assert stream.getvalue() == 'compiling\n'
  with progress(10, 1, 10, stream=stream):  # a run that is at its end
    assert stream.getvalue() == 'compiling\n'


def episodes_shown(done, episodes=1000, stream=None):
  """Runs (seconds, episodes done) and returns what was written of a test."""
  stream = stream or io.StringIO()
  clock, set_clock = still_clock()
  with episode_progress('testing', episodes, stream=stream, clock=clock) as update:
    for seconds, number in done:
      set_clock(seconds)
      update(number)
  return stream.getvalue()


def test_a_test_in_a_pipe_says_where_it_is_every_ten_seconds():
  lines = episodes_shown([(4, 100), (9, 200), (14, 300), (15, 320), (24, 500)]).splitlines()
  assert lines == [
    'testing',
    'episode 300/1000  20 episodes/s  0:35 left',
    'episode 500/1000  20 episodes/s  0:25 left',
    'episode 1000/1000  45 episodes/s  took 0:24',
  ]


def test_a_short_test_in_a_pipe_is_one_line():
  assert episodes_shown([(1, 500), (2, 1000)]) == 'testing\n'


def test_a_test_on_a_terminal_is_a_bar():
  text = episodes_shown([(1, 500), (2, 1000)], stream=Terminal())
  assert 'compiling' in text and '100%|' in text and 'episode 1000/1000  500 episodes/s' in text


def test_a_test_that_fails_does_not_say_that_it_is_done():
  stream = io.StringIO()
  with pytest.raises(OSError, match='x'), episode_progress('testing', 9, stream=stream):
    raise OSError('x')
  assert stream.getvalue() == 'testing\n'


def test_an_interruption_still_shows_where_it_was():
  stream = io.StringIO()
  with (
    pytest.raises(KeyboardInterrupt),
    progress(100, 1, 0, stream=stream, clock=lambda: 0.0) as running,
  ):
    running.update(10, {})
    running.update(20, {})
    raise KeyboardInterrupt
  assert stream.getvalue().splitlines()[-1].startswith('step 20/100')


def test_a_file_gets_no_control_characters():
  text = shown([(second, second * 10, {'loss': 0.5}) for second in range(60)])
  assert '\r' not in text and '\x1b' not in text and '|' not in text
  text.encode('ascii')  # log files in any locale


def test_a_terminal_gets_a_bar_with_the_same_line():
  updates = [(100, 100, {'loss': 1.5}), (105, 2000, {'loss': 0.412, 'accuracy': 0.873})]
  text = shown(updates, stream=Terminal())
  assert '\r' in text and '100%|' in text
  assert 'step 2000/2000  6,080 tasks/s  loss 0.412  accuracy 0.873  took 1:45' in text


def test_a_resumed_bar_starts_where_the_training_does():
  text = shown([(1, 1500, {})], start_step=1000, stream=Terminal())
  assert ' 50%|' in text and ' 75%|' in text and '  0%|' not in text


@pytest.mark.parametrize(('size', 'bar'), [((24, 120), True), ((0, 0), False)])
def test_a_real_terminal_gets_a_bar_unless_it_has_no_size(size, bar):
  fcntl = pytest.importorskip('fcntl')
  controller, terminal = pty.openpty()
  fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack('HHHH', *size, 0, 0))
  with os.fdopen(terminal, 'w') as stream, progress(10, 1, 0, stream=stream) as running:
    running.update(10, {'loss': 0.25})
  text = everything_in(controller)
  assert 'step 10/10' in text and 'loss 0.250' in text
  assert ('100%|' in text) == bar


@pytest.mark.parametrize('stream', [io.StringIO, Terminal])
def test_a_note_stays_on_a_line_of_its_own(stream):
  stream = stream()
  with progress(10, 1, 0, stream=stream) as running:
    running.update(5, {})
    running.note('validation accuracy 91.2%')
  assert 'validation accuracy 91.2%' in stream.getvalue().replace('\r', '\n').splitlines()


@pytest.mark.parametrize('stream', [io.StringIO, Terminal])
def test_a_training_without_a_step_to_do_is_no_error(stream):
  with progress(10, 1, 10, stream=stream()):
    pass
  with progress(0, 1, 0, stream=stream()) as running:
    running.update(0, {})


def test_stderr_is_looked_up_when_it_is_used(capsys):
  with progress(10, 1) as running:
    running.update(10, {'loss': 1.0})
  assert 'step 10/10' in capsys.readouterr().err


@pytest.mark.parametrize(
  ('value', 'text'),
  [
    (0.4124, '0.412'),
    (0.0, '0.000'),
    (1.23e-5, '1.23e-05'),
    (12345.0, '1.23e+04'),
    (float('nan'), 'nan'),
    (float('inf'), 'inf'),
  ],
)
def test_a_loss_of_any_size_can_be_read(value, text):
  assert (
    status_line(1, 2, 1, steps_per_second=0.0, elapsed=0.0, metrics={'loss': value})
    == f'step 1/2  loss {text}'
  )


def test_time_left_rounds_to_whole_seconds():
  assert [clock_time(seconds) for seconds in (0.4, 59.6, 60, 3599.5)] == [
    '0:00',
    '1:00',
    '1:00',
    '1:00:00',
  ]
