"""Tasks that arrive one after the other.

Joerg Bornschein et al., NEVIS'22: A Stream of 100 Tasks Sampled from 30 Years of Computer Vision
Research, JMLR 24(308), 2023, arXiv:2211.11747, section 3. Deviation: an event is a training and the
prediction that follows it, since no stream here predicts an earlier task again.
"""

from collections.abc import Iterable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from metakit.objectives import cross_entropy
from metakit.types import Examples, Objective


class Event(NamedTuple):
  """Train on this, predict that.

  Attributes:
    name: for messages and tables.
    train: what is learned from.
    dev: the event's own validation part, by which hyper-parameters are chosen.
    test: what is predicted in the end. Its labels are for the score alone.
    outputs: the number of classes, or of the numbers of a target.
    objective: judges outputs.
  """

  name: str
  train: Examples
  dev: Examples
  test: Examples
  outputs: int
  objective: Objective = cross_entropy


class Stream(NamedTuple):
  """Events in the order of their arrival. `make_stream` checks that they fit together.

  Attributes:
    events: the events.
  """

  events: tuple[Event, ...]

  @property
  def outputs(self) -> int:
    """The most outputs of an event: a state has room for so many."""
    return max(event.outputs for event in self.events)


PARTS = 'train', 'dev', 'test'


def make_stream(events: Iterable[Event]) -> Stream:
  """Returns a stream.

  Args:
    events: their inputs have one shape, since what is learned from one is carried to the next.
      Labels are 0 to outputs - 1 in a classification; otherwise they are [examples, outputs].

  Raises:
    ValueError: naming the event, if there are none, a part has no examples, inputs are of another
      shape or type than those of the first event, or labels are none of the outputs.

  >>> part = Examples(np.zeros((4, 2), np.float32), np.array([0, 1, 0, 1]))
  >>> event = Event('first', part, part, part, outputs=2)
  >>> make_stream([event, event._replace(name='second', outputs=5)]).outputs
  5
  >>> make_stream([event, event._replace(name='second', dev=Examples(part.x[:0], part.y[:0]))])
  Traceback (most recent call last):
  ...
  ValueError: event 'second' has no dev examples; give at least one, or leave the event out
  """
  stream = Stream(tuple(events))
  if not stream.events:
    raise ValueError('the stream has no events; give at least one')
  for event in stream.events:
    for part in PARTS:
      _check_part(event, part, getattr(event, part))
    check_fits(event, stream.events[0].train)
  return stream


def check_fits(event: Event, first: Examples) -> None:
  """Raises ValueError unless the inputs of an event are like those that a state has seen.

  Args:
    event: the event.
    first: examples of an earlier one.
  """
  like = lambda x: f'{np.dtype(x.dtype).name}{list(np.shape(x)[1:])}'
  for part in PARTS:
    x = getattr(event, part).x
    if like(x) != like(first.x):
      raise ValueError(
        f'event {event.name!r} does not fit the state: its {part} inputs are {like(x)}, and those '
        f'before {like(first.x)}; give all events of a stream inputs of one shape and type'
      )


def _check_part(event: Event, part: str, examples: Examples) -> None:
  x, y = examples.x, np.asarray(examples.y)
  said = f'event {event.name!r}'
  if not len(x):
    raise ValueError(f'{said} has no {part} examples; give at least one, or leave the event out')
  if examples.weight is not None:
    raise ValueError(f'{said} has {part} examples with weights; leave out those that do not count')
  if event.objective.kind == 'density':
    raise ValueError(f'{said} asks for a density; use metakit.squared_error, or another regression')
  if event.objective.classifies:
    if y.shape != (len(x),) or y.dtype.kind not in 'iu' or y.min() < 0 or y.max() >= event.outputs:
      raise ValueError(
        f'{said} has {part} labels that are none of its outputs={event.outputs} classes; give one '
        f'integer from 0 to {event.outputs - 1} for each example'
      )
  elif y.shape != (len(x), event.outputs):
    raise ValueError(
      f'{said} has {part} targets of shape {y.shape}; give [examples, outputs], which is '
      f'{(len(x), event.outputs)}'
    )


def error_of(event: Event, outputs: np.ndarray) -> float:
  """Returns the error of predictions of the test part.

  Args:
    event: the event.
    outputs: predictions [examples, outputs] of its test part.

  Returns:
    The share of wrong classes, or the mean squared error in the units of the targets squared.

  >>> part = Examples(np.zeros((2, 1), np.float32), np.array([0, 1]))
  >>> error_of(Event('two', part, part, part, outputs=2), np.array([[1.0, 0.0], [3.0, 2.0]]))
  0.5
  """
  y = np.asarray(event.test.y)
  if event.objective.classifies:
    return float((np.asarray(event.objective.point(jnp.asarray(outputs))) != y).mean())
  return float(np.square(np.asarray(outputs, np.float64) - y).mean())
