"""What a binary does to its process: what must be the same in all, Ctrl-C, what is one line."""

import subprocess
import sys

import pytest

from experiments.command_line.runtime import BAD_INPUT, one_line_errors
from tests.experiments.commands import REPOSITORY

DEFINED = """
import json
from experiments.command_line.flags import define_common, define_training
from experiments.command_line.runtime import defining_run, run
define_common()
define_training()
run(lambda: print(json.dumps(defining_run(), default=str)), '')
"""
INTERRUPTED = """
import os, signal
from experiments.command_line.runtime import run
signal.signal(signal.SIGINT, signal.default_int_handler)
run(lambda: os.kill(os.getpid(), signal.SIGINT), '')
"""


def run_code(code, *arguments):
  command = [sys.executable, '-c', code, *arguments]
  return subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)


def test_all_flags_but_those_of_a_machine_are_compared():
  done = run_code(DEFINED, '--seed=3', '--workdir=here', '--data_dir=there')
  assert '"--seed": 3' in done.stdout, done.stderr
  for name in ('--task', '--steps', '--tasks_at_once', '--parallel', '--save_minutes', 'jax'):
    assert f'"{name}": ' in done.stdout
  for name in ('--workdir', '--data_dir', '--process_id', '--coordinator', '--verbosity'):
    assert f'"{name}": ' not in done.stdout


def test_ctrl_c_is_one_line():
  done = run_code(INTERRUPTED)
  assert (done.returncode, done.stderr) == (130, 'interrupted\n')


@pytest.mark.parametrize(('said', 'line'), [('', 'MemoryError'), ('no\nroom', 'no room')])
def test_no_memory_is_one_line(capsys, said, line):
  with pytest.raises(SystemExit) as end, one_line_errors(*BAD_INPUT):
    raise MemoryError(said)
  assert end.value.code == 1
  assert capsys.readouterr().err.startswith(f'error: out of memory ({line}); use ')
