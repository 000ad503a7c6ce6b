r"""Runs a command as several processes with several CPU devices each, on this machine.

  python -m launch.local_pod --processes=2 --devices=4 -- \
      python -m experiments.train --parallel=shard_map --workdir=runs/pod

Every line of a process is prefixed by its number. The first one to fail ends all; SIGTERM and
SIGINT are passed on. The exit status is that of the first that failed, 75 if they were told to end.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO

from absl import flags

from launch.common import define_dry_run, run, show

FLAGS = flags.FLAGS
GRACE = 30.0  # seconds to save and end, before a process is killed
POLL = 0.1


def main(command: list[str]) -> int:
  port = FLAGS.port or free_port()
  added = [settings(rank, FLAGS.processes, FLAGS.devices, port) for rank in range(FLAGS.processes)]
  if FLAGS.dry_run:
    print('\n'.join(show(command, each) for each in added))
    return 0
  running = [start(rank, command, each) for rank, each in enumerate(added)]
  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, frame: send(running, number))
  return wait_for(running, FLAGS.grace)


def settings(rank: int, processes: int, devices: int, port: int) -> dict[str, str]:
  """Returns the environment variables of a process, beside those of this one."""
  flags_of_xla = os.environ.get('XLA_FLAGS', '')
  return {
    'JAX_PLATFORMS': 'cpu',
    'XLA_FLAGS': f'{flags_of_xla} --xla_force_host_platform_device_count={devices}'.strip(),
    'METAKIT_COORDINATOR': f'127.0.0.1:{port}',
    'METAKIT_NUM_PROCESSES': str(processes),
    'METAKIT_PROCESS_ID': str(rank),
  }


def free_port() -> int:
  """Returns a port that nothing listens at."""
  with socket.create_server(('127.0.0.1', 0)) as server:
    return int(server.getsockname()[1])


def start(rank: int, command: Sequence[str], added: Mapping[str, str]) -> subprocess.Popen:
  """Starts a process; a thread copies its lines."""
  process = subprocess.Popen(
    command,
    env=os.environ | added,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    start_new_session=True,  # Ctrl-C comes once, from here
  )
  assert process.stdout is not None
  threading.Thread(target=copy_lines, args=(rank, process.stdout), daemon=False).start()
  return process


def copy_lines(rank: int, lines: IO[str]) -> None:
  """Prints the lines of a process after its number."""
  for line in lines:
    sys.stdout.write(f'[{rank}] {line}')
    sys.stdout.flush()


def send(running: Sequence[subprocess.Popen], number: int) -> None:
  """Passes a signal on to the processes that have not ended."""
  for process in running:
    if process.poll() is None:
      process.send_signal(number)


def wait_for(running: Sequence[subprocess.Popen], grace: float) -> int:
  """Waits until all have ended, or one has failed and the others were ended."""
  while True:
    ended = [process.poll() for process in running]
    failed = [status for status in ended if status]
    if failed:
      end(running, grace)
      return failed[0] if failed[0] > 0 else 128 - failed[0]
    if None not in ended:
      return 0
    time.sleep(POLL)


def end(running: Sequence[subprocess.Popen], grace: float) -> None:
  """Asks the rest to end, and kills what has not after a while."""
  send(running, signal.SIGTERM)
  until = time.monotonic() + grace
  while time.monotonic() < until and any(process.poll() is None for process in running):
    time.sleep(POLL)
  send(running, signal.SIGKILL)
  for process in running:
    process.wait()


if __name__ == '__main__':
  define_dry_run()
  flags.DEFINE_integer('processes', 2, 'processes', lower_bound=1)
  flags.DEFINE_integer('devices', 4, 'CPU devices of each', lower_bound=1)
  flags.DEFINE_integer('port', 0, 'where they meet; a free one by default', lower_bound=0)
  flags.DEFINE_float('grace', GRACE, 'seconds to save and end, when one has failed')
  run(main, __doc__)
