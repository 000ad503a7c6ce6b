"""What --help says: the flags of a binary, its own first, and what every argument means."""

import pytest
from absl import flags

from experiments.command_line.flags import GROUPS
from experiments.command_line.help import KINDS, argument_meanings, help_text
from metakit.components.specs import arguments_of


@pytest.mark.parametrize('kind', KINDS, ids=lambda kind: kind.title)
def test_every_argument_of_every_component_has_a_meaning(kind):
  for name, factory in kind.factories.items():
    said = argument_meanings(name, factory)
    unsaid = [a for a in arguments_of(factory, kind.supplied) if not said.get(a)]
    assert not unsaid, (name, unsaid)


@pytest.fixture
def text():
  values, module = flags.FlagValues(), {'module_name': 'experiments.bake'}
  flags.DEFINE_integer('eggs', 3, 'of a cake', flag_values=values, **module)
  flags.DEFINE_integer('steps', 800, 'meta-training steps', flag_values=values, **module)
  flags.DEFINE_string('learner', 'maml', 'learner spec', flag_values=values, **module)
  flags.DEFINE_bool('orbax_only', False, '', flag_values=values, module_name='orbax')
  return help_text('Bakes a cake.', values, GROUPS)


def test_the_flags_of_a_binary_come_before_those_it_shares_and_components_last(text):
  order = ['Bakes a cake.', '--eggs=3', '--learner=maml', '--steps=800', 'learners (--learner)']
  places = [text.index(each) for each in order]
  assert places == sorted(places)
  assert 'orbax_only' not in text


def test_components_that_no_flag_names_are_left_out(text):
  assert 'networks (' not in text and 'tasks (' not in text


def test_an_argument_stands_beside_its_default_and_its_meaning(text):
  _, _, learners = text.partition('learners (--learner)')
  said = 'C, of the summed cross-entropy'
  assert '\n  logistic:protocol=inductive,how=un,losses=none,strength=1.0' in learners
  assert said in learners.partition('\n  logistic:')[2].partition('\n  mahalanobis:')[0]
  once = 'gradient steps in meta-training.'
  assert learners.count(once) == 1  # of many learners: said once for all
