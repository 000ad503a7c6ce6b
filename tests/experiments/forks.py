"""Runs command lines of the binaries in forks of one process that has imported what they need.

Each is run as `python -m` would run it, with its own arguments, variables, streams, signals and
exit status; only the two seconds that the imports take are spent once. Reads a request as a line of
JSON, answers with another:

    {"module", "arguments", "variables", "out", "error"} -> its process id
    {"wait": process id, "block": bool} -> null, or {"status", "programs", "seconds"}
"""

import atexit
import gc
import json
import os
import resource
import runpy
import signal
import sys
import threading
import warnings

import matplotlib.backends.backend_svg
import matplotlib.figure  # noqa: F401

import experiments.runs.evaluate
import experiments.runs.train  # noqa: F401  what takes long to import
from metakit.compiler import turn_off_wrong_fusions
from tests.budgets import Spent


def become(module, arguments, variables, out, error, count):
  """Becomes the binary: this process goes on to end as it would."""
  signal.alarm(300)  # rather than for ever
  modes = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
  for number, file in enumerate((os.open(os.devnull, os.O_RDONLY), os.open(out, modes, 0o600))):
    os.dup2(file, number)
  os.dup2(os.open(error, modes, 0o600), 2)
  os.environ.clear()
  os.environ.update(variables)
  turn_off_wrong_fusions()
  spent = Spent()
  atexit.register(lambda: os.write(count, str(spent.programs).encode()))
  sys.argv = [module, *arguments]
  warnings.filterwarnings('ignore', r'.*found in sys\.modules after import of package')
  try:
    runpy.run_module(f'experiments.{module}', run_name='__main__', alter_sys=True)
  except SystemExit as end:
    leave(end.code)
  leave(None)


def leave(code):
  """Ends as Python does, but frees nothing before, which would take most of a short command."""
  if code is not None and not isinstance(code, int):
    print(code, file=sys.stderr)
    code = 1
  threading._shutdown()
  atexit._run_exitfuncs()
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(int(code or 0))


def ended(number, block, counts):
  """How a child ended, and what it took; None if it has not."""
  before = resource.getrusage(resource.RUSAGE_CHILDREN)
  pid, status = os.waitpid(number, 0 if block else os.WNOHANG)
  if not pid:
    return None
  after = resource.getrusage(resource.RUSAGE_CHILDREN)
  seconds = sum(b - a for a, b in zip(before[:2], after[:2], strict=True))
  programs = int(os.read(counts[pid], 20) or 0)
  os.close(counts.pop(pid))
  return {'status': os.waitstatus_to_exitcode(status), 'programs': programs, 'seconds': seconds}


def main():
  # JAX and Python warn of forks among threads; no device has been asked for yet.
  warnings.filterwarnings('ignore', '.*fork')
  gc.freeze()
  counts = {}
  while line := sys.stdin.readline():
    request = json.loads(line)
    if 'wait' in request:
      answer = ended(request['wait'], request['block'], counts)
    else:
      read, write = os.pipe()
      answer = os.fork()
      if not answer:
        return become(**request, count=write)
      os.close(write)
      counts[answer] = read
    print(json.dumps(answer), flush=True)


if __name__ == '__main__':
  main()
