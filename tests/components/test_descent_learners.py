"""Learners by gradient descent as components: what a spec says, and what the library is told."""

import pytest

from metakit import Descent, Model, cross_entropy, squared_error
from metakit.components.descent_learners import (
  BY_DESCENT,
  component,
  descent_of,
  usual_of,
)
from metakit.components.learners import LEARNER_SUPPLIED, LEARNERS
from metakit.components.specs import build, parse
from metakit.networks import conv4

# As specs of earlier versions were stored: the names, their order and the usual values.
STORED = {
  'maml': 'inner_optimizer=sgd,inner_learning_rate=0.4,inner_steps=1,test_steps=none,mode=unroll,'
  'protocol=none,inner_batch=0',
  'anil': 'inner_optimizer=sgd,inner_learning_rate=0.1,inner_steps=5,test_steps=none,mode=unroll,'
  'protocol=inductive,inner_batch=0',
  'cavia': 'context_size=5,inner_optimizer=sgd,inner_learning_rate=1.0,inner_steps=1,'
  'test_steps=none,mode=unroll,protocol=none,inner_batch=0',
  'fine_tuning': 'inner_optimizer=sgd,inner_learning_rate=0.01,test_steps=100,tuned=all,'
  'protocol=none,inner_batch=0',
  'imaml': 'inner_optimizer=sgd,inner_learning_rate=0.1,proximal=2.0,inner_steps=16,'
  'test_steps=none,mode=implicit,protocol=none',
  'maml_plus_plus': 'initial_rate=0.1,inner_steps=5,test_steps=none,mode=unroll_all,protocol=none,'
  'multi_step_until=0,first_order_until=0',
  'meta_curvature': 'inner_learning_rate=0.1,inner_steps=1,test_steps=none,mode=unroll,'
  'protocol=none,inner_batch=0',
  'reptile': 'inner_optimizer=sgd,inner_learning_rate=0.1,inner_steps=5,test_steps=50,'
  'inner_batch=10,protocol=none',
}


@pytest.mark.parametrize('name', STORED)
def test_specs_are_written_as_they_were_stored(name):
  assert (
    str(parse('learner', BY_DESCENT, name, supplied=LEARNER_SUPPLIED)) == f'{name}:{STORED[name]}'
  )


def test_a_spec_makes_a_descent_and_leaves_the_arguments_of_the_learner():
  spec = 'reptile:inner_steps=3,test_steps=7,inner_batch=2,protocol=inductive'
  given = parse('learner', BY_DESCENT, spec, supplied=LEARNER_SUPPLIED).arguments
  descent = descent_of(given)
  assert given == {'protocol': 'inductive'}
  assert (descent.steps, descent.test_steps, descent.batch, descent.mode) == (3, 7, 2, None)
  assert descent.optimizer is not None
  given = parse(
    'learner', BY_DESCENT, 'fine_tuning:test_steps=0', supplied=LEARNER_SUPPLIED
  ).arguments
  assert descent_of(given).steps_of_adapt == 0


def near(
  embedding: Model,
  ways: int,
  scale: float = 2.0,
  *,
  objective=cross_entropy,
  statistics: str = 'training',
):
  """Tells classes apart."""
  return embedding, ways, scale, statistics


def descends(
  model: Model, descent: Descent, pull: float = 1.0, *, objective=cross_entropy, statistics=None
):
  """Learns a start."""
  return model, descent.steps, pull, statistics


def with_own_rate(model: Model, descent=Descent(steps=3), rate: float = 0.5, *, objective=None):  # noqa: B008
  """Learns a rate."""
  return model, descent.steps, rate


@pytest.mark.parametrize(
  ('make', 'written', 'given', 'made'),
  [
    (near, 'scale=2.0,protocol=inductive', 'scale=3', (None, 5, 3.0, 'training')),
    (near, 'scale=2.0,protocol=inductive', 'protocol=transductive', (None, 5, 2.0, 'episode')),
    (
      descends,
      'pull=1.0,inner_optimizer=sgd,inner_learning_rate=0.1,inner_steps=1,test_steps=none,'
      'mode=unroll,protocol=none,inner_batch=0',
      'pull=2,inner_steps=4',
      (5, 4, 2.0, None),
    ),
    (
      with_own_rate,
      'rate=0.5,inner_steps=3,test_steps=none,mode=unroll,inner_batch=0',
      'rate=1',
      (5, 3, 1.0),
    ),
  ],
)
def test_a_new_learner_is_described_by_its_signature(make, written, given, made):
  """Its network has outputs if it takes a `model`, and none if it takes an `embedding`."""
  new = {'new': component(make, usual_of(make))}
  assert str(parse('learner', new, 'new', supplied=LEARNER_SUPPLIED)) == f'new:{written}'
  spec = parse('learner', new, f'new:{given}', supplied=LEARNER_SUPPLIED)
  network = lambda outputs: outputs
  assert build(spec, network=network, num_outputs=5, objective=cross_entropy) == made


def learner_of(spec, norm, objective=cross_entropy):
  component = parse('learner', LEARNERS, spec, supplied=LEARNER_SUPPLIED)
  network = lambda outputs: conv4(outputs, 4, 2, norm=norm)
  supplied = {'network': network, 'num_outputs': 3, 'num_classes': lambda: 9}
  return build(component, objective=objective, **supplied)


@pytest.mark.parametrize(
  ('spec', 'norm', 'seen'),
  [
    ('maml', 'batch', True),
    ('maml', 'group', False),
    ('maml:protocol=inductive', 'batch', False),
    ('anil', 'batch', False),
    ('anil:protocol=transductive', 'batch', True),
    ('prototypical:protocol=transductive', 'batch', True),
    ('pretrained', 'batch', False),
    ('tim', 'group', True),
  ],
)
def test_a_protocol_says_whether_queries_see_one_another(spec, norm, seen):
  assert learner_of(spec, norm).queries_seen == seen


@pytest.mark.parametrize(
  ('spec', 'said'),
  [
    ('maml:inner_steps=0', '^inner_steps=0 learns nothing'),
    ('reptile:inner_steps=1', '^inner_steps=1 makes Reptile joint training'),
    ('maml:protocol=transductive', '^protocol=transductive needs.*use protocol=inductive'),
    ('prototypical:protocol=transductive', '^protocol=transductive needs.*use protocol=inductive'),
    ('pretrained:protocol=transductive', '^protocol=transductive needs.*use protocol=inductive'),
    ('anil:protocol=magic', "^protocol='magic' is unknown; use one of inductive, transductive"),
  ],
)
def test_errors_are_in_the_words_of_specs(spec, said):
  with pytest.raises(ValueError, match=said):
    learner_of(spec, 'group')


def test_a_classifier_is_refused_where_targets_are_no_classes():
  with pytest.raises(ValueError, match='learner proto_maml classifies, and this task'):
    learner_of('proto_maml', 'group', squared_error)
