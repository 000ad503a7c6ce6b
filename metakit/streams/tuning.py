"""The training of one event: several trials side by side, the best of which is kept.

Bornschein et al. 2023, arXiv:2211.11747, section 4: hyper-parameters are chosen inside the stream,
by the event's own validation part, and all trials are paid for. Deviations: Adam in place of SGD;
the trials are learning rates on a grid; validation is paid for too.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metakit.costs import Resources, analysed_flops, measured
from metakit.keys import stream
from metakit.minibatches import minibatches
from metakit.models import Model, drawing, draws_of
from metakit.networks.last_layer import init_last_layer, linear
from metakit.sizes import check_positive
from metakit.streams.events import Event
from metakit.types import Examples, Key, Objective, Params

ABSENT = -1e9  # the logit of a class that the event does not have


class Tuning(NamedTuple):
  """How a network is trained on an event.

  Attributes:
    rates: the learning rates that are tried.
    steps: gradient steps of each trial. The rate falls to 0 along half a cosine.
    batch: examples of a step; all, if the event has no more.
  """

  rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
  steps: int = 200
  batch: int = 32


class Tuned(NamedTuple):
  """What the best trial has learned.

  Attributes:
    params: {'body', 'head'}; the head has `room` outputs.
    trial: its number.
    dev_error: its error on the validation part.
  """

  params: Params
  trial: jax.Array
  dev_error: jax.Array


class Tuner(NamedTuple):
  """Functions of an event that compile once for each shape.

  Attributes:
    fit: (key, body, event) -> (Tuned, Resources); the last layer begins anew.
    predict: (params, event) -> (outputs [examples, outputs] of its test part, Resources).
    embed: (body, x) -> features [examples, features].
    fresh: (key, event) -> a new body.
    room: outputs of the last layer.
  """

  fit: Callable[[Key, Params, Event], tuple[Tuned, Resources]]
  predict: Callable[[Params, Event], tuple[jax.Array, Resources]]
  embed: Callable[[Params, Any], jax.Array]
  fresh: Callable[[Key, Event], Params]
  room: int


@functools.lru_cache(maxsize=4)  # strategies of one network share its programs
def make_tuner(embedding: Model, room: int, tuning: Tuning) -> Tuner:
  """Returns how a network learns an event.

  Args:
    embedding: x [examples, ...] -> features [examples, features], without batch statistics.
    room: outputs of the last layer, the most of any event. An event uses the first ones.
    tuning: the trials.

  Raises:
    ValueError: for numbers that make no sense, or a network with batch statistics, which a state
      does not carry.
  """
  check_positive(steps=tuning.steps, batch=tuning.batch)
  if not tuning.rates or min(tuning.rates) <= 0:
    raise ValueError(f'rates={tuning.rates} must be one or more positive learning rates')
  if embedding.stored is not None:
    raise ValueError('streams take no network with batch statistics; use norm=group or norm=none')
  programs: dict[Objective, tuple[Any, Any]] = {}

  def of(objective: Objective) -> tuple[Any, Any]:
    if objective not in programs:
      programs[objective] = _programs(embedding, room, tuning, objective=objective)
    return programs[objective]

  def fit(key: Key, body: Params, event: Event) -> tuple[Tuned, Resources]:
    train, dev = (as_arrays(part, event) for part in (event.train, event.dev))
    tuned, resources = of(event.objective)[0](key, body, train, dev, np.int32(event.outputs))
    numbers = sum(leaf.size for leaf in jax.tree.leaves(tuned.params))
    return tuned, resources._replace(parameters=numbers)

  def predict(params: Params, event: Event) -> tuple[jax.Array, Resources]:
    x = np.asarray(event.test.x)
    outputs, resources = of(event.objective)[1](params, x, np.int32(event.outputs))
    return outputs[:, : event.outputs], resources

  init = jax.jit(embedding.init)
  fresh = lambda key, event: init(stream(key, 'body'), np.asarray(event.train.x[:1]))
  return Tuner(fit, predict, embedding.apply, fresh, room)


def as_arrays(examples: Examples, event: Event) -> Examples:
  """Returns the examples of an event as NumPy arrays of the types that programs are compiled for.

  >>> part = Examples([[0.5]], [1])
  >>> as_arrays(part, Event('one', part, part, part, outputs=2)).y.dtype.name
  'int32'
  """
  kind = np.int32 if event.objective.classifies else np.float32
  return Examples(np.asarray(examples.x), np.asarray(examples.y, kind))


def _programs(
  embedding: Model, room: int, tuning: Tuning, *, objective: Objective
) -> tuple[Any, Any]:
  """Returns the measured programs that fit and predict events of one objective."""
  adam, steps = optax.scale_by_adam(), tuning.steps
  rates = jnp.asarray(tuning.rates, jnp.float32)

  def answer(params: Params, x: Any, outputs: Any, key: Key | None = None) -> jax.Array:
    values = linear(params['head'], drawing(embedding.apply, key)(params['body'], x))
    return jnp.where(jnp.arange(room) < outputs, values, ABSENT if objective.classifies else 0)

  def loss(params: Params, examples: Examples, outputs: Any, key: Key | None = None) -> jax.Array:
    values = answer(params, examples.x, outputs, key)
    return objective(_like_targets(values, examples), examples)[0]

  def step(params: Params, memory: Any, rate: Any, *given: Any) -> tuple[Params, Any]:
    updates, memory = adam.update(jax.grad(loss)(params, *given), memory)
    return jax.tree.map(lambda p, u: p - rate * u, params, updates), memory

  steps_of_all = jax.vmap(step, in_axes=(0, 0, 0, None, None, None))

  def begin(key: Key, body: Params, train: Examples) -> tuple[Params, Any]:
    width = jax.eval_shape(embedding.apply, body, train.x).shape[1]
    params = {'body': body, 'head': init_last_layer(stream(key, 'head'), width, room)}
    both = params, adam.init(params)
    return jax.tree.map(lambda leaf: jnp.stack([leaf] * len(rates)), both)

  def errors(params: Params, dev: Examples, outputs: Any) -> jax.Array:
    answers = jax.vmap(lambda each: answer(each, dev.x, outputs))(params)
    return jax.vmap(lambda values: error(objective, values, dev))(answers)

  def fit(key: Key, body: Params, train: Examples, dev: Examples, outputs: Any) -> Tuned:
    rows = jnp.arange(len(train.x))
    drawn = minibatches(stream(key, 'batches'), Examples(rows, rows), steps, size=tuning.batch).x

    def at(carried: tuple[Params, Any], now: tuple[Any, Any]) -> tuple[Any, None]:
      number, chosen = now
      batch = jax.tree.map(lambda leaf: jnp.asarray(leaf)[chosen], train)
      falling = 0.5 * (1 + jnp.cos(jnp.pi * number / steps))
      draws = draws_of(embedding, jax.random.fold_in(key, number))
      return steps_of_all(*carried, falling * rates, batch, outputs, draws), None

    (params, _), _ = jax.lax.scan(at, begin(key, body, train), (jnp.arange(steps), drawn))
    found = errors(params, dev, outputs)
    best = jnp.argmin(jnp.where(jnp.isfinite(found), found, jnp.inf)).astype(jnp.int32)
    return Tuned(jax.tree.map(lambda leaf: leaf[best], params), best, found[best])

  def flops(key: Key, body: Params, train: Examples, dev: Examples, outputs: Any) -> float:
    """Of the steps and the validation of all trials; XLA counts the body of a loop once."""
    params, memory = jax.eval_shape(begin, key, body, train)
    batch = jax.tree.map(lambda leaf: leaf[: tuning.batch], train)
    one = analysed_flops(
      steps_of_all, params, memory, rates, batch, outputs, draws_of(embedding, key)
    )
    return steps * one + analysed_flops(errors, params, dev, outputs)

  return measured(fit, flops), measured(answer)


def _like_targets(values: jax.Array, examples: Examples) -> jax.Array:
  """Returns the outputs that a regression has targets for; all logits in a classification."""
  return values if jnp.ndim(examples.y) == 1 else values[:, : examples.y.shape[1]]


def error(objective: Objective, outputs: jax.Array, examples: Examples) -> jax.Array:
  """Returns the share of wrong classes, or the mean squared error; see events.error_of.

  >>> from metakit.objectives import squared_error
  >>> examples = Examples(None, jnp.array([[1.0], [3.0]]))
  >>> float(error(squared_error, jnp.array([[1.0, 9.0], [1.0, 9.0]]), examples))
  2.0
  """
  if objective.classifies:
    return (objective.point(outputs) != examples.y).mean(dtype=jnp.float32)
  return jnp.square(_like_targets(outputs, examples) - examples.y).mean()
