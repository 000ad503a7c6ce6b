r"""Tests the learner of a workdir again: on more episodes, or on another distribution.

  python -m experiments.evaluate --workdir=runs/proto --episodes=10000
  python -m experiments.evaluate --workdir=runs/proto --task=omniglot:ways=20 --name=20way
  python -m experiments.evaluate --workdir=runs/proto --learner=prototypical:protocol=transductive

Test episode i of a seed is the same for every learner: episodes-NAME.npz holds each one's metrics,
for paired comparison with metakit.compare.
"""

from pathlib import Path
from typing import Any

from absl import flags

from experiments.flags import define_common
from experiments.runtime import BAD_INPUT, one_line_errors, run
from experiments.setup import (
  Setup,
  abstract_state,
  check_fits,
  make_optimizer,
  make_setup,
  read_specs,
)
from experiments.testing import check_judges, judges_of, prepare
from experiments.wrap_up import wrap_up
from metakit.checkpoint import checkpoints
from metakit.distributed import check_same
from metakit.objectives import cross_entropy

FLAGS = flags.FLAGS


def main() -> None:
  with one_line_errors(*BAD_INPUT):
    if not FLAGS.workdir:
      raise ValueError('--workdir is missing; give the folder of a run of experiments.train')
    workdir = Path(FLAGS.workdir)
    specs = read_specs(workdir)
    specs['learner'] = same_learner(specs['learner'], FLAGS.learner)
    specs['test_task'] = FLAGS.task or specs['test_task']
    setup = make_setup(specs, FLAGS.data_dir, FLAGS.table_budget_gib, FLAGS.parallel)
    setup = measuring(setup, FLAGS.metric)
    check_fits(setup, ['test'])
    check_judges(setup, setup.test_task)
    check_same(setup.specs, FLAGS.meeting_seconds)
    step, state = restore(setup, specs, workdir, FLAGS.best)
    seed = FLAGS.seed if FLAGS['seed'].present else specs['seed']
    tested = prepare(setup, state.params, setup.test_task, 'test', seed)
    wrap_up(setup, tested, step, workdir, FLAGS.episodes, seed, f'-{FLAGS.name}')


def same_learner(trained: str, asked: str | None) -> str:
  """Returns the learner spec to test: the trained one, or one of the same name.

  Raises:
    ValueError: for a learner of another name, whose parameters mean something else.
  """
  if asked and asked.partition(':')[0] != trained.partition(':')[0]:
    raise ValueError(f'this run trained {trained}; --learner={asked} is another learner')
  if not asked:
    return trained
  return ','.join(filter(None, (trained, asked.partition(':')[2])))  # the later value counts


def measuring(setup: Setup, metric: str | None) -> Setup:
  """Returns the setup with another headline metric.

  Raises:
    ValueError: if it does not exist for the task.
  """
  task = setup.test_task
  classifies = {'accuracy'} if task.objective is cross_entropy else set()
  known = {task.metric, 'loss', *classifies, *judges_of(task)}
  if metric and metric not in known:
    raise ValueError(
      f'--metric={metric} does not exist for {setup.specs["test_task"]}; use one of '
      f'{", ".join(sorted(known))}'
    )
  return setup._replace(test_task=task._replace(metric=metric)) if metric else setup


def restore(
  setup: Setup, specs: dict[str, Any], workdir: Path, best: bool = False
) -> tuple[int, Any]:
  """Returns the step and state of a run's newest whole checkpoint, or of its best.

  Raises:
    ValueError: if there is none.
  """
  learner, optimizer = setup.learner(setup.task), make_optimizer(specs)
  with checkpoints(workdir / 'checkpoints', set_aside=False) as saved:
    found = saved.restore(abstract_state(setup, learner, optimizer), best)
  if found is None:
    raise ValueError(f'{workdir} has no checkpoint yet; train first')
  return found


if __name__ == '__main__':
  define_common()
  flags.DEFINE_string('learner', None, 'learner spec, to test with other arguments')
  flags.DEFINE_bool('best', False, 'the checkpoint of highest validation score, not the newest')
  flags.DEFINE_string('name', 'evaluation', 'suffix of the files that are written')
  flags.DEFINE_string(
    'metric',
    None,
    "headline metric, the task's own by default: accuracy (in a classification), loss, gain (the "
    'last example against the first), mixture_weight (gaussian_mixture), regret (categorical), '
    'likeness_to_descent (in_context:layout=pairs), meta_gradient_cosine (maml and its kin)',
  )
  run(main, __doc__)
