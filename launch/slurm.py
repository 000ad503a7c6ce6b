r"""Submits a command to Slurm: one process on each GPU or node, started again when preempted.

  python -m launch.slurm --nodes=2 --tasks_per_node=8 --gpus_per_task=1 --time=08:00:00 -- \
      python -m experiments.train --parallel=shard_map --workdir=runs/pod

The submitted file is written to --file; --dry_run only prints it. Slurm sends SIGTERM two minutes
before the time limit. The run then saves and ends with 75, and the job goes back to the queue.
"""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from launch.children import PREEMPTED
from launch.common import Refused, call, check_text, define_dry_run, new_token, run, show

FLAGS = flags.FLAGS
OPTIONS = 'partition', 'account', 'qos', 'constraint', 'mem', 'cpus_per_task', 'gpus_per_task'


def main(command: list[str]) -> int:
  lines = {name: FLAGS[name].value for name in ('job_name', 'nodes', 'time', *OPTIONS)}
  text = batch_file(
    command, FLAGS.tasks_per_node, FLAGS.logs, seconds_ahead=FLAGS.seconds_ahead, options=lines
  )
  submit, added = ['sbatch', check_file(FLAGS.file)], {'METAKIT_TOKEN': new_token()}
  if FLAGS.dry_run:
    print(f'# {FLAGS.file}\n{text}\n{show(submit, added)}')
    return 0
  path = Path(FLAGS.file)
  if path.exists() and path.read_text() != text:
    raise Refused(f'{path} exists and differs; give another --file, or delete it')
  Path(FLAGS.logs).mkdir(parents=True, exist_ok=True)
  path.write_text(text)
  return call(submit, env=os.environ | added).returncode  # sbatch keeps it for every start


def check_file(name: str) -> str:
  """Returns the name of the batch file.

  Raises:
    Refused: if sbatch would take it for an option.
  """
  if name.startswith('-'):
    raise Refused(f'--file={name} would be an option of sbatch; use --file=./{name}')
  return check_text('--file', name)


def quoted(name: str, value: object) -> str:
  """Returns the value of an option so that sbatch reads it as one word.

  Raises:
    Refused: if the value has characters that sbatch would read in another way.
  """
  flag = f'--{name.replace("-", "_")}'
  text = check_text(flag, str(value))
  if set(text) & set('\'"\\'):
    raise Refused(f'{flag}={text!r} has a quote or backslash, which sbatch does not read as such')
  return shlex.quote(text)


def batch_file(
  command: Sequence[str],
  tasks_per_node: int,
  logs: str,
  *,
  seconds_ahead: int,
  options: dict[str, object],
) -> str:
  """Returns the text of the file for sbatch.

  Args:
    command: what each process runs.
    tasks_per_node: processes on a node.
    logs: folder of the log, which requeued jobs append to.
    seconds_ahead: how many seconds before the time limit SIGTERM is sent.
    options: values of sbatch's options by name; None leaves one out.

  Raises:
    Refused: if the value of an option cannot be written.
  """
  settings = {name.replace('_', '-'): value for name, value in options.items() if value is not None}
  settings |= {'ntasks-per-node': tasks_per_node, 'output': f'{logs}/%x-%j.log'}
  settings |= {'signal': f'TERM@{seconds_ahead}'}
  lines = [f'#SBATCH --{name}={quoted(name, value)}' for name, value in settings.items()]
  return '\n'.join(
    [
      '#!/bin/bash',
      *lines,
      '#SBATCH --requeue',
      '#SBATCH --open-mode=append',
      '',
      'status=0',
      f'srun --kill-on-bad-exit=1 {shlex.join(command)} || status=$?',
      f'# {PREEMPTED}: told to end, all saved; the same command continues.',
      f'if [ "$status" -eq {PREEMPTED} ]; then scontrol requeue "$SLURM_JOB_ID"; fi',
      'exit "$status"',
      '',
    ]
  )


if __name__ == '__main__':
  define_dry_run()
  flags.DEFINE_string('job_name', 'metakit', 'name of the job')
  flags.DEFINE_integer('nodes', 1, 'machines', lower_bound=1)
  flags.DEFINE_integer('tasks_per_node', 1, 'processes on each machine', lower_bound=1)
  flags.DEFINE_string('time', '01:00:00', 'limit of a start, hours:minutes:seconds')
  flags.DEFINE_integer('seconds_ahead', 120, 'seconds from SIGTERM to the limit', lower_bound=1)
  flags.DEFINE_string('file', 'metakit.sbatch', 'where the batch file is written')
  flags.DEFINE_string('logs', 'logs', 'folder of the log')
  for option in OPTIONS:
    flags.DEFINE_string(option, None, f'--{option.replace("_", "-")} of sbatch')
  run(main, __doc__)
