"""Kills and resumes a training, and compares how it ends: experiments/chaos.py."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from experiments.command_line.runtime import BAD_INPUT, LOST, end_preempted, one_line_errors
from experiments.output.machine import describe_device, versions
from experiments.output.metrics_log import read_metrics
from experiments.output.results import read_json, refuse_other
from experiments.runs.wrap_up import command_line
from launch.children import PREEMPTED, Children, children
from metakit.files import write_text

STEPS = 60
TRAINING = (
  '--task=glyphs:ways=3,shots=1,queries=3',
  '--network=conv4:width=4,depth=2',
  f'--steps={STEPS}',
  '--tasks_per_step=4',
  '--steps_per_dispatch=4',
  '--save_every=10',
  '--save_minutes=0.02',
  '--validate_every=30',
  '--validation_episodes=8',
  '--episodes=4',
)
SIGNALS = signal.SIGKILL, signal.SIGTERM
MOST_STARTS = 200
HIT_AGAIN = 1 / 3  # the probability of a signal in each start after the first


class Options(NamedTuple):
  """The flags of the command, by their names."""

  workdir: str
  runs: int
  processes: int
  seed: int


class Trainings(NamedTuple):
  """Starts trainings.

  Attributes:
    children: starts processes, and ends them with this one.
    processes: how many processes a training has.
  """

  children: Children
  processes: int


def chaos(options: Options) -> None:
  """Disturbs the runs, and writes how often they ended differently."""
  with one_line_errors(*BAD_INPUT), children() as started:
    workdir, trainings = Path(options.workdir), Trainings(started, options.processes)
    check_stored(workdir / 'chaos.json', options)
    finish(trainings, start(trainings, workdir / 'undisturbed'))
    begun = time.monotonic()
    # Its programs were compiled by the first, as those of the following runs are.
    finish(trainings, start(trainings, workdir / 'again'))
    usual = time.monotonic() - begun
    expected = ending(workdir / 'undisturbed')
    chance, seen = random.Random(options.seed), Counter[str]()
    for number in range(options.runs):
      folder = workdir / 'disturbed'
      shutil.rmtree(folder, ignore_errors=True)
      disturb(trainings, folder, chance, usual=usual, seen=seen)
      seen['runs that ended differently'] += ending(folder) != expected
      print(f'{number + 1}: {dict(seen)}', flush=True)
    write_text(workdir / 'chaos.json', json.dumps(record_of(options, seen), indent=2) + '\n')
    if seen['runs that ended differently'] or seen['other exit statuses']:
      sys.exit(1)


def record_of(options: Options, seen: Counter[str]) -> dict[str, Any]:
  """Returns what is stored."""
  record: dict[str, Any] = {'runs': options.runs, 'processes': options.processes}
  record |= {'seen': dict(sorted(seen.items())), 'training': TRAINING, 'seed': options.seed}
  return record | {
    'command': command_line(),
    'device': describe_device(),
    'versions': versions(),
  }


def check_stored(path: Path, options: Options) -> None:
  """Raises ValueError if a record of other runs is stored."""
  setting = {'runs': options.runs, 'processes': options.processes, 'seed': options.seed}
  if path.exists():
    refuse_other(path, read_json(path), setting | {'training': list(TRAINING)}, remedy='--workdir')


def start(trainings: Trainings, folder: Path) -> subprocess.Popen:
  """Starts the training in a folder, as a local pod if it has several processes."""
  train = [sys.executable, '-m', 'experiments.train', *TRAINING, f'--workdir={folder}']
  if trainings.processes > 1:
    pod = [sys.executable, '-m', 'launch.local_pod', f'--processes={trainings.processes}']
    train = [*pod, '--devices=2', '--grace=20', '--', *train, '--parallel=shard_map']
  folder.parent.mkdir(parents=True, exist_ok=True)
  with open(folder.parent / f'{folder.name}.log', 'w', encoding='utf-8') as log:
    return trainings.children.start(train, stdout=log, stderr=log)


def finish(trainings: Trainings, process: subprocess.Popen) -> int:
  """Waits for the end of a training; returns its exit status."""
  status = process.wait()
  if trainings.children.signals:
    end_preempted('its runs begin anew')
  return status


def disturb(
  trainings: Trainings, folder: Path, chance: random.Random, *, usual: float, seen: Counter[str]
) -> None:
  """Starts a training until it finishes. It gets a signal in the first start and in some others.

  Args:
    trainings: starts the training.
    folder: the folder of the run.
    chance: draws the signals and their times.
    usual: seconds that an undisturbed run takes.
    seen: counts what happened, by name.
  """
  for number_of_start in range(MOST_STARTS):
    process = start(trainings, folder)
    left_alone = number_of_start > 0 and chance.random() > HIT_AGAIN
    try:
      process.wait(None if left_alone else chance.uniform(0, 0.9 * usual))
    except subprocess.TimeoutExpired:
      number = chance.choice(SIGNALS)
      seen[f'{number.name} in {phase(folder)}'] += 1
      hit(process, number, chance, alone=trainings.processes == 1)
    status = finish(trainings, process)
    if status == 0:
      return
    ended = status in (PREEMPTED, LOST, -signal.SIGKILL, 128 + signal.SIGKILL, 134)
    ended = ended or status in (-signal.SIGTERM, 128 + signal.SIGTERM)
    seen['ended with 75' if status == PREEMPTED else 'were killed'] += 1
    seen['other exit statuses'] += not ended
  raise ValueError(f'{folder} did not finish in {MOST_STARTS} starts')


def hit(
  process: subprocess.Popen, number: signal.Signals, chance: random.Random, *, alone: bool
) -> None:
  """Sends a signal to one process of the training, or to its launcher, which ends all processes.

  Args:
    process: the training, or its launcher.
    number: the signal.
    chance: draws which process gets it.
    alone: whether the training has one process, and no launcher.
  """
  victims = [process.pid]
  if not alone:
    search = ['pgrep', '-P', str(process.pid), '-f', 'experiments.train']  # leaves out the guard
    pids = subprocess.run(search, capture_output=True, text=True, check=False).stdout.split()
    children = [int(child) for child in pids]
    if children and chance.random() < 0.5:
      victims = [chance.choice(children)]
    elif number == signal.SIGKILL:  # the launcher cannot pass it on
      victims = [*children, process.pid]
  for victim in victims:
    subprocess.run(['kill', f'-{int(number)}', str(victim)], check=False, capture_output=True)


def phase(folder: Path) -> str:
  """Returns what a training was doing, judged by the files that it has written."""
  if (folder / 'results.json').exists():
    return 'the end'
  lines = read_metrics(folder) if folder.exists() else []
  if not lines:
    return 'start-up or compilation'
  return 'the test' if lines[-1]['step'] == STEPS else 'training, saves or validation'


def ending(folder: Path) -> dict[str, Any]:
  """Returns what must not differ: the checksums of the last state's arrays, and all metrics."""
  last = max((folder / 'checkpoints').glob('*.json'), key=lambda path: int(path.stem))
  arrays = json.loads(last.read_text(encoding='utf-8'))['arrays']
  return {'step': last.stem, 'arrays': arrays, 'metrics': read_metrics(folder)}
