"""Random functions of neural processes: kernels by their formulas, samples by their moments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from experiments.components.process_tasks import mixed_processes_task
from experiments.components.tasks import TASK_SUPPLIED, TASKS
from metakit.components.specs import build, parse
from metakit.data.table import class_table
from metakit.episodes.combinators import vary_shots
from metakit.episodes.functions import functions, gaussian_process
from metakit.episodes.image_completion import image_completion
from metakit.episodes.kernels import KERNELS
from metakit.episodes.sawtooth import sawtooth
from metakit.learners.bayes import bayes
from metakit.types import Examples

KEY = jax.random.key(0)
X = np.array([[-0.4], [0.0], [0.05], [0.3]], np.float32)


def expected(name, d, length):
  """In float64. Matern-5/2 is the general Matern of order 5/2."""
  if name == 'eq':
    return np.exp(-(d**2) / (2 * length**2))
  if name == 'matern52':
    r = np.maximum(np.sqrt(5) * np.abs(d) / length, 1e-9)
    return 2**-1.5 / special.gamma(2.5) * r**2.5 * special.kv(2.5, r)
  # EQ(2 l) of x times EQ(1) of (cos, sin)(2 pi x / l)
  circle = lambda x: np.stack([np.cos(2 * np.pi * x / length), np.sin(2 * np.pi * x / length)])
  apart = np.square(circle(d) - circle(0.0 * d)).sum(0)
  return expected('eq', d, 2 * length) * np.exp(-apart / 2)


@pytest.mark.parametrize('name', KERNELS)
def test_kernels_are_their_formulas(name):
  found = jax.jit(KERNELS[name](0.25))(X, X)
  exact = expected(name, np.float64(X) - np.float64(X).T, 0.25)
  np.testing.assert_allclose(found, exact, atol=2e-6)


def test_samples_have_the_covariance_and_the_posterior_is_that_of_the_kernel():
  process = gaussian_process(0.25, -2, 2, kernel='weakly_periodic')
  draw = jax.jit(jax.vmap(lambda key: process.values(process.draw(key), X)))
  y = np.asarray(draw(jax.random.split(KEY, 20_000)))
  covariance = expected('weakly_periodic', np.float64(X) - np.float64(X).T, 0.25)
  np.testing.assert_allclose(y.T @ y / len(y), covariance, atol=0.04)
  learner = bayes(process, noise=0.2)
  run = jax.jit(lambda of, x: learner.predict(learner.adapt(KEY, {}, of), x))
  found = run(Examples(X[:3], y[0, :3, None]), X[3:])[0, 0]
  weights = np.linalg.solve(covariance[:3, :3] + 0.04 * np.eye(3), covariance[:3, 3])
  assert float(found) == pytest.approx(weights @ y[0, :3], abs=1e-4)


def test_sawtooth_waves_rise_by_their_frequency_in_either_direction_and_fall_to_0():
  waves = functions(sawtooth(), shots=30, queries=100)
  episodes = jax.device_get(jax.jit(jax.vmap(waves))(jax.random.split(jax.random.key(1), 500)))
  wave, x, y = episodes.info['function'], episodes.query.x[..., 0], episodes.query.y[..., 0]
  assert stats.kstest(wave['frequency'], stats.uniform(2, 2).cdf).pvalue > 1e-3
  assert abs(np.corrcoef(wave['frequency'], wave['phase'])[0, 1]) < 0.2
  assert 200 < (wave['direction'] > 0).sum() < 300 and set(wave['direction']) == {-1, 1}
  assert ((y >= 0) & (y <= 1)).all()
  assert stats.kstest(y[:, 0], stats.uniform().cdf).pvalue > 1e-3
  turns = x * (wave['frequency'] * wave['direction'])[:, None] - wave['phase'][:, None]
  assert np.abs(np.exp(2j * np.pi * turns) - np.exp(2j * np.pi * y)).max() < 1e-4


def test_lengths_are_uniform_and_the_examples_are_those_of_the_whole_episode():
  whole = functions(gaussian_process(kernel='matern52'), 5, 2)
  keys = jax.random.split(KEY, 3000)
  weight = np.asarray(jax.jit(jax.vmap(vary_shots(whole, 2)))(keys).support.weight)
  assert (np.diff(weight, axis=1) <= 0).all()  # the first ones are there
  counts = np.bincount(weight.sum(1).astype(int), minlength=6)
  assert not counts[:2].any() and stats.chisquare(counts[2:]).pvalue > 1e-3
  ours, theirs = vary_shots(whole, 2)(keys[0]), whole(keys[0])
  np.testing.assert_array_equal(ours.support.x, theirs.support.x)
  np.testing.assert_array_equal(ours.query.y, theirs.query.y)


def test_a_mixture_has_every_kind_of_function():
  source = mixed_processes_task().source('train')
  episodes = jax.jit(jax.vmap(source))(jax.random.split(KEY, 200))
  inside = ((episodes.query.y >= 0) & (episodes.query.y <= 1)).all((1, 2))
  assert episodes.support.x.shape == (200, 30, 1) and 25 < int(inside.sum()) < 75  # sawtooth waves


def test_kinds_of_unequal_sizes_are_drawn_by_a_temperature_and_cool_down():
  """In training alone, and from so many tasks of each."""
  sizes = {'shots': 2, 'queries': 1, 'fewest_shots': None}
  task = mixed_processes_task(tasks=90, ratio=3.0, temperature=2.0, cooldown_steps=5, **sizes)
  source, keys = task.source('train'), jax.random.split(KEY, 3000)
  at = lambda step: jax.vmap(source.schedule(step))(keys)
  both = jax.device_get(jax.jit(jax.vmap(at))(jnp.array([4, 5])))
  hot, cold = (jax.tree.map(lambda leaf, i=i: leaf[i], both) for i in range(2))
  for episodes, temperature in ((hot, 2), (cold, 1)):
    shares = np.array([90, 30, 10, 3]) ** (1 / temperature)
    counts = np.bincount(episodes.info['component'], minlength=4)
    assert stats.chisquare(counts, 3000 * shares / shares.sum()).pvalue > 1e-3
  last = cold.query.y[cold.info['component'] == 3]
  assert len(last) > 20 and len(np.unique(last)) == 3
  assert task.source('test').schedule is None


def test_a_mixture_of_processes_without_sizes_is_what_it_was():
  """All kinds are equally likely, and no program knows of stages."""
  plain = mixed_processes_task(shots=2, queries=1).source('train')
  assert plain.schedule is None
  drawn = jax.jit(jax.vmap(plain))(jax.random.split(KEY, 8))
  tested = jax.jit(jax.vmap(mixed_processes_task(shots=2, queries=1).source('test')))
  jax.tree.map(np.testing.assert_array_equal, drawn, tested(jax.random.split(KEY, 8)))


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'ratio': 0.0}, 'ratio=0.0 is not positive'),
    ({'temperature': 0.0}, 'temperature=0.0 is not positive'),
    ({'tasks': 20, 'ratio': 3.0}, 'less than one task of the last kind; use more tasks'),
  ],
)
def test_sizes_of_kinds_that_are_none(arguments, message):
  with pytest.raises(ValueError, match=message):
    mixed_processes_task(**arguments)


def test_pixels_of_an_image_are_at_their_places_and_none_is_drawn_twice():
  images = np.random.default_rng(0).integers(0, 256, (5, 4, 3, 2), np.uint8)
  source = jax.jit(image_completion(class_table(images, np.zeros(5, int)), 7, fewest=0))
  episode = jax.device_get(source(jax.random.key(3)))
  x = np.concatenate([episode.support.x, episode.query.x])
  y = np.concatenate([episode.support.y, episode.query.y])
  assert len(np.unique(x, axis=0)) == 12 and episode.query.x.shape == (5, 2)
  row, column = np.rint((x.T + 1) / 2 * [[3], [2]]).astype(int)
  np.testing.assert_allclose(y, images[episode.info['row'], row, column] / 255, rtol=1e-6)
  assert episode.support.weight.sum() == episode.info['shots']
  assert {int(source(key).info['shots']) for key in jax.random.split(KEY, 100)} == {*range(8)}


@pytest.mark.parametrize(
  'spec',
  [
    'gaussian_process:kernel=matern52,length_scale=0.25,low=-2,high=2,fewest_shots=0',
    'sawtooth:queries=100',
    'image_completion:base=random,pixels=14,shots=20,queries=0',
  ],
)
def test_tasks_of_specs_have_supports_of_random_length(spec):
  component = parse('task', TASKS, spec, supplied=TASK_SUPPLIED)
  task = build(component, budget=2**30, data_dir='')
  shapes = jax.eval_shape(task.source('train'), KEY)
  assert (shapes.support.weight is None) == (component.name == 'sawtooth')
  assert task.num_outputs == shapes.query.y.shape[1] == 1


MISTAKES = {
  'kernel=.* is unknown': lambda: gaussian_process(kernel='rbf'),
  'must be frequencies': lambda: sawtooth(lowest=0.0),
  'fewest=6 is not between 0 and the 5': lambda: vary_shots(functions(sawtooth(), 5), 6),
  'two ways to draw lengths': lambda: TASKS['dense'](
    **{**arguments_of_dense(), 'curriculum_steps': 10, 'fewest_shots': 0}
  ),
}


def arguments_of_dense():
  return parse('task', TASKS, 'dense', supplied=TASK_SUPPLIED).arguments


@pytest.mark.parametrize('said', MISTAKES)
def test_mistakes_are_named(said):
  with pytest.raises(ValueError, match=said):
    MISTAKES[said]()
