"""A trained learner, ready for anyone's examples.

trained = metakit.load('runs/mine')  # or a checkpoint, a .safetensors file, a name of the zoo
fitted = trained.adapt(['cat/1.jpg', 'dog/1.jpg'], ['cat', 'dog'])
fitted.predict(['new.jpg'])
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metakit.data.encodings import scaled, unscaled
from metakit.densities.density import by_number
from metakit.keys import fixed_key, learner_key
from metakit.trained import inputs as of_inputs
from metakit.trained.inputs import Inputs, Ready
from metakit.trained.labels import Labels, class_labels, known_labels, targets
from metakit.trained.made_of import MadeOf, shapes_of_params
from metakit.types import Density, Examples, MetaLearner, Params

FEWEST = 8  # rows of the smallest program
MOST_QUERIES = 512  # rows that are predicted at once


class Programs(NamedTuple):
  """The compiled functions of a learner; JAX compiles each once for every number of rows."""

  learner: MetaLearner
  adapt: Callable[..., Any]
  extend: Callable[..., Any] | None
  predict: Callable[..., Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
  """A learner with its parameters, and what is known of the data that it was trained on.

  Attributes:
    make: number of classes, or of the numbers of a target -> the MetaLearner.
    params: its parameters, as NumPy arrays.
    inputs: what its inputs were.
    outputs: classes of a training episode, or numbers of a target.
    classifies: whether targets are classes.
    made_of: the specs of its parts; None for a learner of a user's own.
    card: what else is known: command, score, data, licence, ...
    family: makes the family of distributions whose parameters its outputs are, such as
      metakit.densities.gaussian, if `made_of` does not say it.
  """

  make: Callable[[int], MetaLearner] = dataclasses.field(repr=False)
  params: Params = dataclasses.field(repr=False)
  inputs: Inputs
  outputs: int
  classifies: bool = True
  made_of: MadeOf | None = None
  card: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  family: Callable[[], Density] | None = None
  _programs: dict[int, Programs] = dataclasses.field(default_factory=dict, repr=False)

  @property
  def learner(self) -> MetaLearner:
    """The learner as it was trained."""
    return self.make(self.outputs)

  @property
  def density(self) -> Density | None:
    """The family of distributions whose parameters its outputs are; None if they are of none."""
    if self.family is not None:
      return _density(self.family)
    return None if self.made_of is None else self.made_of.judged_by.density

  @property
  def per_number(self) -> int:
    """How many outputs there are for each number of a target."""
    return 1 if self.density is None else self.density.size

  def adapt(self, x: Any, y: Any, *, seed: int = 0) -> 'Fitted':
    """Learns from examples with labels.

    The number of examples is padded to a power of two with examples that do not count, so that few
    programs are compiled.

    Args:
      x: examples: pictures (paths, Pillow images, arrays of any size and mode), texts, or numbers,
        as in training (see metakit.trained.inputs.ready).
      y: a label for each: strings or integers; in a regression numbers [examples], or [examples,
        outputs].
      seed: for learners that draw at random.

    Raises:
      ValueError: in one line, for examples or labels that are none of these, or more classes than
        the learner has outputs for.
      OSError: if a picture cannot be read.
    """
    ready = of_inputs.ready(self.inputs, x)
    read = class_labels if self.classifies else self._targets
    labels = read(y, len(ready.x))
    programs = self._for(labels.classes)
    state = programs.adapt(_key(seed), self.params, _padded(ready.x, labels.y))
    return Fitted(self, programs, state, ready, labels, seed)

  def __getstate__(self) -> dict[str, Any]:  # for pickle; programs are compiled where it is read
    return {**vars(self), '_programs': {}}

  def __deepcopy__(self, memo: Any) -> 'Trained':
    return self  # it does not change, and a copy would compile its programs again

  def _targets(self, y: Any, examples: int) -> Labels:
    """Returns targets in the units of training."""
    labels = targets(y, examples, self.outputs)
    return labels._replace(y=scaled(self.inputs.encoding, labels.y).astype(np.float32))

  def _for(self, labels: np.ndarray | None) -> Programs:
    """Returns the programs for the labels that occur; None in a regression."""
    # Learners are of two classes at least. Of one class alone, the second is never predicted.
    return self.programs(self.outputs if labels is None else max(2, len(labels)))

  def programs(self, classes: int) -> Programs:
    """Returns its compiled functions for a number of classes; see `learner_of`."""
    if classes not in self._programs:
      self._programs[classes] = _programs(self.learner_of(classes))
    return self._programs[classes]

  def learner_of(self, classes: int) -> MetaLearner:
    """Returns the learner for a number of classes; in a regression the learner itself.

    Raises:
      ValueError: for more classes than it has outputs for.
    """
    if classes == self.outputs:
      return self.learner
    learner = self.make(classes)
    if self._fits(learner, classes):
      return learner
    if classes > self.outputs:
      raise ValueError(
        f'{classes} classes are more than the {self.outputs} outputs of this learner; give fewer, '
        'or use one that takes any number, such as prototypical'
      )
    return self.learner  # some of its outputs stand for no class

  def _fits(self, learner: MetaLearner, classes: int) -> bool:
    """Tells whether the parameters are those of the learner for another number of classes."""
    needed = shapes_of_params(learner, self.inputs, classes, classifies=self.classifies)
    described = lambda tree: jax.tree.map(lambda leaf: (leaf.shape, jnp.dtype(leaf.dtype)), tree)
    return described(needed) == described(self.params)


class Fitted(NamedTuple):
  """A learner that has seen a support set.

  Attributes:
    trained: the learner.
    programs: its programs for this number of classes.
    state: what `adapt` returned, a pytree of arrays.
    support: the support set as the learner took it.
    labels: its labels.
    seed: of `adapt`.
  """

  trained: Trained
  programs: Programs
  state: Any
  support: Ready
  labels: Labels
  seed: int = 0

  def __reduce__(self) -> tuple[Any, ...]:  # for pickle, see Trained
    arrays = jax.device_get(self.state)
    return _fitted, (self.trained, arrays, self.support, self.labels, self.seed)

  @property
  def classes(self) -> np.ndarray:
    """The labels of the support set, [classes], in the order of `predict_proba`."""
    if self.labels.classes is None:
      raise ValueError('this learner predicts numbers; there are no classes')
    return self.labels.classes

  def predict(self, x: Any) -> np.ndarray:
    """Returns the label of each example [examples]; in a regression numbers, in the form of y.

    Of a density this is the mean.
    """
    outputs = self.outputs(x)
    if self.labels.classes is not None:
      return self.labels.classes[outputs.argmax(1)]
    density = self.trained.density
    if density is None:
      return outputs[:, 0] if self.labels.flat else outputs
    return self._numbers(np.asarray(_mean(density, outputs)))

  def quantile(self, x: Any, levels: Any) -> np.ndarray:
    """Returns quantiles of the predicted density of each example, in the form of y.

    Args:
      x: see `predict`.
      levels: a level between 0 and 1, such as 0.5 for the median; or [levels], which become a last
        axis of the result.

    Raises:
      ValueError: for other levels, and for a learner that predicts no density.
    """
    density, known = self._density(), np.asarray(levels, np.float32)
    if known.ndim > 1 or not ((known > 0) & (known < 1)).all():
      raise ValueError(f'levels={levels}: a level of a quantile is between 0 and 1; use 0.5, say')
    found = np.asarray(_quantiles(density, self.outputs(x), np.atleast_1d(known)))
    each = np.stack([self._numbers(found[..., k]) for k in range(found.shape[-1])], axis=-1)
    return each if known.ndim else each[..., 0]

  def deviation(self, x: Any) -> np.ndarray:
    """Returns the standard deviation of the predicted density of each example, in the form of y.

    Raises:
      ValueError: for a learner that predicts no density.
    """
    found = np.asarray(_deviation(self._density(), self.outputs(x)))
    scale = (self.trained.inputs.encoding or {}).get('targets')
    found = found * scale['deviation'] if scale else found
    return found[:, 0] if self.labels.flat else found

  def _density(self) -> Density:
    density = self.trained.density
    if density is None:
      raise ValueError('this learner predicts no density; train one with --objective=gaussian, say')
    return density

  def _numbers(self, values: np.ndarray) -> np.ndarray:
    """Returns numbers [examples, outputs] in the units and the form of y."""
    values = unscaled(self.trained.inputs.encoding, values)
    return values[:, 0] if self.labels.flat else values

  def predict_proba(self, x: Any) -> np.ndarray:
    """Returns the probability of each class, [examples, classes] float64.

    Raises:
      ValueError: in a regression.
    """
    classes = self.classes  # raises in a regression
    logits = self.outputs(x).astype(np.float64)
    logits -= logits.max(1, keepdims=True, initial=-np.inf) if len(classes) else 0
    likely = np.exp(logits)
    return likely / likely.sum(1, keepdims=True)

  def outputs(self, x: Any) -> np.ndarray:
    """Returns the learner's outputs, [examples, classes] logits or [examples, outputs] numbers.

    The numbers are in the units of y. A learner of densities has the parameters of each number of a
    target, one after the other, [examples, numbers * parameters]. They are in the units of
    training.

    Each example is predicted by itself, unless the learner is transductive. Then all of x count as
    the queries of one task, and each new number of them is compiled anew.
    """
    queries = of_inputs.ready(self.trained.inputs, x, like=self.support).x
    if not len(queries):
      return np.zeros((0, self._size), np.float32)
    together = self.programs.learner.queries_seen
    parts = [queries] if together else _in_parts(queries)
    answers = [self._answers(part, alone=not together) for part in parts]
    whole = np.concatenate(answers)
    return whole if self.trained.density else unscaled(self.trained.inputs.encoding, whole)

  def extend(self, x: Any, y: Any) -> 'Fitted':
    """Returns what has also learned from further examples; their classes may be new.

    This costs as much as the new examples alone if the learner has `extend` and no class is new.
    Otherwise the learner adapts to all examples again.

    Args:
      x: see Trained.adapt.
      y: see Trained.adapt.
    """
    more = of_inputs.ready(self.trained.inputs, x, like=self.support)
    support = Ready(np.concatenate([self.support.x, more.x]), self.support.inverted)
    if self.labels.classes is None:
      new = self.trained._targets(y, len(more.x)).y
      labels = self.labels._replace(y=np.concatenate([self.labels.y, new]))
    else:
      known = known_labels(self.labels.classes, y, len(more.x))
      if known is None:
        return self._again(
          support, [*self.classes[self.labels.y].tolist(), *np.asarray(y).tolist()]
        )
      new, labels = known, self.labels._replace(y=np.concatenate([self.labels.y, known]))
    if self.programs.extend is not None:
      state = self.programs.extend(self.state, _padded(more.x, new))
    else:
      state = self.programs.adapt(
        _key(self.seed), self.trained.params, _padded(support.x, labels.y)
      )
    return self._replace(state=state, support=support, labels=labels)

  def _again(self, support: Ready, y: list[Any]) -> 'Fitted':
    """Returns the learner adapted to a support set that was made ready before."""
    labels = class_labels(y, len(support.x))
    assert labels.classes is not None
    programs = self.trained._for(labels.classes)
    state = programs.adapt(_key(self.seed), self.trained.params, _padded(support.x, labels.y))
    return Fitted(self.trained, programs, state, support, labels, self.seed)

  @property
  def _size(self) -> int:
    """How many outputs count."""
    if self.labels.classes is not None:
      return len(self.labels.classes)
    return self.trained.outputs * self.trained.per_number

  def _answers(self, queries: np.ndarray, *, alone: bool) -> np.ndarray:
    rows = bucket(len(queries)) if alone else len(queries)
    outputs = self.programs.predict(self.state, _filled(queries, rows))
    return np.asarray(outputs)[: len(queries), : self._size]


def _fitted(trained: Trained, state: Any, support: Ready, labels: Labels, seed: int) -> Fitted:
  programs = trained._for(labels.classes)
  return Fitted(trained, programs, jax.device_put(state), support, labels, seed)


@functools.cache
def _density(family: Callable[[], Density]) -> Density:
  return family()


def bucket(rows: int) -> int:
  """Returns the number of rows of the program for a number of examples.

  >>> [bucket(rows) for rows in (1, 8, 9, 100)]
  [8, 8, 16, 128]
  """
  return max(FEWEST, 1 << (rows - 1).bit_length())


def _programs(learner: MetaLearner) -> Programs:
  extend = None if learner.extend is None else jax.jit(learner.extend)
  return Programs(learner, jax.jit(learner.adapt), extend, jax.jit(learner.predict))


# In one program each. They see parameters as [examples, numbers, size].


@functools.partial(jax.jit, static_argnums=0)
def _mean(density: Density, outputs: Any) -> jax.Array:
  return density.mean(by_number(outputs, density.size))


@functools.partial(jax.jit, static_argnums=0)
def _quantiles(density: Density, outputs: Any, levels: Any) -> jax.Array:
  return density.quantile(by_number(outputs, density.size)[..., None, :], levels)


@functools.partial(jax.jit, static_argnums=0)
def _deviation(density: Density, outputs: Any) -> jax.Array:
  return jnp.sqrt(density.variance(by_number(outputs, density.size)))


def _key(seed: int) -> jax.Array:
  return learner_key(fixed_key(seed), 0)


def _padded(x: np.ndarray, y: np.ndarray) -> Examples:
  """Returns examples, and as many that do not count as the program needs."""
  rows = bucket(len(x))
  weight = (np.arange(rows) < len(x)).astype(np.float32)
  return Examples(_filled(x, rows), _filled(y, rows), weight)


def _filled(array: np.ndarray, rows: int) -> np.ndarray:
  return np.concatenate([array, np.zeros((rows - len(array), *array.shape[1:]), array.dtype)])


def _in_parts(queries: np.ndarray) -> list[np.ndarray]:
  return [queries[i : i + MOST_QUERIES] for i in range(0, len(queries), MOST_QUERIES)]
