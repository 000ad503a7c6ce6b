"""A strategy goes through a stream. It may be stopped at any event, and goes on from there.

After each event one checkpoint holds the state and all that was measured so far. So what is read
back belongs together, whenever the process ended.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from metakit.checkpoint import Checkpoints
from metakit.streams.events import Stream, error_of
from metakit.streams.strategies import ANEW, Strategy
from metakit.types import Key


class Log(NamedTuple):
  """What was measured, each [events]; only the first `done` entries are filled.

  Attributes:
    done: [] int32, events that are over.
    error: of the test part, see metakit.streams.events.error_of.
    dev_error: of the best trial on the event's own validation part.
    train_flops: of learning, all trials included.
    predict_flops: of predicting the test part.
    peak_bytes: the most memory of a program.
    parameters: numbers that were learned in a network.
    start: the event whose network training went on from; -1 for none.
    trial: the number of the best trial.
  """

  done: Any
  error: Any
  dev_error: Any
  train_flops: Any
  predict_flops: Any
  peak_bytes: Any
  parameters: Any
  start: Any
  trial: Any


FLOATS = 'error', 'dev_error', 'train_flops', 'predict_flops'


def empty_log(events: int) -> Log:
  """Returns the log of a stream before its first event.

  >>> empty_log(3).error.shape
  (3,)
  """
  filled = lambda value, kind: np.full(events, value, kind)
  floats = {name: filled(0, np.float64) for name in FLOATS}
  whole = {name: filled(0, np.int64) for name in ('peak_bytes', 'parameters', 'trial')}
  return Log(done=np.int32(0), start=filled(ANEW, np.int64), **floats, **whole)


def run_stream(
  strategy: Strategy,
  stream: Stream,
  key: Key,
  *,
  saved: Checkpoints | None = None,
  on_event: Callable[[Log], None] | None = None,
) -> Log:
  """Lets a strategy learn and predict each event in turn.

  Args:
    strategy: the learner.
    stream: the events.
    key: names all draws of the run; that of an event is derived from its number.
    saved: checkpoints to go on from, and to write: one after each event.
    on_event: gets the log after each event, once it is safe to end.

  Raises:
    ValueError: for an event that does not fit the state, or checkpoints of another stream or
      strategy.

  >>> from metakit.heads import prototypes
  >>> from metakit.streams import adapting, made_stream
  >>> stream = made_stream('positive', events=2)
  >>> head = prototypes(ways=4)
  >>> log = run_stream(adapting(lambda event: head, {}), stream, jax.random.key(0))
  >>> log.start.tolist(), bool(log.train_flops[0] > log.train_flops[1] > 0)  # fewer examples
  ([-1, -1], True)
  """
  state, log = strategy.init(jax.random.fold_in(key, 0), stream), empty_log(len(stream.events))
  restored = saved.restore(_tree(state, log)) if saved else None
  if restored is not None:
    state, log = restored[1]['state'], Log(**restored[1]['log'])
  for number in range(int(log.done), len(stream.events)):
    event = stream.events[number]
    learned = strategy.learn(jax.random.fold_in(key, number + 1), state, event)
    outputs, asked = strategy.predict(learned.fitted, event)
    state, spent = learned.state, learned.resources
    measured = {
      'error': error_of(event, outputs),
      'dev_error': learned.dev_error,
      'train_flops': spent.flops,
      'predict_flops': asked.flops,
      'peak_bytes': max(spent.peak_bytes, asked.peak_bytes),
      'parameters': spent.parameters,
      'start': learned.start,
      'trial': learned.trial,
    }
    log = _filled(log, number, measured)
    if saved:
      saved.save(number + 1, _tree(state, log))
      saved.wait()
    if on_event:
      on_event(log)
  return log


def _tree(state: Any, log: Log) -> dict[str, Any]:
  """Returns what a checkpoint holds."""
  return {'state': state, 'log': log._asdict()}


def _filled(log: Log, number: int, measured: dict[str, float]) -> Log:
  entries = {}
  for name, value in measured.items():
    entries[name] = getattr(log, name).copy()
    entries[name][number] = value
  return log._replace(done=np.int32(number + 1), **entries)
