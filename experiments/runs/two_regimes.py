"""How many examples two classifiers need: experiments/two_regimes.py."""

import bisect
import itertools
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.command_line.runtime import BAD_INPUT, one_line_errors
from experiments.output.machine import describe_device, versions
from experiments.output.results import read_json, refuse_other
from experiments.runs.wrap_up import command_line
from metakit.files import write_text
from metakit.heads import logistic, naive_bayes
from metakit.keys import roots, stream
from metakit.lock import lock_file
from metakit.objectives import cross_entropy
from metakit.types import Examples, Key, MetaLearner

CLOSE = 0.01  # an error this far above the least one is close to it
TESTED = 10_000
ROOMS = [8**power for power in range(2, 12)]  # sizes that programs are compiled for
HEADS: dict[str, Callable[[int], MetaLearner]] = {
  'naive_bayes': lambda ways: naive_bayes(ways, smoothing=1e-9),
  'logistic': lambda ways: logistic(ways, strength=1.0, steps=1000),
}


class Options(NamedTuple):
  """The flags of the command, by their names."""

  workdir: str | None
  seed: int
  features: list[str]
  ways: list[str]
  repeats: int


def two_regimes(options: Options) -> None:
  """Measures what is not measured yet; writes the record after each pair of sizes."""
  with one_line_errors(*BAD_INPUT):
    if not options.workdir:
      raise ValueError('--workdir is missing; give the folder of the results')
    ways_asked, features_asked = sizes('ways', options.ways), sizes('features', options.features)
    pairs = list(itertools.product(ways_asked, features_asked))
    path = Path(options.workdir) / 'two_regimes.json'
    setting: dict[str, Any] = {'seed': options.seed, 'repeats': options.repeats}
    setting |= {'device': describe_device(), 'versions': versions()}
    lock_file(path)
    done = read_done(path, setting, pairs)
    for ways, features in pairs:
      if (ways, features) not in done:
        keys = draws_of(options.seed, options.repeats)
        needed = {name: needs(make(ways), ways, features, keys) for name, make in HEADS.items()}
        done[ways, features] = {'ways': ways, 'features': features, **needed}
        cells = [done[key] for key in pairs if key in done]
        record = {'cells': cells, **setting, 'command': command_line()}
        write_text(path, json.dumps(record, indent=2) + '\n')
      print(', '.join(f'{name} {value}' for name, value in done[ways, features].items()))


def read_done(
  path: Path, setting: Mapping[str, Any], pairs: list[tuple[int, int]]
) -> dict[tuple[int, int], dict[str, Any]]:
  """Returns what an earlier run of the same setting has measured, by ways and features.

  Raises:
    ValueError: if it was another setting, if the file is damaged, or if it holds cells that are
      not among `pairs`, which would be lost.
  """
  if not path.exists():
    return {}
  record = read_json(path)
  refuse_other(path, record, setting, remedy='--workdir')
  done = {(cell['ways'], cell['features']): cell for cell in record['cells']}
  for ways, features in done:
    if (ways, features) not in pairs:
      raise ValueError(
        f'{path} holds {ways} classes of {features} features too; ask for all that it holds, or '
        'give another --workdir'
      )
  return done


def sizes(flag: str, texts: list[str]) -> list[int]:
  """Reads the values of a flag of sizes.

  Raises:
    ValueError: unless all are numbers of 2 or more.
  """
  if not texts or not all(text.isdigit() and int(text) > 1 for text in texts):
    raise ValueError(f'--{flag}={",".join(texts)} is no list of numbers of 2 or more')
  return [int(text) for text in texts]


def class_means(ways: int) -> np.ndarray:
  """The mean of each class, the same on every feature."""
  return np.array([-1.0, *(2.0**k for k in range(ways - 1))], np.float32)


def scales(features: int) -> np.ndarray:
  """The standard deviation of each feature."""
  wide = features // 2
  return np.array([features**0.5] * wide + [1.0] * (features - wide), np.float32)


def least_error(ways: int, features: int) -> float:
  """Returns the error of the classifier that knows the distribution.

  This classifier decides halfway between neighbouring means, along the line that they lie on.

  >>> round(least_error(2, 2), 4)  # means 2 apart on features of variances 2 and 1
  0.1103
  """
  steps = np.diff(class_means(ways)) * math.sqrt((scales(features) ** -2.0).sum())
  tail = statistics.NormalDist().cdf
  return 2 * sum(tail(-step / 2) for step in steps) / ways


def draw(key: Key, labels: jax.Array, *, ways: int, features: int) -> Examples:
  """Draws an example of each label."""
  noise = scales(features) * jax.random.normal(key, (len(labels), features), jnp.float32)
  return Examples(jnp.asarray(class_means(ways))[labels][:, None] + noise, labels)


def draws_of(seed: int, repeats: int) -> list[Key]:
  """Returns a key for each draw that the error is averaged over."""
  return [roots(seed + repeat).test for repeat in range(repeats)]


def needs(head: MetaLearner, ways: int, features: int, keys: Sequence[Key]) -> int | None:
  """Returns how many examples a head needs; None if it needs more than 100 times the features.

  Args:
    head: a head without parameters.
    ways: number of classes.
    features: number of features of an example.
    keys: one for each draw that the error is averaged over.
  """
  tried = range(2 * ways, 100 * features, math.ceil(math.log(features)))  # as published
  enough = least_error(ways, features) + CLOSE
  measured = jax.jit(partial(error, head, ways=ways, features=features), static_argnames='room')

  def close(number: int) -> bool:
    room = next(size for size in ROOMS if size >= number)
    errors = (measured(jax.random.fold_in(key, number), number, room=room) for key in keys)
    return statistics.fmean(map(float, errors)) < enough

  place = first_true(lambda i: close(tried[i]), len(tried))
  return None if place == len(tried) else tried[place]


def first_true(holds: Callable[[int], bool], size: int) -> int:
  """Returns the first i < size at which a property holds, or size; from there on it must hold.

  It doubles i from 0, since small i are cheap to try.

  >>> first_true(lambda i: i >= 5, 100), first_true(lambda i: False, 100)
  (5, 100)
  """
  low, high = 0, 1  # it does not hold below `low`
  while high <= size and not holds(high - 1):
    low, high = high, 2 * high
  return low + bisect.bisect_left(range(low, min(high, size)), True, key=holds)


def error(
  head: MetaLearner, key: Key, number: jax.typing.ArrayLike, *, ways: int, features: int, room: int
) -> jax.Array:
  """Returns the error after `number` examples: first one of each class, then of random classes.

  Args:
    head: a head without parameters.
    key: names the examples.
    number: how many examples the head learns from.
    ways: number of classes.
    features: number of features of an example.
    room: how many examples are drawn, at least `number`; those beyond it have weight 0.
  """
  of_labels, of_noise, of_test = jax.random.split(key, 3)
  drawn = jax.random.randint(of_labels, (room,), 0, ways, jnp.int32)
  labels = jnp.where(jnp.arange(room) < ways, jnp.arange(room) % ways, drawn)
  support = draw(of_noise, labels, ways=ways, features=features)
  weight = (jnp.arange(room) < number).astype(jnp.float32)
  tested = draw(of_test, jnp.arange(TESTED, dtype=jnp.int32) % ways, ways=ways, features=features)
  fitted = head.adapt(stream(key, 'learner'), {}, support._replace(weight=weight))
  outputs = head.predict(fitted, tested.x)
  return (cross_entropy.point(outputs) != tested.y).mean()
