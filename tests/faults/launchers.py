"""Faults in launchers."""

from tests.faults.fault import Fault

TESTS = 'launch/test_launchers.py::'
GOLDEN = f'{TESTS}test_a_dry_run_prints_the_golden_recipe_and_touches_nothing'

FAULTS = (
  Fault(
    'a batch job ends with the status of its last command',
    'launch/slurm.py',
    """      'exit "$status"',\n""",
    '',
    f'{GOLDEN}[slurm]',
  ),
  Fault(
    'a value of sbatch is not quoted',
    'launch/slurm.py',
    'return shlex.quote(text)',
    'return text',
    f'{TESTS}test_no_value_becomes_a_line_of_a_batch_file[job_name]',
  ),
  Fault(
    'the command on a TPU VM is not quoted',
    'launch/tpu_vm.py',
    'exec {shlex.join(command)}',
    'exec {" ".join(command)}',
    f'{GOLDEN}[tpu_vm]',
  ),
  Fault(
    'a run that was told to end counts as a failure',
    'launch/tpu_vm.py',
    'in USABLE and status != PREEMPTED):',
    'in USABLE):',
    f'{TESTS}test_a_run_that_was_told_to_end_is_started_again_without_being_counted',
  ),
  Fault(
    'the largest machine of one host has several',
    'launch/tpu_vm.py',
    'return 1 if int(size) <= alone else int(size) // each',
    'return 1 if int(size) < alone else int(size) // each',
    f'{TESTS}test_hosts_of_known_types',
  ),
  Fault(
    'Kubernetes reads variables in a command',
    'launch/gke.py',
    ".replace('$', '$$')",
    '',
    f'{TESTS}test_kubernetes_leaves_the_command_as_it_is',
  ),
  Fault(
    'the status of kubectl is lost',
    'launch/gke.py',
    'return call(APPLY, input=text).returncode',
    'return call(APPLY, input=text).returncode * 0',
    f'{TESTS}test_kubectl_gets_the_manifest[1]',
  ),
  Fault(
    'the status of a pod is lost',
    'launch/local_pod.py',
    'return status if status > 0 else 128 - status',
    'return 1 if status > 0 else 128 - status',
    f'{TESTS}test_the_first_failure_ends_all',
  ),
  Fault(
    'all processes of a pod have one number',
    'launch/local_pod.py',
    "'METAKIT_PROCESS_ID': str(rank),",
    "'METAKIT_PROCESS_ID': str(0),",
    f'{GOLDEN}[local_pod]',
  ),
  Fault(
    'who was told to end says that all was well',
    'launch/children.py',
    'return PREEMPTED if programs.signals else status',
    'return status',
    'launch/test_children.py::test_the_status_of_a_child_is_passed_on',
  ),
)
