"""What a learner of a stream carries from event to event.

Bornschein et al. 2023, arXiv:2211.11747, section 4: `independent` (anew each time), `previous`
(goes on from the event before), `dynamic_knn` (goes on from the event whose features suit the new
one best). `meta_initialised` moves a common start towards what each event has learned, the rule of
Alex Nichol, Joshua Achiam, John Schulman, On First-Order Meta-Learning Algorithms, 2018,
arXiv:1803.02999 (Reptile), with one task a step. `adapting` lets a learner that needs no training
adapt to each event.

Deviation: `dynamic_knn` may also begin anew, if random features suit the event best.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metakit.costs import Resources, measured, together
from metakit.heads.common import squared_distances
from metakit.models import Model
from metakit.sizes import check_positive
from metakit.streams.events import Event, Stream
from metakit.streams.tuning import Tuner, Tuning, as_arrays, error, make_tuner
from metakit.types import Examples, Fitted, Key, MetaLearner, Objective, Params

ANEW = -1  # the number of the event that training goes on from, if there is none


class Learned(NamedTuple):
  """What a strategy has made of an event.

  Attributes:
    state: what is carried to the next event.
    fitted: what predicts this one.
    resources: what learning took, all trials included.
    dev_error: the error on the event's own validation part; nan if that was not looked at.
    start: the number of the event whose network training went on from; ANEW for none.
    trial: the number of the trial that was best.
  """

  state: Any
  fitted: Any
  resources: Resources
  dev_error: float = float('nan')
  start: int = ANEW
  trial: int = 0


class Strategy(NamedTuple):
  """A learner of a stream, as pure functions.

  Attributes:
    init: (key, stream) -> state, a pytree of arrays whose shapes stay the same.
    learn: (key, state, event) -> Learned.
    predict: (fitted, event) -> (outputs [examples, outputs] of the test part, Resources). It does
      not look at the labels of the test part.
  """

  init: Callable[[Key, Stream], Any]
  learn: Callable[[Key, Any, Event], Learned]
  predict: Callable[[Any, Event], tuple[Any, Resources]]


class Bank(NamedTuple):
  """The state of a strategy that trains networks.

  Attributes:
    seen: [] int32, events so far.
    bodies: the networks after each event, [room, ...]; zeros where there are none yet. {} where
      earlier ones are not needed.
    common: the start of the next event, where that is not chosen.
  """

  seen: Any
  bodies: Params
  common: Params


# (key, bank, event) -> (body to begin with, the number of its event, Resources)
Choose = Callable[[Key, Bank, Event], tuple[Params, int, Resources]]
USUAL = Tuning()


def independent(embedding: Model, outputs: int, tuning: Tuning = USUAL) -> Strategy:
  """Every event is learned anew.

  Args:
    embedding: the network, x [examples, ...] -> features [examples, features].
    outputs: the most outputs of an event, as in metakit.streams.Stream.
    tuning: how the network is trained on an event.

  Raises:
    ValueError: see make_tuner; from `learn`, for an event that does not fit the state.

  >>> from metakit.networks import mlp
  >>> independent(mlp(width=8), outputs=4, tuning=Tuning(rates=(-1.0,)))
  Traceback (most recent call last):
  ...
  ValueError: rates=(-1.0,) must be one or more positive learning rates
  """
  tuner = make_tuner(embedding, outputs, tuning)
  return _tuned(tuner, lambda key, bank, event: (tuner.fresh(key, event), ANEW, Resources()))


def previous(embedding: Model, outputs: int, tuning: Tuning = USUAL) -> Strategy:
  """Every event goes on with the network of the event before.

  Args and raises as `independent`.

  >>> from metakit.networks import mlp
  >>> previous(mlp(width=8), outputs=4)._fields
  ('init', 'learn', 'predict')
  """
  choose = lambda key, bank, event: (bank.common, int(bank.seen) - 1, Resources())
  return _tuned(make_tuner(embedding, outputs, tuning), choose, rate=1.0)


def dynamic_knn(
  embedding: Model, outputs: int, tuning: Tuning = USUAL, *, neighbours: int = 5
) -> Strategy:
  """Every event goes on with the network whose features tell its examples apart best.

  The features of all earlier networks, and of a new one, are tried: each validation example is
  predicted from its nearest training examples. The least error wins; of equal ones the latest.

  Args:
    embedding: as `independent`.
    outputs: as `independent`.
    tuning: as `independent`.
    neighbours: training examples that vote.

  Raises:
    ValueError: as `independent`, and if there are no neighbours.

  >>> from metakit.networks import mlp
  >>> dynamic_knn(mlp(width=8), outputs=4, neighbours=0)
  Traceback (most recent call last):
  ...
  ValueError: neighbours=0 is not positive; use neighbours>=1
  """
  check_positive(neighbours=neighbours)
  tuner = make_tuner(embedding, outputs, tuning)
  programs: dict[Objective, Any] = {}

  def tell(objective: Objective) -> Any:
    def knn(body: Params, train: Examples, dev: Examples) -> jax.Array:
      train, dev = (part._replace(x=tuner.embed(body, part.x)) for part in (train, dev))
      return error(objective, nearest(train, dev.x, neighbours, outputs=outputs), dev)

    return programs.setdefault(objective, measured(knn))

  def choose(key: Key, bank: Bank, event: Event) -> tuple[Params, int, Resources]:
    parts = [as_arrays(part, event) for part in (event.train, event.dev)]
    body = lambda number: jax.tree.map(lambda leaf: leaf[number], bank.bodies)
    tried = [(ANEW, tuner.fresh(key, event)), *((n, body(n)) for n in range(int(bank.seen)))]
    told = [tell(event.objective)(body, *parts) for _, body in tried]
    errors = [float(found) for found, _ in told]
    place = max(i for i, found in enumerate(errors) if not found > min(errors))
    return tried[place][1], tried[place][0], together(*(used for _, used in told))

  return _tuned(tuner, choose, keep=True)


def nearest(train: Examples, x: jax.Array, neighbours: int, *, outputs: int) -> jax.Array:
  """Predicts from the nearest training examples: shares of classes, or mean targets.

  Args:
    train: x [examples, features], and y.
    x: [asked, features].
    neighbours: how many vote, or all if there are fewer.
    outputs: number of classes.

  Returns:
    [asked, outputs], or [asked, size of a target].

  >>> train = Examples(jnp.array([[0.0], [1.0], [9.0]]), jnp.array([0, 0, 1]))
  >>> nearest(train, jnp.array([[0.4], [8.0]]), 1, outputs=2).tolist()
  [[1.0, 0.0], [0.0, 1.0]]
  """
  away = squared_distances(x, train.x)
  _, rows = jax.lax.top_k(-away, min(neighbours, len(train.x)))
  y = jnp.asarray(train.y)
  targets = jax.nn.one_hot(y, outputs) if y.ndim == 1 else y
  return targets[rows].mean(1)


def meta_initialised(
  embedding: Model, outputs: int, tuning: Tuning = USUAL, *, rate: float = 0.5
) -> Strategy:
  """Every event goes on with a start that moves towards what each event has learned.

  Args:
    embedding: as `independent`.
    outputs: as `independent`.
    tuning: as `independent`.
    rate: share of the way that the start moves; with 1 it is `previous`.

  Raises:
    ValueError: as `independent`, and for a rate outside (0, 1].

  >>> from metakit.networks import mlp
  >>> meta_initialised(mlp(width=8), outputs=4, rate=2)
  Traceback (most recent call last):
  ...
  ValueError: rate=2 is no share of the way; use 0 < rate <= 1
  """
  if not 0 < rate <= 1:
    raise ValueError(f'rate={rate} is no share of the way; use 0 < rate <= 1')
  choose = lambda key, bank, event: (bank.common, ANEW, Resources())
  return _tuned(make_tuner(embedding, outputs, tuning), choose, rate=rate)


def adapting(learner_of: Callable[[Event], MetaLearner], params: Params) -> Strategy:
  """A learner that adapts to each event, and carries nothing.

  Args:
    learner_of: event -> the learner; the same object for events of the same kind, whose programs
      are then compiled once.
    params: its meta-parameters, the same for all events; {} for none.

  >>> from metakit.heads import prototypes
  >>> strategy = adapting(lambda event: prototypes(ways=event.outputs), params={})
  >>> strategy.init(None, None)
  {}
  """
  programs: dict[int, tuple[Any, Any, MetaLearner]] = {}

  def of(event: Event) -> tuple[Any, Any, MetaLearner]:
    learner = learner_of(event)
    new = measured(learner.adapt), measured(learner.predict), learner  # kept, so ids stay apart
    return programs.setdefault(id(learner), new)

  def learn(key: Key, state: Any, event: Event) -> Learned:
    fitted, resources = of(event)[0](key, params, as_arrays(event.train, event))
    numbers = sum(np.size(leaf) for leaf in jax.tree.leaves(params))
    return Learned(state, fitted, resources._replace(parameters=numbers))

  def predict(fitted: Fitted, event: Event) -> tuple[Any, Resources]:
    outputs, resources = of(event)[1](fitted, np.asarray(event.test.x))
    return outputs[:, : event.outputs], resources

  return Strategy(lambda key, stream: {}, learn, predict)


def _tuned(tuner: Tuner, choose: Choose, *, rate: float = 0.0, keep: bool = False) -> Strategy:
  """Returns the strategy that begins with what `choose` says.

  Args:
    tuner: trains the network.
    choose: see Choose.
    rate: share of the way that the common start moves towards the network of each event.
    keep: whether the networks of all events are kept.
  """

  def init(key: Key, events: Stream) -> Bank:
    common = jax.device_get(tuner.fresh(key, events.events[0]))
    room = len(events.events)
    empty = lambda leaf: np.zeros((room, *leaf.shape), leaf.dtype)
    return Bank(np.int32(0), jax.tree.map(empty, common) if keep else {}, common)

  def learn(key: Key, bank: Bank, event: Event) -> Learned:
    place = int(bank.seen)
    free = all(place < len(leaf) for leaf in jax.tree.leaves(bank.bodies))
    _check_room(event, tuner.room, free)
    body, start, used = choose(key, bank, event)
    tuned, resources = tuner.fit(key, body, event)
    new = jax.device_get(tuned.params['body'])
    bodies = jax.tree.map(partial(_with, place), bank.bodies, new) if keep else {}
    move = lambda old, new: (1 - np.float32(rate)) * old + np.float32(rate) * new
    state = Bank(np.int32(place + 1), bodies, jax.tree.map(move, bank.common, new))
    spent = together(used, resources)
    return Learned(state, tuned.params, spent, float(tuned.dev_error), start, int(tuned.trial))

  return Strategy(init, learn, tuner.predict)


def _with(place: int, entries: np.ndarray, entry: np.ndarray) -> np.ndarray:
  """Returns a copy of entries with one of them set."""
  copy = entries.copy()
  copy[place] = entry
  return copy


def _check_room(event: Event, room: int, free: bool) -> None:
  """Raises ValueError for an event that the state has no room for."""
  said = f'event {event.name!r} does not fit the state'
  if event.outputs > room:
    raise ValueError(
      f'{said}: it has {event.outputs} outputs and the last layer {room}; use '
      f'outputs={event.outputs} or more'
    )
  if not free:
    raise ValueError(f'{said}: all its events are seen; make one with room for more')
