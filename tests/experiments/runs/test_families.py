"""What a sweep over functions measures, with learners whose answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.runs.families import family
from metakit.episodes.functions import dense
from metakit.evaluation import sequence
from metakit.learners.bayes import bayes
from metakit.objectives import squared_error
from tests.episodes.test_few_shot import many


@pytest.mark.slow  # tests/experiments/components/test_tasks.py asks it of the task
def test_seen_and_unseen_are_tasks_and_images():
  measures = family('projected:base=random,shots=5,size=4', '', 1).measures
  tasks = lambda name: set(many(measures[name].source(2).plan, 200).info['task'].tolist())
  assert tasks('seen tasks') == tasks('seen tasks, unseen images') == {0, 1}
  assert len(tasks('unseen tasks')) == 200
  images = lambda name: np.asarray(measures[name].source(2).data)
  assert not np.array_equal(images('seen tasks'), images('seen tasks, unseen images'))
  np.testing.assert_array_equal(images('unseen tasks'), images('seen tasks, unseen images'))


def test_a_reference_that_takes_hours_is_refused():
  with pytest.raises(ValueError, match=r'sign_vectors:dim=20.* takes too long for a sweep'):
    family('sign_vectors', '', 4)


@pytest.mark.slow  # tests/experiments/components/test_tasks.py asks it of the task
def test_repeated_rows_are_of_training_alone():
  repeating = family('projected:base=random,shots=5,size=4,repeated=1,distinct=2', '', 1)
  different = lambda source: {len(set(row)) for row in many(source.plan, 50).support.x.tolist()}
  assert different(repeating.train(2)) <= {1, 2}
  assert all(different(m.source(2)) == {5} for m in repeating.measures.values())


def test_each_measure_is_the_distance_from_its_posterior():
  """With one task in the pool its posterior is that task, so that zeros are apart by y squared."""
  measures = family('dense:dim=2,shots=4', '', 1).measures
  best = bayes(dense(2), 0.0)
  zeros = best._replace(predict=lambda fitted, x: jnp.zeros((len(x), 1)))

  def distance(name, learner):
    measure = measures[name]

    @jax.jit
    def judged(key):
      episode = measure.source(1).plan(key)
      difference = measure.judge(1)(learner, squared_error, {}, key, episode)['difference']
      return difference, jnp.square(sequence(episode).y).mean()

    return tuple(map(float, judged(jax.random.key(0))))

  apart, size = distance('tasks of the pool, from the posterior of the pool', zeros)
  assert apart == pytest.approx(size, rel=1e-4)
  apart, size = distance('tasks of the pool, from the posterior of all', zeros)
  assert apart < 0.95 * size  # the posterior of all begins at 0 too
  for where in ('tasks of the pool', 'new tasks'):
    assert distance(f'{where}, from the posterior of all', best)[0] < 1e-9
    assert distance(f'{where}, from the posterior of the pool', best)[0] > 1e-3
  one, other = (
    distance(f'{w}, from the posterior of all', zeros)[1]
    for w in ('tasks of the pool', 'new tasks')
  )
  assert one != other
