"""Progress of a training or a test: a bar on a terminal, plain lines in a file or a pipe."""

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, TextIO

from metakit.distributed import is_first

SECONDS_BETWEEN_LINES = 10.0  # a log file of an hour stays readable: at most 360 lines
COMPILING = 'compiling'

# (step, line) -> None: shows where the training is.
Draw = Callable[[int, str], None]


class Progress(NamedTuple):
  """How a training says where it is.

  Attributes:
    update: (step, metrics) -> None; step is how many steps the run has done since its start.
    note: (text) -> None, prints a line that stays (a validation score, say) and leaves a bar whole.
  """

  update: Callable[[int, Mapping[str, float]], None]
  note: Callable[[str], None]


@contextlib.contextmanager
def progress(
  total_steps: int,
  tasks_per_step: int,
  start_step: int = 0,
  *,
  stream: TextIO | None = None,
  clock: Callable[[], float] = time.monotonic,
) -> Iterator[Progress]:
  """Shows steps, tasks per second, loss, accuracy and the time left while the block runs.

  The rate is measured from the first `update` of this process on, since the first dispatch includes
  compilation. The time of validation and checkpoints counts. On a terminal this is a tqdm bar.
  Elsewhere it prints 'compiling' if there is a step to do, then the first update, at most a line
  every 10 seconds, and the last update. Of several processes, only the first one prints.

  Args:
    total_steps: the step at which training ends.
    tasks_per_step: tasks in a step, over all devices.
    start_step: the step at which this process begins.
    stream: where to print; sys.stderr by default.
    clock: returns seconds; tests replace it.

  Yields:
    A Progress.
  """
  if not is_first():
    yield Progress(lambda step, metrics: None, lambda text: None)
    return
  stream = sys.stderr if stream is None else stream
  bar = _has_room_for_a_bar(stream)
  shown = _bar(total_steps, start_step, stream) if bar else _lines(stream, clock)
  with shown as (draw, note):
    timed = _timed(clock)
    if not bar and start_step < total_steps:
      note(COMPILING)

    def update(step: int, metrics: Mapping[str, float]) -> None:
      rate, elapsed = timed(step)
      sizes = step, total_steps, tasks_per_step
      draw(step, status_line(*sizes, steps_per_second=rate, elapsed=elapsed, metrics=metrics))

    yield Progress(update, note)


@contextlib.contextmanager
def episode_progress(
  said: str,
  episodes: int,
  *,
  stream: TextIO | None = None,
  clock: Callable[[], float] = time.monotonic,
) -> Iterator[Callable[[int], None]]:
  """Shows how many episodes of a test are done, how fast, and the time left while the block runs.

  On a terminal this is a tqdm bar. Elsewhere it prints a line every 10 seconds, and nothing of a
  shorter test.

  Args:
    said: a line that is printed first.
    episodes: episodes of the test.
    stream: where to print; sys.stderr by default.
    clock: returns seconds; tests replace it.

  Yields:
    (episodes done) -> None.
  """
  if not is_first():
    yield lambda done: None
    return
  stream = sys.stderr if stream is None else stream
  print(said, file=stream, flush=True)
  bar = _has_room_for_a_bar(stream)
  with _bar(episodes, 0, stream) if bar else _lines(stream, clock, patient=True) as (draw, _):
    timed = _timed(clock)
    units = 'episode', 'episodes'

    def update(done: int) -> None:
      rate, elapsed = timed(done)
      line = status_line(
        done, episodes, 1, steps_per_second=rate, elapsed=elapsed, metrics={}, units=units
      )
      draw(done, line)

    yield update
    update(episodes)


def _timed(clock: Callable[[], float]) -> Callable[[int], tuple[float, float]]:
  """Returns a function of how much is done, which returns how much a second and the seconds so far.

  The rate is measured from its first call on, since compilation ends there.
  """
  started = clock()
  first: tuple[int, float] | None = None

  def timed(done: int) -> tuple[float, float]:
    nonlocal first
    now = clock()
    first = first or (done, now)
    rate = (done - first[0]) / (now - first[1]) if now > first[1] else 0.0
    return rate, now - started

  return timed


def status_line(
  step: int,
  total_steps: int,
  tasks_per_step: int,
  *,
  steps_per_second: float,
  elapsed: float,
  metrics: Mapping[str, float],
  units: tuple[str, str] = ('step', 'tasks'),
) -> str:
  """Returns one line about a training or a test.

  Args:
    step: steps done.
    total_steps: the step at which training ends.
    tasks_per_step: tasks in a step.
    steps_per_second: 0 if not known yet.
    elapsed: seconds since this process began to train, compilation included.
    metrics: 'loss' and 'accuracy' are shown if they are there.
    units: the words for a step and for tasks.

  >>> metrics = {'loss': 0.4124, 'accuracy': 0.873}
  >>> status_line(400, 2000, 16, steps_per_second=50.0, elapsed=12.0, metrics=metrics)
  'step 400/2000  800 tasks/s  loss 0.412  accuracy 0.873  0:32 left'
  """
  parts = [f'{units[0]} {step}/{total_steps}']
  if steps_per_second > 0:
    parts.append(f'{_rate(steps_per_second * tasks_per_step)} {units[1]}/s')
  parts += [f'{name} {_number(metrics[name])}' for name in ('loss', 'accuracy') if name in metrics]
  if step >= total_steps:
    parts.append(f'took {clock_time(elapsed)}')
  elif steps_per_second > 0:
    parts.append(f'{clock_time((total_steps - step) / steps_per_second)} left')
  return '  '.join(parts)


def clock_time(seconds: float) -> str:
  """Returns minutes:seconds, or hours:minutes:seconds.

  >>> clock_time(31), clock_time(3725)
  ('0:31', '1:02:05')
  """
  minutes, second = divmod(round(seconds), 60)
  hours, minute = divmod(minutes, 60)
  return f'{hours}:{minute:02}:{second:02}' if hours else f'{minute}:{second:02}'


def _rate(tasks_per_second: float) -> str:
  return f'{tasks_per_second:,.0f}' if tasks_per_second >= 100 else f'{tasks_per_second:.3g}'


def _number(value: float) -> str:
  value = float(value)
  plain = not math.isfinite(value) or value == 0 or 0.01 <= abs(value) < 1000
  return f'{value:.3f}' if plain else f'{value:.2e}'


def _has_room_for_a_bar(stream: TextIO) -> bool:
  if not stream.isatty():
    return False
  try:
    size = os.get_terminal_size(stream.fileno())
  except OSError:  # a notebook's terminal is not a file; tqdm has a default width
    return True
  return size.columns > 0 and size.lines > 0  # 0 in some containers, where tqdm shows nothing


@contextlib.contextmanager
def _bar(total_steps: int, start_step: int, stream: TextIO):
  from tqdm import tqdm  # loaded only where a bar is drawn

  # The rate and the time left of tqdm would count the compilation, so `line` holds ours.
  with tqdm(
    total=total_steps,
    initial=start_step,
    file=stream,
    dynamic_ncols=True,
    bar_format='{percentage:3.0f}%|{bar}| {desc}',
    desc=COMPILING,
  ) as bar:

    def draw(step: int, line: str) -> None:
      bar.set_description_str(line, refresh=False)
      bar.update(step - bar.n)

    yield draw, lambda text: bar.write(text, file=stream)


@contextlib.contextmanager
def _lines(stream: TextIO, clock: Callable[[], float], patient: bool = False):
  """Yields what `_bar` yields. With `patient` nothing is printed in the first 10 seconds."""
  printed_at, pending = (clock() if patient else -math.inf), ''
  silent = patient

  def note(text: str) -> None:
    print(text, file=stream, flush=True)

  def draw(step: int, line: str) -> None:
    del step  # it is part of the line
    nonlocal printed_at, pending, silent
    pending = line
    if clock() - printed_at >= SECONDS_BETWEEN_LINES:
      note(line)
      printed_at, pending, silent = clock(), '', False

  try:
    yield draw, note
  finally:
    if pending and not silent:
      note(pending)
