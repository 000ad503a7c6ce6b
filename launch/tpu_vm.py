r"""Runs a command on every worker of a TPU VM. A VM that is taken away is created again.

  python -m launch.tpu_vm --name=maml --type=v5litepod-16 --zone=us-west4-a --spot -- \
      python -m experiments.train --parallel=shard_map --workdir=/mnt/runs/maml

The program creates a queued resource, waits for it, and runs the command. If the resource is
suspended or has failed, it is deleted and created again, and the same command continues the run. So
the folder of the run has to outlive the VM: use a mounted bucket.

The program ends when the command ends, with the same exit status. The VM stays, unless --delete is
given. --delete also works after a refusal or an interruption, but not after kill -9.
"""

import contextlib
import json
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from absl import flags

from launch.children import ENDING, PREEMPTED
from launch.common import (
  Refused,
  call,
  check_match,
  check_name,
  define_dry_run,
  new_token,
  run,
  show,
)

FLAGS = flags.FLAGS
PORT = 8482
USABLE, LOST = ('ACTIVE', 'READY'), ('SUSPENDED', 'SUSPENDING', 'FAILED')
RANK = (
  'curl -s -H Metadata-Flavor:Google '
  'http://metadata.google.internal/computeMetadata/v1/instance/attributes/agent-worker-number'
)
# type -> (chips of a host if there are several, most chips of a single host). For some types these
# are cores: they count what the number in the name of the type counts.
HOSTS = {
  'v2': (8, 8),
  'v3': (8, 8),
  'v4': (8, 8),
  'v5p': (8, 8),
  'v5litepod': (4, 8),
  'v6e': (4, 8),
}


class Machine(NamedTuple):
  """A TPU VM and where it is.

  Attributes:
    name: name of the VM and of its queued resource.
    type: the type of TPU, such as v5litepod-16.
    place: the flags of gcloud that say where it is.
  """

  name: str
  type: str
  place: tuple[str, ...]


def main(command: list[str]) -> int:
  machine, token = described(), new_token()
  make = create(machine, FLAGS.runtime, FLAGS.spot)
  if FLAGS.dry_run:
    addresses = [f'ADDRESS_{i}' for i in range(hosts(machine.type))]
    steps = make, state(machine), endpoints(machine), work(machine, command, addresses, token=token)
    print('\n'.join(map(show, [*steps, *([delete(machine)] if FLAGS.delete else [])])))
    return 0
  with given_back(machine) if FLAGS.delete else contextlib.nullcontext():
    return keep_running(
      machine,
      make,
      command,
      token=token,
      attempts=FLAGS.attempts,
      seconds=FLAGS.poll_seconds,
    )


def described() -> Machine:
  """Returns the machine that the flags describe; nothing is created yet.

  Raises:
    Refused: if a flag has an impossible value.
  """
  check_name('--name', FLAGS.name)
  hosts(FLAGS.type)
  check_match('--zone', FLAGS.zone, '[a-z][a-z0-9-]*', example='us-west4-a')
  check_match('--project', FLAGS.project, '[a-z][a-z0-9.:-]*', example='my-project')
  check_match(
    '--runtime', FLAGS.runtime, '[A-Za-z0-9][A-Za-z0-9._-]*', example='v2-alpha-tpuv5-lite'
  )
  place = [f'--{name}={FLAGS[name].value}' for name in ('zone', 'project') if FLAGS[name].value]
  return Machine(FLAGS.name, FLAGS.type, tuple(place))


@contextlib.contextmanager
def given_back(machine: Machine) -> Iterator[None]:
  """Deletes the machine after the block, however it ends."""
  try:
    yield
  finally:
    for number in ENDING:  # a second signal must not stop the deletion
      signal.signal(number, signal.SIG_IGN)
    if call(delete(machine)).returncode:
      print(f'{machine.name} may still be there; {show(delete(machine))}', file=sys.stderr)


def hosts(kind: str) -> int:
  """Returns the number of hosts of a TPU type.

  Raises:
    Refused: if it is not known.

  >>> hosts('v5litepod-16'), hosts('v4-32'), hosts('v6e-8')
  (4, 4, 1)
  """
  family, _, size = kind.partition('-')
  if family not in HOSTS or not size.isdigit():
    raise Refused(f'--type={kind} is unknown; use one of {", ".join(HOSTS)} and a size: v4-32')
  each, alone = HOSTS[family]
  return 1 if int(size) <= alone else int(size) // each


def create(machine: Machine, runtime: str, spot: bool) -> list[str]:
  """Returns the command that asks for a machine."""
  return [
    *('gcloud', 'compute', 'tpus', 'queued-resources', 'create', machine.name),
    *(f'--node-id={machine.name}', f'--accelerator-type={machine.type}'),
    *(f'--runtime-version={runtime}', *machine.place, *(['--spot'] if spot else [])),
  ]


def state(machine: Machine) -> list[str]:
  """Returns the command that prints the state of the queued resource."""
  of = 'gcloud', 'compute', 'tpus', 'queued-resources', 'describe', machine.name
  return [*of, *machine.place, '--format=value(state.state)']


def endpoints(machine: Machine) -> list[str]:
  """Returns the command that prints the addresses of the hosts."""
  of = 'gcloud', 'compute', 'tpus', 'tpu-vm', 'describe', machine.name
  return [*of, *machine.place, '--format=json(networkEndpoints)']


def delete(machine: Machine) -> list[str]:
  """Returns the command that gives the machine back."""
  of = 'gcloud', 'compute', 'tpus', 'queued-resources', 'delete', machine.name
  return [*of, *machine.place, '--force', '--quiet']


def work(
  machine: Machine, command: Sequence[str], addresses: Sequence[str], *, token: str
) -> list[str]:
  """Returns the command that runs `command` on every worker."""
  coordinator = shlex.quote(f'{addresses[0]}:{PORT}')
  known = f'METAKIT_COORDINATOR={coordinator} METAKIT_NUM_PROCESSES={len(addresses)}'
  remote = f'{known} METAKIT_TOKEN={token} METAKIT_PROCESS_ID=$({RANK}) exec {shlex.join(command)}'
  of = 'gcloud', 'compute', 'tpus', 'tpu-vm', 'ssh', machine.name
  return [*of, *machine.place, '--worker=all', f'--command={remote}']


def keep_running(
  machine: Machine,
  make: Sequence[str],
  command: Sequence[str],
  *,
  token: str,
  attempts: int,
  seconds: float,
  sleep: Callable[[float], Any] = time.sleep,
) -> int:
  """Runs the command until it ends by itself; returns its exit status.

  Args:
    machine: where the command runs.
    make: the command that asks for the machine.
    command: what every worker runs.
    token: shows that a worker belongs to the run.
    attempts: how often the command is tried again after it failed.
    seconds: time between two looks at the state.
    sleep: waits; tests replace it.

  Raises:
    Refused: if the machine does not have as many hosts as its type, or cannot be created.
  """
  while True:
    condition = said(state(machine))
    if condition in USABLE:
      status = call(work(machine, command, addresses(machine), token=token)).returncode
      if status == 0 or (said(state(machine)) in USABLE and status != PREEMPTED):
        attempts -= 1
        if status == 0 or attempts < 0:
          return status
    elif condition in LOST:
      print(f'{machine.name} is {condition}: created again', flush=True)
      checked(delete(machine))
      checked(make)
    elif not condition:
      checked(make)
    sleep(seconds)


def said(argv: Sequence[str]) -> str:
  """Returns what a command prints; '' if it fails, since there is no such machine then."""
  done = call(argv, capture=True)
  return done.stdout.strip() if done.returncode == 0 else ''


def checked(argv: Sequence[str]) -> None:
  """Runs a command that has to succeed."""
  done = call(argv, capture=True)
  if done.returncode:
    raise Refused(f'{show(argv[:6])} failed: {" ".join(done.stderr.split())[-300:]}')


def addresses(machine: Machine) -> list[str]:
  """Returns the addresses of the hosts, the first worker first.

  Raises:
    Refused: if there are more or fewer hosts than the type has.
  """
  addressed = json.loads(said(endpoints(machine)) or '{}').get('networkEndpoints') or []
  if len(addressed) != hosts(machine.type):
    raise Refused(
      f'{machine.name} has {len(addressed)} hosts, but a {machine.type} has '
      f'{hosts(machine.type)}; check --type'
    )
  return [each['ipAddress'] for each in addressed]


if __name__ == '__main__':
  define_dry_run()
  flags.DEFINE_string('name', None, 'name of the VM', required=True)
  flags.DEFINE_string('type', None, 'accelerator type, such as v5litepod-16', required=True)
  flags.DEFINE_string('zone', None, 'zone of gcloud', required=True)
  flags.DEFINE_string('project', None, "project of gcloud; gcloud's own by default")
  flags.DEFINE_string('runtime', 'v2-alpha-tpuv5-lite', 'software version of the VM')
  flags.DEFINE_bool('spot', False, 'cheaper, and taken away at any time')
  flags.DEFINE_bool('delete', False, 'give the machine back at the end')
  flags.DEFINE_integer(
    'attempts', 0, 'failures after which the command is tried again', lower_bound=0
  )
  flags.DEFINE_float(
    'poll_seconds', 30.0, 'seconds between two looks at the state', lower_bound=0.0
  )
  run(main, __doc__)
