"""How long a prediction takes: metakit.Trained on pictures, beside the bare compiled functions.

Conv4 with 64 filters, pictures of 28x28, 5-way 1-shot: prototypical networks, and MAML of 5 inner
steps, inductive. `adapt` and `predict` start from arrays of pictures and end with labels. They
check the pictures and pad their number. The bare functions are those of the learner, compiled for
these numbers of examples, and the outputs of both are compared before they are timed. Programs are
compiled before; compile_seconds is what the first call took. One case of each learner is named by
how many programs were compiled for each number of queries from 1 to 100 in turn, and its
compile_seconds are for all of these calls.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from experiments.benchmarks.suite import AT_MOST, LONGER, Aim, Suite
from experiments.benchmarks.timing import Case
from metakit.trained import Fitted, Inputs, MadeOf, Trained
from metakit.trained.trained import bucket
from metakit.types import Episode, Examples

WAYS, MOST, MANY = 5, 100, 1000
LEARNERS = {
  'prototypical': MadeOf('prototypical', 'conv4:width=64', WAYS),
  'MAML': MadeOf('maml:inner_steps=5,protocol=inductive', 'conv4:width=64', WAYS),
}
INPUTS = Inputs((28, 28, 1), 'uint8', 127.0, 74.0)
BARE = 'the bare functions'
CLOSE = 1e-4  # other numbers of rows are other programs, which round otherwise


def predict() -> list[Case]:
  """Returns the cases of each learner.

  Raises:
    AssertionError: if outputs differ from those of the bare functions, or numbers of examples
      between two powers of two take more than one program.
  """
  return [case for name, parts in LEARNERS.items() for case in _cases(name, trained(parts))]


def trained(parts: MadeOf) -> Trained:
  """Returns a learner as it is before training, which takes as long as after it."""
  x = np.zeros((WAYS, *INPUTS.shape), np.uint8)
  examples = Examples(x, np.arange(WAYS, dtype=np.int32))
  params = jax.device_get(
    jax.jit(parts.make().init)(jax.random.key(0), Episode(examples, examples))
  )
  return Trained(parts.make, params, INPUTS, WAYS, True, parts)


def pictures(number: int) -> np.ndarray:
  """Returns pictures of noise, [number, 28, 28, 1] uint8."""
  return np.random.default_rng(number).integers(0, 256, (number, *INPUTS.shape), np.uint8)


def _cases(name: str, learner: Trained) -> Iterator[Case]:
  x, y = pictures(WAYS), np.arange(WAYS, dtype=np.int32)
  adapt = lambda: learner.adapt(x, y)
  bare = jax.jit(learner.learner.adapt)
  alone = lambda: bare(jax.random.key(0), learner.params, Examples(x, y))
  yield from _pair(f'{name}, adapt to {WAYS}', WAYS, lambda: adapt().state, alone)
  fitted, state, outputs = adapt(), alone(), jax.jit(learner.learner.predict)
  yield _any_number(name, fitted)  # first, while none of its programs is compiled
  for queries in (1, MANY):
    some = pictures(queries)
    expected = np.asarray(outputs(state, some))
    np.testing.assert_allclose(fitted.outputs(some), expected, CLOSE, CLOSE, err_msg=name)
    ours = lambda some=some: fitted.predict(some)
    theirs = lambda some=some: outputs(state, some)
    yield from _pair(f'{name}, predict {queries:,}', queries, ours, theirs)


def _pair(
  name: str, number: int, ours: Callable[[], Any], theirs: Callable[[], Any]
) -> Iterator[Case]:
  """Yields a case, and that of the bare functions that it is compared with."""
  start = time.perf_counter()
  jax.block_until_ready(ours())
  seconds = time.perf_counter() - start
  other = f'{name}, {BARE}'
  yield Case(name, ours, number, baseline=other, compile_seconds=seconds, unit='examples')
  yield Case(other, theirs, number, unit='examples')


def _any_number(name: str, fitted: Fitted) -> Case:
  queries = pictures(MOST)
  predict_each = lambda numbers: [fitted.predict(queries[:number]) for number in numbers]
  start, before = time.perf_counter(), _compiled(fitted)
  predict_each(range(1, MOST + 1))
  seconds, programs = time.perf_counter() - start, _compiled(fitted) - before
  sizes = {bucket(number) for number in range(1, MOST + 1)}
  assert programs <= len(sizes), f'{name}: {programs} programs for {len(sizes)} sizes'
  some = 1, MOST // 2, MOST
  said = f'{name}, predict {", ".join(map(str, some))} (1 to {MOST}: {programs} programs)'
  call = lambda: predict_each(some)
  return Case(said, call, sum(some), compile_seconds=seconds, unit='examples')


def _compiled(fitted: Fitted) -> int:
  """Returns how many programs of `predict` are compiled."""
  program: Any = fitted.programs.predict
  return program._cache_size()


AIMS = tuple(
  Aim(f'{name}, predict {MANY:,}', LONGER, f'{name}, predict {MANY:,}, {BARE}', AT_MOST, 1.5)
  for name in LEARNERS
)
SUITES = {'predict': Suite(predict, AIMS)}
