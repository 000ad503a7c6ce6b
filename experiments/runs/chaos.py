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
from typing import Any

from absl import flags

from experiments.command_line.runtime import BAD_INPUT, LOST, end_preempted, one_line_errors
from experiments.output.metrics_log import read_metrics
from experiments.output.results import (
  describe_device,
  read_json,
  refuse_other,
  versions,
  write_text,
)
from experiments.runs.wrap_up import command_line
from launch.children import PREEMPTED, Children, children

FLAGS = flags.FLAGS
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


def main() -> None:
  with one_line_errors(*BAD_INPUT), children() as programs:
    workdir = Path(FLAGS.workdir)
    check_stored(workdir / 'chaos.json')
    finish(programs, start(programs, workdir / 'undisturbed'))
    begun = time.monotonic()
    # Its programs were compiled by the first, as those of the following runs are.
    finish(programs, start(programs, workdir / 'again'))
    usual = time.monotonic() - begun
    expected = ending(workdir / 'undisturbed')
    chance, seen = random.Random(FLAGS.seed), Counter[str]()
    for number in range(FLAGS.runs):
      folder = workdir / 'disturbed'
      shutil.rmtree(folder, ignore_errors=True)
      disturb(programs, folder, chance, usual, seen)
      seen['runs that ended differently'] += ending(folder) != expected
      print(f'{number + 1}: {dict(seen)}', flush=True)
    record = {'runs': FLAGS.runs, 'processes': FLAGS.processes, 'seen': dict(sorted(seen.items()))}
    record |= {'training': TRAINING, 'seed': FLAGS.seed, 'command': command_line()}
    record |= {'device': describe_device(), 'versions': versions()}
    write_text(workdir / 'chaos.json', json.dumps(record, indent=2) + '\n')
    if seen['runs that ended differently'] or seen['other exit statuses']:
      sys.exit(1)


def check_stored(path: Path) -> None:
  """Raises ValueError if a record of other runs is stored."""
  setting = {'runs': FLAGS.runs, 'processes': FLAGS.processes, 'seed': FLAGS.seed}
  if path.exists():
    refuse_other(path, read_json(path), setting | {'training': list(TRAINING)}, '--workdir')


def start(programs: Children, folder: Path) -> subprocess.Popen:
  """Starts the training in a folder, as a local pod if it has several processes."""
  train = [sys.executable, '-m', 'experiments.train', *TRAINING, f'--workdir={folder}']
  if FLAGS.processes > 1:
    pod = [sys.executable, '-m', 'launch.local_pod', f'--processes={FLAGS.processes}']
    train = [*pod, '--devices=2', '--grace=20', '--', *train, '--parallel=shard_map']
  folder.parent.mkdir(parents=True, exist_ok=True)
  with open(folder.parent / f'{folder.name}.log', 'w', encoding='utf-8') as log:
    return programs.start(train, stdout=log, stderr=log)


def finish(programs: Children, process: subprocess.Popen) -> int:
  """Waits for the end of a training; returns its exit status."""
  status = process.wait()
  if programs.signals:
    end_preempted('its runs begin anew')
  return status


def disturb(
  programs: Children, folder: Path, chance: random.Random, usual: float, seen: Counter[str]
) -> None:
  """Starts a training until it finishes. It gets a signal in the first start and in some others.

  Args:
    programs: starts the processes, and ends them with this one.
    folder: the folder of the run.
    chance: draws the signals and their times.
    usual: seconds that an undisturbed run takes.
    seen: counts what happened, by name.
  """
  for number_of_start in range(MOST_STARTS):
    process = start(programs, folder)
    left_alone = number_of_start > 0 and chance.random() > HIT_AGAIN
    try:
      process.wait(None if left_alone else chance.uniform(0, 0.9 * usual))
    except subprocess.TimeoutExpired:
      number = chance.choice(SIGNALS)
      seen[f'{number.name} in {phase(folder)}'] += 1
      hit(process, number, chance)
    status = finish(programs, process)
    if status == 0:
      return
    ended = status in (PREEMPTED, LOST, -signal.SIGKILL, 128 + signal.SIGKILL, 134)
    ended = ended or status in (-signal.SIGTERM, 128 + signal.SIGTERM)
    seen['ended with 75' if status == PREEMPTED else 'were killed'] += 1
    seen['other exit statuses'] += not ended
  raise ValueError(f'{folder} did not finish in {MOST_STARTS} starts')


def hit(process: subprocess.Popen, number: signal.Signals, chance: random.Random) -> None:
  """Sends a signal to one process of the training, or to its launcher, which ends all."""
  victims = [process.pid]
  if FLAGS.processes > 1:
    search = ['pgrep', '-P', str(process.pid), '-f', 'experiments.train']  # not its guard
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
