"""Runs command lines of a binary in forks of one process that has imported it.

Each is run as `python -m` would run it, with its own arguments and exit status; only
the second and a half that the imports take is spent once. Reads JSON lines [module, arguments,
file for stdout, file for stderr] and answers each with its exit status.
"""

import json
import os
import runpy
import signal
import sys
import warnings

import experiments.runs.evaluate
import experiments.runs.train  # noqa: F401  what takes long to import


def child(module, arguments, out, error):
  """Becomes the binary; never returns."""
  signal.alarm(300)  # rather than for ever
  for number, path in ((1, out), (2, error)):
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
  sys.argv = [module, *arguments]
  warnings.filterwarnings('ignore', r'.*found in sys\.modules after import of package')
  status = 1
  try:
    runpy.run_module(f'experiments.{module}', run_name='__main__', alter_sys=True)
  except SystemExit as stop:
    status = stop.code or 0
  except BaseException:
    sys.excepthook(*sys.exc_info())
  finally:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 1)


def main():
  # JAX and Python warn of forks among threads; no device has been asked for yet.
  warnings.filterwarnings('ignore', '.*fork')
  for line in sys.stdin:
    pid = os.fork()
    if not pid:
      child(*json.loads(line))
    _, status = os.waitpid(pid, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == '__main__':
  main()
