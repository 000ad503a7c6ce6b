"""The lock of a workdir: one process at a time, whatever ends it."""

import errno
import fcntl
import os
import socket
import subprocess
import sys
from unittest.mock import Mock

import pytest

from metakit.lock import lock
from metakit.workdir import own_workdir
from tests.experiments.commands import REPOSITORY

SPECS = {'task': 'glyphs', 'seed': 0}


def contents(folder):
  return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob('*')}


def test_a_second_process_is_told_who_has_it_and_changes_nothing(tmp_path):
  """Two files opened in one process are locked like those of two processes."""
  own_workdir(tmp_path / 'run', SPECS)
  before = contents(tmp_path / 'run')
  said = f'run is in use by process {os.getpid()} on {socket.gethostname()}; wait'
  with pytest.raises(ValueError, match=said):
    own_workdir(tmp_path / 'run', SPECS)
  assert contents(tmp_path / 'run') == before and len(before) == 2


def test_the_folder_of_something_else_gets_no_lock(tmp_path):
  (tmp_path / 'thesis.tex').write_text('years of work')
  with pytest.raises(ValueError, match=r'holds files but no flags\.json'):
    own_workdir(tmp_path, SPECS)
  assert [path.name for path in tmp_path.iterdir()] == ['thesis.tex']


def test_a_lock_that_was_released_can_be_had_again(tmp_path):
  for _ in range(2):
    lock(tmp_path / 'file')()


DIES = """
import os, signal, sys
from pathlib import Path
from metakit.lock import lock
lock(Path(sys.argv[1]))
read, write = os.pipe()
if os.fork():
  os.read(read, 1)  # the child runs, and has let go
  print('locked', flush=True)
  os.kill(os.getpid(), signal.SIGKILL)
os.write(write, b'.')
sys.stdin.read()
"""


def test_a_killed_process_has_no_lock_nor_have_its_children(tmp_path):
  command = [sys.executable, '-c', DIES, str(tmp_path / 'file')]
  pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE}
  with subprocess.Popen(command, **pipes, text=True, cwd=REPOSITORY) as process:
    assert process.stdout.readline() == 'locked\n'
    assert process.wait() == -9
    lock(tmp_path / 'file')()  # its child is still there, and ends with its stdin
    process.stdin.close()


def test_where_there_are_no_locks_it_goes_on_with_a_warning(tmp_path, monkeypatch):
  monkeypatch.setattr(fcntl, 'flock', Mock(side_effect=OSError(errno.ENOLCK, 'No locks available')))
  with pytest.warns(UserWarning, match='file cannot be locked .*No locks available'):
    lock(tmp_path / 'file')
