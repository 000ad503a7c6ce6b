"""What in-context learners cost: a training step of each kind, and predictions from a cache."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks.suite import Suite
from experiments.benchmarks.timing import Case, compiled_case
from metakit.learners.in_context import LAYOUTS, in_context
from metakit.models import SequenceModel
from metakit.networks.recurrent import recurrent
from metakit.networks.transformer import transformer
from metakit.types import Episode, Examples, MetaLearner

WAYS = 10
CLOSE = 2e-2  # share of the norm that predictions may differ by; bfloat16 has three digits


def cases(
  *, tasks: int, examples: int, features: int, width: int, depth: int, dtype: str | None
) -> list[Case]:
  """Returns the cases.

  Args:
    tasks: sequences of a training step.
    examples: number of examples in a sequence.
    features: size of x.
    width: width of the networks.
    depth: depth of the networks.
    dtype: type of the transformers' arithmetic.
  """
  episodes = _episodes(tasks, examples, features)
  network = partial(transformer, WAYS, width, depth, dtype=dtype)
  learners = {f'train, {layout}': in_context(network(), WAYS, layout) for layout in LAYOUTS}
  for attention in ('fused', 'linear', 'momentum'):
    learners[f'train, pairs, {attention}'] = in_context(network(attention=attention), WAYS)
  learners['train, pairs, scan and remat'] = in_context(network(scan=True, remat=True), WAYS)
  learners['train, pairs, lstm'] = in_context(recurrent(WAYS, width, depth), WAYS)
  cases = [_training(name, learner, episodes, dtype) for name, learner in learners.items()]
  return cases + _predictions(network(), episodes, dtype)


def _episodes(tasks: int, examples: int, features: int) -> Episode:
  """Random episodes, the last example of each the query."""
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(tasks, examples, features)), jnp.float32)
  y = jnp.asarray(rng.integers(0, WAYS, (tasks, examples)), jnp.int32)
  return Episode(Examples(x[:, :-1], y[:, :-1]), Examples(x[:, -1:], y[:, -1:]), {})


def _training(name: str, learner: MetaLearner, episodes: Episode, dtype: str | None) -> Case:
  """A step of Adam on the mean loss of all episodes."""
  key, optimizer = jax.random.key(0), optax.adam(1e-3)
  params = learner.init(key, jax.tree.map(lambda leaf: leaf[0], episodes))

  def loss(params: Any, episodes: Episode) -> jax.Array:
    return jax.vmap(lambda episode: learner.loss(key, params, episode)[0])(episodes).mean()

  def step(state: Any, episodes: Episode) -> Any:
    params, opt_state = state
    updates, opt_state = optimizer.update(jax.grad(loss)(params, episodes), opt_state, params)
    return optax.apply_updates(params, updates), opt_state

  tasks, support = episodes.support.y.shape
  stride = {'train, pairs': 2, 'train, interleaved': 2, 'train, shifted': 1}
  tokens = tasks * (support + 1) * max(v for k, v in stride.items() if name.startswith(k))
  arguments = (params, optimizer.init(params)), episodes
  return compiled_case(name, step, arguments, number=tokens, dtype=dtype or 'float32')


def _predictions(model: SequenceModel, episodes: Episode, dtype: str | None) -> list[Case]:
  """One more prediction and one more example, from the cache and without it."""
  learner, key = in_context(model, WAYS), jax.random.key(0)
  params = learner.init(key, jax.tree.map(lambda leaf: leaf[0], episodes))
  support, queries = episodes.support, episodes.query.x
  adapt = jax.vmap(lambda s: learner.adapt(key, params, s))
  predict = jax.vmap(learner.predict)
  assert learner.extend is not None
  fitted, last = jax.jit(adapt)(support), jax.tree.map(lambda leaf: leaf[:, -1:], support)
  again = lambda support, queries: predict(adapt(support), queries)
  extend = jax.vmap(learner.extend)
  before = jax.tree.map(lambda leaf: leaf[:, :-1], support)
  expected = jax.jit(predict)(fitted, queries)
  check_same('a prediction from the cache', jax.jit(again)(support, queries), expected)
  extended = jax.jit(lambda support, last: extend(adapt(support), last))(before, last)
  check_same('an extended cache', jax.jit(predict)(extended, queries), expected)
  case = partial(compiled_case, number=len(queries), dtype=dtype or 'float32')
  cases = [
    case('predict, all read again', again, (support, queries)),
    case('predict, from the cache', predict, (fitted, queries)),
    case('one more example, all read again', adapt, (support,)),
    case('one more example, extend', extend, (fitted, last)),
  ]
  compared = {1: cases[0].name, 3: cases[2].name}
  return [case._replace(baseline=compared.get(i, '')) for i, case in enumerate(cases)]


def check_same(name: str, actual: jax.Array, expected: jax.Array) -> None:
  """Raises an AssertionError unless two predictions differ by rounding alone, or half precision."""
  one, other = (np.asarray(each, np.float64) for each in (actual, expected))
  apart = np.linalg.norm(one - other) / np.linalg.norm(other)
  if not apart < CLOSE:
    raise AssertionError(f'{name} is another one, by {apart:.2g} of its norm')


SUITES = {'in_context': Suite(cases)}
