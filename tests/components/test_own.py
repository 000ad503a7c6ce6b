"""Components of a user's own in specs: package.module:factory."""

import pytest

from experiments.components.tasks import TASK_SUPPLIED, TASKS
from experiments.runs.evaluate import same_learner
from experiments.runs.setup import make_setup, with_defaults
from metakit.components.learners import LEARNER_SUPPLIED, LEARNERS, NETWORK_SUPPLIED, NETWORKS
from metakit.components.specs import build, parse
from metakit.models import Model
from metakit.tasks import Task

MODULE = '''
from experiments.components.sequence_tasks import sinusoid_task
from metakit.learners import prototypical
from metakit.networks import mlp, transformer


def drawn(shots: int = 3) -> object:
  """Waves."""
  return sinusoid_task(shots=shots)


def near(network, num_outputs: int, scale: float = 1.0):
  return prototypical(network(None), max(num_outputs, 2))


def wide(num_outputs, width: int = 16):
  return mlp(num_outputs, width=width)


def reads(num_outputs):
  return transformer(num_outputs, width=8, depth=1)


def hungry(appetite):
  return None


def wrong(num_outputs=1):
  return 'nothing'


number = 5
'''
SPECS = {
  'task': 'ours.made:drawn:shots=4',
  'test_task': None,
  'learner': 'ours.made:near',
  'network': 'ours.made:wide:width=8',
  'optimizer': 'adam',
  'schedule': 'cosine',
  'clip_norm': 0.0,
  'steps': 2,
  'tasks_per_step': 1,
  'seed': 0,
}


@pytest.fixture(autouse=True)
def ours(tmp_path, monkeypatch):
  (tmp_path / 'ours').mkdir()
  (tmp_path / 'ours' / 'made.py').write_text(MODULE)
  (tmp_path / 'ours' / 'broken.py').write_text('import nothing_of_this_name\n')
  (tmp_path / 'alone.py').write_text(MODULE)
  monkeypatch.syspath_prepend(tmp_path)


def test_a_run_of_ones_own_components_is_set_up_and_its_specs_are_read_back():
  setup = make_setup(SPECS, None, 1.0)
  assert isinstance(setup.task, Task) and setup.task.num_outputs == 1
  assert setup.specs['learner'] == 'ours.made:near:scale=1.0'
  assert setup.specs['network'] == 'ours.made:wide:width=8'
  assert with_defaults(setup.specs) == setup.specs
  assert setup.learner(setup.task).protocol == 'inductive'
  assert setup.specs['task'] == setup.specs['test_task'] == 'ours.made:drawn:shots=4'


def test_a_module_of_one_file_and_a_network_of_sequences_for_a_learner_of_them():
  component = parse('network', NETWORKS, 'alone:wide', supplied=NETWORK_SUPPLIED)
  assert isinstance(build(component, num_outputs=3), Model)
  pairs = SPECS | {'learner': 'in_context', 'network': 'ours.made:reads'}
  dense = pairs | {'task': 'dense:dim=2,shots=3'}
  assert make_setup(dense, None, 1.0).specs['network'] == 'ours.made:reads'
  with pytest.raises(ValueError, match='cannot use network'):
    make_setup(dense | {'network': 'ours.made:wide'}, None, 1.0)


def test_a_learner_of_ones_own_is_tested_with_other_arguments():
  trained = 'ours.made:near:scale=1.0'
  assert same_learner(trained, 'ours.made:near:scale=2.0') == f'{trained},scale=2.0'
  with pytest.raises(ValueError, match='is another learner'):
    same_learner(trained, 'ours.made:other')


@pytest.mark.parametrize(
  ('spec', 'message'),
  {
    'ours.made:missing': 'module ours.made has no function missing',
    'ours.made:number': 'module ours.made has no function number',
    'ours.gone:near': r'there is no module ours\.gone; give package\.module:factory',
    'not_there.made:near': 'there is no module not_there; give',
    'ours.broken:near': r"ours\.broken cannot be imported \(No module named 'nothing_of_this_name'",
    'ours.made:hungry': "nothing gives its parameter 'appetite'; give it a default",
    'ours.made:near:width=3': "has no argument 'width'; accepted: scale=1.0",
    'ours.made:near:scale=a': 'is not of type float',
    'prototipical:near': "unknown learner 'prototipical'; known: ",
  }.items(),
)
def test_what_is_wrong_is_said_in_one_line(spec, message):
  with pytest.raises(ValueError, match=message) as caught:
    parse('learner', LEARNERS, spec, supplied=LEARNER_SUPPLIED)
  assert '\n' not in str(caught.value)


def test_what_is_no_component_is_refused_when_it_is_made():
  for kind, known, supplied in (
    ('task', TASKS, TASK_SUPPLIED),
    ('network', NETWORKS, NETWORK_SUPPLIED),
  ):
    component = parse(kind, known, 'ours.made:wrong', supplied=supplied)
    with pytest.raises(ValueError, match=rf'{kind} ours.made:wrong returned str; return a '):
      build(component, **({'num_outputs': 2} if kind == 'network' else {}))
