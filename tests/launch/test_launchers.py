"""Launchers: what a dry run prints, word for word, and what they do with faked programs."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest

from launch import gke, slurm
from launch.common import Refused, check_name
from launch.tpu_vm import hosts

REPOSITORY = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / 'golden'
COMMAND = ['--', 'python', '-m', 'experiments.train', '--workdir=runs/a b']
RECIPES = {
  'local_pod': ['--processes=2', '--devices=4', '--port=9000'],
  'slurm': ['--nodes=2', '--tasks_per_node=8', '--gpus_per_task=1', '--partition=a100'],
  'tpu_vm': ['--name=maml', '--type=v5litepod-16', '--zone=us-west4-a', '--spot', '--delete'],
  'gke': [
    '--name=maml',
    '--image=registry/metakit',
    '--hosts=4',
    '--topology=4x4',
    '--volume=runs',
  ],
}


def launch(name, *arguments, path=None, **options):
  environment = os.environ | {'XLA_FLAGS': ''} | ({'PATH': f'{path}'} if path else {})
  command = [sys.executable, '-m', f'launch.{name}', *arguments]
  folder = {'cwd': options.pop('cwd', REPOSITORY)}
  environment['PYTHONPATH'] = str(REPOSITORY)
  return subprocess.run(
    command, capture_output=True, text=True, env=environment, timeout=120, **folder, **options
  )


@pytest.mark.parametrize('name', RECIPES)
def test_a_dry_run_prints_the_golden_recipe_and_touches_nothing(name, tmp_path):
  """Without any program on the PATH, in an empty folder that stays empty."""
  done = launch(name, *RECIPES[name], '--dry_run', *COMMAND, path=tmp_path, cwd=tmp_path)
  assert (done.returncode, done.stderr) == (0, '')
  assert done.stdout == (GOLDEN / f'{name}.txt').read_text()
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('name', RECIPES)
def test_without_a_command_nothing_is_started(name):
  done = launch(name, *RECIPES[name])
  assert done.returncode == 1
  assert done.stderr.startswith('error: no command; give one after --')


@pytest.mark.parametrize('name', ['slurm', 'tpu_vm', 'gke'])
def test_a_missing_program_is_named(name, tmp_path):
  done = launch(name, *RECIPES[name], *COMMAND, path=tmp_path / 'none', cwd=tmp_path)
  assert done.returncode == 1
  assert 'is not installed; install it, or look at --dry_run' in done.stderr


def test_a_batch_file_of_another_job_is_not_overwritten(tmp_path):
  (tmp_path / 'metakit.sbatch').write_text('another')
  done = launch('slurm', *RECIPES['slurm'], *COMMAND, path=tmp_path, cwd=tmp_path)
  assert done.returncode == 1
  assert 'metakit.sbatch exists and differs' in done.stderr
  assert (tmp_path / 'metakit.sbatch').read_text() == 'another'


def fake(folder, name, code):
  """Puts a Python program on a PATH of its own."""
  path = folder / 'bin' / name
  path.parent.mkdir(exist_ok=True)
  path.write_text(f'#!{sys.executable}\nimport json, os, sys\nfrom pathlib import Path\n{code}')
  path.chmod(path.stat().st_mode | stat.S_IEXEC)
  return path.parent


# Answers from a script, one state a look, and notes what it was asked to do.
GCLOUD = """
here = Path(os.environ['SCRIPT'])
script = json.loads(here.read_text())
what = [a for a in sys.argv if a in ('create', 'delete', 'describe', 'ssh')][0]
if 'queued-resources' in sys.argv and what == 'describe':
  state = script['states'].pop(0)
  print(state or '')
  status = 0 if state else 1
elif what == 'describe':
  hosts = [{'ipAddress': f'10.0.0.{i}'} for i in range(script['hosts'])]
  print(json.dumps({'networkEndpoints': hosts}))
  status = 0
else:
  script['done'].append(what)
  status = script['statuses'].pop(0) if what == 'ssh' else 0
here.write_text(json.dumps(script))
sys.exit(status)
"""


def play(tmp_path, states, statuses, *more, hosts=4):
  script = tmp_path / 'script.json'
  script.write_text(
    json.dumps({'states': states, 'statuses': statuses, 'done': [], 'hosts': hosts})
  )
  path = fake(tmp_path, 'gcloud', GCLOUD)
  os.environ['SCRIPT'] = str(script)
  given = ['--name=maml', '--type=v5litepod-16', '--zone=z', '--poll_seconds=0', *more]
  done = launch('tpu_vm', *given, *COMMAND, path=path)
  return done, json.loads(script.read_text())['done']


def test_a_ready_machine_runs_the_command_and_its_status_is_passed_on(tmp_path):
  done, steps = play(tmp_path, ['ACTIVE'], [0])
  assert (done.returncode, steps) == (0, ['ssh']), done.stderr
  done, steps = play(tmp_path, ['READY', 'READY'], [3])
  assert (done.returncode, steps) == (3, ['ssh'])


def test_a_machine_that_is_not_there_is_asked_for_and_waited_for(tmp_path):
  done, steps = play(tmp_path, [None, 'WAITING_FOR_RESOURCES', 'PROVISIONING', 'ACTIVE'], [0])
  assert (done.returncode, steps) == (0, ['create', 'ssh'])


@pytest.mark.parametrize('lost', ['SUSPENDED', 'FAILED'])
def test_a_lost_machine_is_deleted_and_created_and_the_command_goes_on(lost, tmp_path):
  states = ['ACTIVE', lost, lost, 'PROVISIONING', 'ACTIVE']
  done, steps = play(tmp_path, states, [255, 0])
  assert (done.returncode, steps) == (0, ['ssh', 'delete', 'create', 'ssh'])


def test_a_run_that_was_told_to_end_is_started_again_without_being_counted(tmp_path):
  done, steps = play(tmp_path, ['ACTIVE'] * 6, [75, 75, 0])
  assert (done.returncode, steps) == (0, ['ssh'] * 3)


def test_failures_are_tried_again_as_often_as_allowed(tmp_path):
  done, steps = play(tmp_path, ['ACTIVE'] * 6, [9, 9, 9], '--attempts=1')
  assert (done.returncode, steps) == (9, ['ssh'] * 2)


def test_a_wrong_number_of_hosts_is_refused(tmp_path):
  done, steps = play(tmp_path, ['ACTIVE'], [0], hosts=2)
  assert (done.returncode, steps) == (1, [])
  assert 'has 2 hosts, but a v5litepod-16 has 4' in done.stderr


@pytest.mark.parametrize(('number', 'status'), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_machine_is_given_back_after_a_refusal_and_an_interruption(number, status, tmp_path):
  done, steps = play(tmp_path, ['ACTIVE'], [0], '--delete', hosts=2)
  assert (done.returncode, steps) == (1, ['delete'])
  script = tmp_path / 'script.json'
  script.write_text(json.dumps({'states': ['ACTIVE'], 'statuses': [], 'done': [], 'hosts': 4}))
  command = [sys.executable, '-m', 'launch.tpu_vm', '--name=maml', '--type=v5litepod-16']
  command += ['--zone=z', '--delete', *COMMAND]
  path = fake(tmp_path, 'gcloud', GCLOUD.replace("pop(0) if what == 'ssh'", "pop(0) if ''"))
  waits = f'#!/bin/sh\ncase $4 in ssh) touch {tmp_path}/ssh; sleep 60;; esac\nexec {path}/real $@\n'
  (path / 'gcloud').rename(path / 'real')
  (path / 'gcloud').write_text(waits)
  (path / 'gcloud').chmod(0o755)
  environment = os.environ | {'PATH': f'{path}:{os.environ["PATH"]}', 'SCRIPT': str(script)}
  with subprocess.Popen(
    command, env=environment, cwd=REPOSITORY, stderr=subprocess.PIPE
  ) as process:
    while not (tmp_path / 'ssh').exists():
      assert process.poll() is None
      time.sleep(0.02)
    process.send_signal(number)
    said = process.communicate(timeout=30)[1].decode()
  assert (process.returncode, said) == (status, f'ended by {number.name}\n')
  assert json.loads(script.read_text())['done'] == ['delete']


@pytest.mark.parametrize('option', ['job_name', 'partition', 'time', 'gpus_per_task'])
def test_no_value_becomes_a_line_of_a_batch_file(option):
  write = lambda value: slurm.batch_file(
    ['x'], 1, 'logs', seconds_ahead=120, options={option: value}
  )
  with pytest.raises(Refused, match=rf'--{option}=.* not printed'):
    write('a\nscancel --me')
  with pytest.raises(Refused, match='quote or backslash'):
    write("a' --wrap=b")
  assert f"#SBATCH --{option.replace('_', '-')}='a b # c'\n" in write('a b # c')


@pytest.mark.parametrize(
  'name', ['Maml', '-maml', 'maml-', 'a b', 'a;b', 'a\n', '1a', '', 'm' * 64]
)
def test_a_name_that_is_no_label_is_refused(name):
  with pytest.raises(Refused, match=r'--name=.* is not a valid name'):
    check_name('--name', name)
  assert check_name('--name', 'maml-1') == 'maml-1'


WRONG = {
  'gke': ['--name=a_b', '--topology=4*4', '--volume=A', '--image=a b', f'--name={"a" * 50}'],
  'tpu_vm': ['--name=a_b', '--type=v4', '--zone=a b', '--project=--x'],
}


@pytest.mark.parametrize('name', WRONG)
def test_wrong_values_are_refused_before_anything_is_made(name, tmp_path):
  for program in ('gcloud', 'kubectl'):
    path = fake(tmp_path, program, f'Path({str(tmp_path / "made")!r}).touch()')
  for wrong in WRONG[name]:
    done = launch(name, *RECIPES[name], wrong, *COMMAND, path=path)
    assert done.returncode == 1 and wrong.split('=')[0] in done.stderr, (wrong, done.stderr)
  assert not (tmp_path / 'made').exists()


def manifest(command, limits, nodes, *, volume):
  sizes = {'hosts': 4, 'restarts': 3, 'grace': 120}
  places = {'limits': limits, 'nodes': nodes, 'volume': volume}
  return gke.manifest(command, name='maml', image='image', **sizes, **places)


def test_kubernetes_leaves_the_command_as_it_is():
  job = manifest(['echo', '$(METAKIT_TOKEN) $$'], {}, {}, volume=None)['spec']['replicatedJobs'][0][
    'template'
  ]['spec']
  command = job['template']['spec']['containers'][0]['command']
  assert command[-1] == "exec echo '$$(METAKIT_TOKEN) $$$$'"


HOSTS = {'v2-8': 1, 'v3-32': 4, 'v4-8': 1, 'v4-32': 4, 'v5p-256': 32, 'v5litepod-8': 1}
HOSTS |= {'v5litepod-256': 64, 'v6e-8': 1, 'v6e-16': 4}


@pytest.mark.parametrize(('kind', 'number'), HOSTS.items())
def test_hosts_of_known_types(kind, number):
  """As listed in the documentation of Cloud TPU."""
  assert hosts(kind) == number


def test_an_unknown_type_is_refused():
  with pytest.raises(Refused, match='--type=tpu9-4 is unknown'):
    hosts('tpu9-4')


@pytest.mark.parametrize('status', [0, 1])
def test_kubectl_gets_the_manifest(status, tmp_path):
  code = f'Path({str(tmp_path / "got")!r}).write_text(sys.stdin.read())\nsys.exit({status})'
  path = fake(tmp_path, 'kubectl', code)
  done = launch('gke', *RECIPES['gke'], *COMMAND, path=path)
  assert done.returncode == status
  golden = (GOLDEN / 'gke.txt').read_text().rpartition('kubectl apply')[0]
  assert json.loads((tmp_path / 'got').read_text()) == json.loads(golden)


def test_the_manifest_is_a_job_set():
  schema = json.loads((Path(__file__).parent / 'jobset_schema.json').read_text())
  for volume, topology, accelerator in ((None, None, 'nvidia-l4'), ('c', '4x4', 'tpu-v6e-slice')):
    nodes = gke.selector(accelerator, topology)
    limits = gke.resources(accelerator, 4)
    wrong = manifest(['python', '-m', 'x'], limits, nodes, volume=volume)
    jsonschema.validate(wrong, schema)
  wrong['spec']['failurePolicy']['rules'][0]['action'] = 'Restart'
  with pytest.raises(jsonschema.ValidationError, match='RestartJobSetAndIgnoreMaxRestarts'):
    jsonschema.validate(wrong, schema)


def test_nodes_and_resources_have_their_accelerators_names():
  assert gke.selector('nvidia-l4', None) == {'cloud.google.com/gke-accelerator': 'nvidia-l4'}
  assert gke.resources('nvidia-l4', 8) == {'nvidia.com/gpu': '8'}
  assert gke.selector('tpu-v6e-slice', '2x4') == {
    'cloud.google.com/gke-tpu-accelerator': 'tpu-v6e-slice',
    'cloud.google.com/gke-tpu-topology': '2x4',
  }
  assert gke.resources('tpu-v6e-slice', 4) == {'google.com/tpu': '4'}


SAY = "import os, sys; r = os.environ['METAKIT_PROCESS_ID']; print('I am', r, flush=True); "


def pod(code, *given, **options):
  return launch('local_pod', '--processes=3', *given, '--', sys.executable, '-c', SAY + code)


def test_lines_of_a_local_pod_carry_their_number():
  done = pod("print(os.environ['XLA_FLAGS'][-1], os.environ['METAKIT_NUM_PROCESSES'])")
  assert done.returncode == 0
  expected = [f'[{rank}] {said}' for rank in range(3) for said in (f'I am {rank}', '4 3')]
  assert sorted(done.stdout.splitlines()) == sorted(expected)


def test_lines_in_any_encoding_of_any_length_are_copied():
  code = "import sys; sys.stdout.buffer.write(bytes([255, 10]) + b'a' * 200_000)"
  command = [sys.executable, '-m', 'launch.local_pod', '--processes=1', '--', sys.executable]
  done = subprocess.run([*command, '-c', code], capture_output=True, cwd=REPOSITORY, timeout=60)
  assert done.returncode == 0, done.stderr
  assert done.stdout.startswith(b'[0] \xff\n[0] aaa') and done.stdout.count(b'a') == 200_000


def test_the_first_failure_ends_all():
  begun = time.monotonic()
  done = pod("import time; time.sleep(0.5 if r == '1' else 60); sys.exit(7)")
  assert done.returncode == 7
  assert time.monotonic() - begun < 30


def test_a_process_that_does_not_end_is_killed():
  ignore = 'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); '
  done = pod(ignore + "time.sleep(1 if r == '0' else 60); sys.exit(5)", '--grace=1')
  assert done.returncode == 5


def test_a_signal_is_passed_on():
  ends = 'import signal, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(75)); '
  command = [sys.executable, '-m', 'launch.local_pod', '--', sys.executable, '-c']
  code = SAY + ends + "print('ready', flush=True); time.sleep(60)"
  with subprocess.Popen(
    [*command, code], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
  ) as process:
    for _ in range(4):
      process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 75


def test_a_launcher_loads_no_jax():
  """It starts at once, and gives its programs no flags of XLA."""
  program = (
    'import sys, launch.gke, launch.local_pod, launch.slurm, launch.tpu_vm; '
    'assert not {"jax", "metakit"} & sys.modules.keys()'
  )
  assert subprocess.run([sys.executable, '-c', program], cwd=REPOSITORY).returncode == 0
