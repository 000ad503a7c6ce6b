"""What an event of a stream takes: three trials that train a network, or the means of its classes.

The event has 100 training examples of 32 numbers and 4 classes, and 200 to be predicted.
"""

from collections.abc import Callable
from typing import Any

import jax

from experiments.benchmarks.suite import Suite
from experiments.benchmarks.timing import Case
from metakit.heads import prototypes
from metakit.networks import mlp
from metakit.streams import Strategy, Stream, Tuning, adapting, independent, made_stream, previous

STEPS, WIDTH = 200, 64  # of each trial, and of the network


def cases() -> list[Case]:
  """Returns the cases, each compared with the training of a network."""
  stream = made_stream('positive', events=2)
  ways = stream.events[-1].outputs
  head = prototypes(ways)
  network, tuning = mlp(width=WIDTH), Tuning(steps=STEPS)
  strategies = {
    'independent': independent(network, ways, tuning),
    'previous': previous(network, ways, tuning),
    'class means': adapting(lambda event: head, {}),
  }
  return [
    Case(name, one_event(strategy, stream), 1, baseline='independent', unit='events')
    for name, strategy in strategies.items()
  ]


def one_event(strategy: Strategy, stream: Stream) -> Callable[[], Any]:
  """Returns what learns and predicts the last event of a stream, as if it were the first."""
  state, event = strategy.init(jax.random.key(0), stream), stream.events[-1]

  def call() -> Any:
    learned = strategy.learn(jax.random.key(1), state, event)
    return strategy.predict(learned.fitted, event)[0]

  return call


SUITES = {'stream': Suite(cases)}
