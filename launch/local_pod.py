r"""Runs a command as several processes with several CPU devices each, on this machine.

  python -m launch.local_pod --processes=2 --devices=4 -- \
      python -m experiments.train --parallel=shard_map --workdir=runs/pod

Every line of a process is prefixed by its number. If one process fails, all others are ended. No
process outlives this one. SIGINT and SIGHUP are passed on as SIGTERM. The exit status is that of
the process that failed first, or 75 if a signal ended the run.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO, NamedTuple

from absl import flags

from launch.children import GRACE, PREEMPTED, Children, children
from launch.common import Interrupted, Refused, define_dry_run, new_token, run, show

FLAGS = flags.FLAGS
POLL = 0.1
MOST_LINE = 1 << 16  # bytes of a line; longer lines are split
LAST_LINES = 5.0  # seconds to copy the last lines


class Running(NamedTuple):
  """A process and the thread that copies its lines."""

  process: subprocess.Popen
  copier: threading.Thread


def main(command: list[str]) -> int:
  port = FLAGS.port or free_port()
  token, sizes = new_token(), (FLAGS.processes, FLAGS.devices)
  added = [settings(rank, *sizes, port=port, token=token) for rank in range(FLAGS.processes)]
  if FLAGS.dry_run:
    print('\n'.join(show(command, each) for each in added))
    return 0
  with children(FLAGS.grace) as programs:
    running = [start(programs, rank, command, added=each) for rank, each in enumerate(added)]
    status = wait_for(running, programs)
  for each in running:
    each.copier.join(LAST_LINES)
  if programs.signals and status not in (0, PREEMPTED):
    raise Interrupted(programs.signals[0])
  return status


def settings(rank: int, processes: int, devices: int, *, port: int, token: str) -> dict[str, str]:
  """Returns the environment variables that a process gets in addition to those of this one."""
  flags_of_xla = os.environ.get('XLA_FLAGS', '')
  return {
    'JAX_PLATFORMS': 'cpu',
    'XLA_FLAGS': f'{flags_of_xla} --xla_force_host_platform_device_count={devices}'.strip(),
    'METAKIT_COORDINATOR': f'127.0.0.1:{port}',
    'METAKIT_NUM_PROCESSES': str(processes),
    'METAKIT_PROCESS_ID': str(rank),
    'METAKIT_TOKEN': token,
  }


def free_port() -> int:
  """Returns a port that nothing listens at."""
  with socket.create_server(('127.0.0.1', 0)) as server:
    return int(server.getsockname()[1])


def start(
  programs: Children, rank: int, command: Sequence[str], *, added: Mapping[str, str]
) -> Running:
  """Starts a process; a thread copies its lines."""
  pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.STDOUT}
  try:
    process = programs.start(command, env=os.environ | added, **pipes)
  except OSError as error:
    raise Refused(f'{command[0]} cannot be started ({error.strerror})') from None
  copier = threading.Thread(target=copy_lines, args=(rank, process.stdout), daemon=True)
  copier.start()
  return Running(process, copier)


def copy_lines(rank: int, lines: IO[bytes]) -> None:
  """Prints the lines of a process, each after the number of the process, in any encoding.

  If they cannot be printed (the terminal was closed), it reads them all the same. Otherwise the
  process would wait for ever.
  """
  for line in iter(lambda: lines.readline(MOST_LINE), b''):
    with contextlib.suppress(OSError):
      sys.stdout.buffer.write(b'[%d] %b\n' % (rank, line.removesuffix(b'\n')))
      sys.stdout.buffer.flush()


def wait_for(running: Sequence[Running], programs: Children) -> int:
  """Waits until all processes have ended or one has failed; returns the run's exit status."""
  while True:
    ended = [each.process.poll() for each in running]
    programs.forget()
    failed = [(rank, status) for rank, status in enumerate(ended) if status]
    if failed:
      rank, status = failed[0]
      if status != PREEMPTED and len(failed) < len(running):
        how = f'status {status}' if status > 0 else signal.Signals(-status).name
        print(f'process {rank} ended with {how}; ending the others', file=sys.stderr)
      return status if status > 0 else 128 - status
    if None not in ended:
      return 0
    time.sleep(POLL)


if __name__ == '__main__':
  define_dry_run()
  flags.DEFINE_integer('processes', 2, 'processes', lower_bound=1)
  flags.DEFINE_integer('devices', 4, 'CPU devices of each process', lower_bound=1)
  flags.DEFINE_integer('port', 0, 'port where they meet; a free one by default', 0, 65535)
  flags.DEFINE_float('grace', GRACE, 'seconds that processes have to save and end', 0.0)
  run(main, __doc__)
