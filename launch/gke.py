r"""Starts a command on Kubernetes as a JobSet: one process on each node of a TPU slice or GPU pool.

  python -m launch.gke --name=maml --image=REGISTRY/metakit --hosts=4 --chips_per_host=4 \
      --accelerator=tpu-v5-lite-podslice --topology=4x4 --volume=CLAIM -- \
      python -m experiments.train --parallel=shard_map --workdir=/runs/maml

--dry_run shows the manifest as JSON, which kubectl reads. A run that is disrupted or told to end
starts again, however often. --restarts limits how often it starts again after a failure.
"""

import json
import shlex
from collections.abc import Sequence
from typing import Any

from absl import flags

from launch.children import PREEMPTED
from launch.common import call, check_match, check_name, define_dry_run, run, show

FLAGS = flags.FLAGS
PORT = 8482
WORKERS, MOUNT, VOLUME = 'workers', '/runs', 'runs'
# The number of the Job. It is drawn for each start, and only its pods know it.
TOKEN = "metadata.labels['batch.kubernetes.io/controller-uid']"
APPLY = 'kubectl', 'apply', '-f', '-'


def main(command: list[str]) -> int:
  check_given()
  text = json.dumps(
    manifest(
      command,
      name=FLAGS.name,
      image=FLAGS.image,
      hosts=FLAGS.hosts,
      limits=resources(FLAGS.accelerator, FLAGS.chips_per_host),
      nodes=selector(FLAGS.accelerator, FLAGS.topology),
      volume=FLAGS.volume,
      restarts=FLAGS.restarts,
      grace=FLAGS.grace,
    ),
    indent=2,
  )
  if FLAGS.dry_run:
    print(f'{text}\n{show(APPLY)}')
    return 0
  return call(APPLY, input=text).returncode


def check_given() -> None:
  """Raises Refused for values that Kubernetes would refuse, some of them only later."""
  longest = len(
    f'-{WORKERS}-0-{FLAGS.hosts - 1}-abcde'
  )  # what Kubernetes adds to the name of a pod
  check_name('--name', FLAGS.name, 63 - longest)
  label = '[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?'
  check_match('--image', FLAGS.image, r'[!-~]+', example='REGISTRY/metakit:1')
  check_match('--accelerator', FLAGS.accelerator, label, example='tpu-v5-lite-podslice')
  check_match('--topology', FLAGS.topology, r'\d+(x\d+)*', example='4x4')
  check_match('--volume', FLAGS.volume, '[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?', example='my-claim')


def resources(accelerator: str, chips: int) -> dict[str, str]:
  """Returns the accelerators that a process needs, as Kubernetes counts them."""
  return {'google.com/tpu' if accelerator.startswith('tpu') else 'nvidia.com/gpu': str(chips)}


def selector(accelerator: str, topology: str | None) -> dict[str, str]:
  """Returns the labels of the nodes to use."""
  kind = 'tpu' if accelerator.startswith('tpu') else 'gpu'
  labels = {f'cloud.google.com/gke-{kind}-accelerator'.replace('gpu-', ''): accelerator}
  return labels | ({'cloud.google.com/gke-tpu-topology': topology} if topology else {})


def _job(hosts: int, pod: dict[str, Any]) -> dict[str, Any]:
  """Returns the job of so many pods."""
  return {
    'parallelism': hosts,
    'completions': hosts,
    'completionMode': 'Indexed',
    'backoffLimit': 0,
    # These rules single out disruptions and runs that were told to end. Any other failure counts.
    'podFailurePolicy': {
      'rules': [
        {
          'action': 'FailJob',
          'onPodConditions': [{'type': 'DisruptionTarget', 'status': 'True'}],
        },
        {'action': 'FailJob', 'onExitCodes': {'operator': 'In', 'values': [PREEMPTED]}},
      ]
    },
    'template': {'spec': pod},
  }


def manifest(
  command: Sequence[str],
  *,
  name: str,
  image: str,
  hosts: int,
  limits: dict[str, str],
  nodes: dict[str, str],
  volume: str | None,
  restarts: int,
  grace: int,
) -> dict[str, Any]:
  """Returns the JobSet.

  Args:
    command: what each process runs.
    name: name of the JobSet and of its network.
    image: image of the container.
    hosts: number of processes, each on a node of its own.
    limits: resources of each process.
    nodes: labels of the nodes.
    volume: name of a claim that is mounted at /runs. Runs there survive their pods.
    restarts: after how many failures everything starts again.
    grace: seconds from SIGTERM to SIGKILL.
  """
  pod = {
    'restartPolicy': 'Never',
    'terminationGracePeriodSeconds': grace,
    'nodeSelector': nodes,
    'containers': [_container(command, name, image, hosts, limits, volume)],
  }
  if volume:
    pod['volumes'] = [{'name': VOLUME, 'persistentVolumeClaim': {'claimName': volume}}]
  job = _job(hosts, pod)
  again = {
    'name': 'preempted',
    'action': 'RestartJobSetAndIgnoreMaxRestarts',
    'onJobFailureReasons': ['PodFailurePolicy'],
  }
  exclusive = {'alpha.jobset.sigs.k8s.io/exclusive-topology': 'cloud.google.com/gke-nodepool'}
  return {
    'apiVersion': 'jobset.x-k8s.io/v1alpha2',
    'kind': 'JobSet',
    'metadata': {'name': name, 'annotations': exclusive},
    'spec': {
      'failurePolicy': {'maxRestarts': restarts, 'rules': [again]},
      'network': {'enableDNSHostnames': True, 'subdomain': name},
      'replicatedJobs': [{'name': WORKERS, 'replicas': 1, 'template': {'spec': job}}],
    },
  }


def _container(
  command: Sequence[str],
  name: str,
  image: str,
  hosts: int,
  limits: dict[str, str],
  volume: str | None,
) -> dict[str, Any]:
  variables = {
    'METAKIT_COORDINATOR': f'{name}-{WORKERS}-0-0.{name}:{PORT}',
    'METAKIT_NUM_PROCESSES': str(hosts),  # JOB_COMPLETION_INDEX is the number of the process
  }
  known = [{'name': key, 'value': value} for key, value in variables.items()]
  container = {
    'name': 'metakit',
    'image': image,
    # exec makes the command the first process of the container, to which SIGTERM is sent.
    # Kubernetes reads $(NAME) as a variable, and $$ as $.
    'command': ['bash', '-c', f'exec {shlex.join(command)}'.replace('$', '$$')],
    'env': [*known, {'name': 'METAKIT_TOKEN', 'valueFrom': {'fieldRef': {'fieldPath': TOKEN}}}],
    'ports': [{'containerPort': PORT}],
    'resources': {'limits': limits},
  }
  if volume:
    container['volumeMounts'] = [{'name': VOLUME, 'mountPath': MOUNT}]
  return container


if __name__ == '__main__':
  define_dry_run()
  flags.DEFINE_string('name', 'metakit', 'name of the JobSet; the same name continues the same run')
  flags.DEFINE_string('image', None, 'container image with metakit in it', required=True)
  flags.DEFINE_integer('hosts', 1, 'nodes', lower_bound=1)
  flags.DEFINE_integer('chips_per_host', 4, 'TPU chips or GPUs of each node', lower_bound=1)
  flags.DEFINE_string('accelerator', 'tpu-v5-lite-podslice', "the nodes' accelerator label")
  flags.DEFINE_string('topology', None, "the nodes' TPU topology label, such as 4x4")
  flags.DEFINE_string('volume', None, 'claim to mount at /runs; without it a restart begins anew')
  flags.DEFINE_integer('restarts', 3, 'failures after which everything starts again', lower_bound=0)
  flags.DEFINE_integer('grace', 120, 'seconds from SIGTERM to SIGKILL', lower_bound=1)
  run(main, __doc__)
