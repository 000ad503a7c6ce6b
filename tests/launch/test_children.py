"""Programs end with the process that starts them, whatever ends it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch.children import PREEMPTED, run_child

REPOSITORY = Path(__file__).parents[2]
# Saves when it is told to end, and has a process of its own that does not hear of it.
WORK = """
exec > /dev/null 2>&1  # a shell that cannot print ends, unlike Python
trap 'echo saved > saved; exit 75' TERM
sleep 1000 &
echo $$ $! > running
while :; do sleep 0.05; done
"""
STARTERS = {
  'run_child': [sys.executable, '-c', 'import sys; from launch.children import run_child; '
                'sys.exit(run_child(["sh", "-c", sys.argv[1]]))', WORK],
  'call': [sys.executable, '-c', 'import sys; from launch import common; common.app.run = '
           'lambda main, **_: main(sys.argv); common.run(lambda argv: common.call(["sh", "-c", '
           'argv[0]]).returncode, "")', WORK],
  'local_pod': [sys.executable, '-m', 'launch.local_pod', '--processes=1', '--', 'sh', '-c', WORK],
  'compare_learners': [sys.executable, '-c', 'import os, sys; from experiments.runs '
                       'import compare_learners; sys.executable = os.path.abspath("python"); '
                       'compare_learners.call("train")'],
}  # fmt: skip
STATUSES = {'call': 128 + signal.SIGTERM}


def wait_until(there, seconds=30):
  until = time.monotonic() + seconds
  while not there():
    assert time.monotonic() < until
    time.sleep(0.02)


def is_running(pid):
  """Tells whether a process runs; one that has ended may wait for init to notice."""
  with contextlib.suppress(OSError):
    return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
  return False


@pytest.mark.parametrize(
  ('starter', 'number'),
  [
    *[('local_pod', n) for n in (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)],
    *[(starter, n) for starter in ('run_child', 'call') for n in (signal.SIGKILL, signal.SIGTERM)],
    ('compare_learners', signal.SIGTERM),
  ],
)
def test_nothing_outlives_who_started_it_and_all_can_save(starter, number, tmp_path):
  fake = tmp_path / 'python'
  fake.write_text(f'#!/bin/sh\n[ "$1" = -m ] || exec {sys.executable} "$@"\n{WORK}')
  fake.chmod(0o755)
  with subprocess.Popen(
    STARTERS[starter],
    cwd=tmp_path,
    env=os.environ | {'PYTHONPATH': str(REPOSITORY)},
    start_new_session=True,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  ) as parent:
    try:
      wait_until(lambda: (tmp_path / 'running').exists() and (tmp_path / 'running').read_text())
      pids = (tmp_path / 'running').read_text().split()
      time.sleep(0.3)  # the guard is told of a program just after it began
      parent.send_signal(number)
      status = parent.wait(timeout=30)
    finally:
      parent.kill()  # or the end of the block would wait for it
  wait_until(lambda: not any(map(is_running, pids)))
  assert (tmp_path / 'saved').exists()
  killed = number == signal.SIGKILL
  assert status == (-signal.SIGKILL if killed else STATUSES.get(starter, PREEMPTED))


def test_the_status_of_a_child_is_passed_on():
  assert [run_child(['sh', '-c', f'exit {status}']) for status in (0, 3)] == [0, 3]
  handlers = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
  assert run_child(['sh', '-c', 'kill -TERM $PPID; sleep 60']) == PREEMPTED
  assert handlers == [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]


def test_a_child_that_does_not_end_is_killed():
  begun = time.monotonic()
  ignores = "trap '' TERM; sleep 60 & exit 1"
  assert run_child(['sh', '-c', ignores], grace=0.3) == 1
  assert time.monotonic() - begun < 10


def test_a_signal_that_is_ignored_stays_so():
  """nohup means it."""
  before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
  try:
    assert run_child(['sh', '-c', 'kill -HUP $PPID; exit 4']) == 4
  finally:
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize('package', ['experiments', 'launch'])
def test_ctrl_c_during_the_imports_of_a_program_is_one_line(package):
  code = f'import os, signal, sys; sys.argv = ["-m"]; import {package}; '
  code += 'os.kill(os.getpid(), signal.SIGINT)'
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, cwd=REPOSITORY
  )
  assert (done.returncode, done.stderr) == (130, 'interrupted\n')
  code = f'import signal, {package}; print(signal.getsignal(2) is signal.default_int_handler)'
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, cwd=REPOSITORY)
  assert done.stdout == b'True\n'  # who imports it as a library keeps the signal
