r"""Kills and resumes a training again and again, and compares how it ends.

  python -m experiments.chaos --runs=100 --workdir=runs/chaos
  python -m experiments.chaos --runs=20 --processes=2 --workdir=runs/chaos_pod

Each run gets SIGKILL or SIGTERM at a random moment: in start-up, compilation, steps, saves, or the
test. The signal goes to one process or to all. The run is started again, and may get a signal
again, until it finishes. Its parameters and metrics must then be bit by bit those of a run without
signals. The result is written to chaos.json.
"""

from absl import flags

from experiments.command_line.flags import options_of_flags
from experiments.command_line.runtime import run
from experiments.runs.chaos import Options, chaos

if __name__ == '__main__':
  flags.DEFINE_string('workdir', 'runs/chaos', 'folder for the runs and chaos.json')
  flags.DEFINE_integer('runs', 100, 'disturbed runs', lower_bound=1)
  flags.DEFINE_integer('processes', 1, 'processes of each run', lower_bound=1)
  flags.DEFINE_integer('seed', 0, 'names the random moments', lower_bound=0)
  run(lambda: chaos(options_of_flags(Options)), __doc__)
