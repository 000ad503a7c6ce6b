"""The teacher of a training: an earlier run of the same network and classes (--teacher)."""

from pathlib import Path
from typing import Any

from experiments.components.class_parts import class_names
from experiments.output.results import read_results
from experiments.runs.setup import Setup, with_defaults
from metakit.components.learners import LEARNER_SUPPLIED, LEARNERS
from metakit.components.specs import parse
from metakit.sources import abstract_episode
from metakit.tasks import training_classes
from metakit.trained import Trained, load

STUDENT = 'pretrained'  # the learner that has a teacher
# Arguments that say what the outputs of its last layer are.
OF_THE_LAYER = 'cosine', 'scale', 'rotations'


def with_teacher(setup: Setup, where: str | None) -> Setup:
  """Returns a setup whose learners learn from the answers of an earlier run too.

  Args:
    setup: the setup of the run.
    where: a workdir, a .safetensors file or a name of the zoo; None or empty for none.

  Raises:
    ValueError: in one line, if there is nothing of these, or it is of another learner, network,
      classes or images.
  """
  if not where:
    return setup
  if parse_learner(setup.specs['learner']).name != STUDENT:
    raise ValueError(
      f'--teacher is for --learner={STUDENT}, which learns from its answers; leave it out'
    )
  trained = load(where, source=setup.task.source('train'))
  check_teacher(setup, trained, where)
  check_same_names(setup, where)
  teacher = lambda: trained.params  # the same value each time, for which programs are compiled once
  taught = lambda task, **overridden: setup.learner(task, teacher=teacher, **overridden)
  return setup._replace(learner=taught, teacher=trained.params)


def parse_learner(spec: str) -> Any:
  """Reads the spec of a learner."""
  return parse('learner', LEARNERS, spec, supplied=LEARNER_SUPPLIED)


def check_teacher(setup: Setup, trained: Trained, where: str) -> None:
  """Raises ValueError unless a trained learner can answer what its student is asked."""
  parts = trained.made_of
  if parts is None or parse_learner(parts.learner).name != STUDENT:
    raise ValueError(f'--teacher={where} is no run of --learner={STUDENT}; train one first')
  theirs, ours = (parse_learner(each).arguments for each in (parts.learner, setup.specs['learner']))
  if theirs['until'] is not None:
    raise ValueError(
      f'--teacher={where} was tuned on episodes, which its last layer was not; use until=none'
    )
  network = with_defaults({'network': parts.network})['network']
  classes = training_classes(setup.task)
  images = abstract_episode(setup.task.source('train')).support.x.shape[1:]
  same = {
    **{name: (theirs[name], ours[name]) for name in OF_THE_LAYER},
    'network': (network, setup.specs['network']),
    'number of training classes': (parts.num_classes, classes and classes()),
    'shape of an example': (tuple(trained.inputs.shape), tuple(images)),
  }
  for what, (there, here) in same.items():
    if there != here:
      raise ValueError(
        f'--teacher={where} is another: its {what} is {there}, and here it is {here}; use a run '
        'with the same'
      )


def check_same_names(setup: Setup, where: str) -> None:
  """Raises ValueError if the record of the teacher names other training classes."""
  path = Path(where).expanduser() / 'results.json'
  if not path.is_file():
    return
  there = read_results(path).get('classes', {}).get('train')
  here = class_names(setup.task, setup.test_task, ['train']).get('train')
  if there is not None and there != here:
    raise ValueError(
      f'--teacher={where} was trained on other classes, as {path} says; use a run on those of '
      f'--task={setup.specs["task"]}'
    )
