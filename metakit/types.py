"""The five values: Examples, Episode, Sampler, Model (in metakit.models) and MetaLearner."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

Key = jax.Array  # a typed key of jax.random.key
Params = Any  # a pytree of arrays
Fitted = Any  # a pytree of arrays: all that is known about one task
Metrics = dict[str, jax.Array]


class Examples(NamedTuple):
  """One labelled set.

  Attributes:
    x: inputs, [examples, ...]; images may stay uint8, networks cast them.
    y: integer labels [examples] from 0, -1 for an example without one; or regression targets
      [examples, outputs].
    weight: [examples], 0 marks padding, which may hold anything; None means that every example
      counts fully.
  """

  x: Any
  y: Any
  weight: Any = None


def presence(examples: Examples) -> jax.Array:
  """Returns [examples] bool: which examples count."""
  if examples.weight is None:
    return jnp.ones(np.shape(examples.x)[0], bool)
  return examples.weight > 0


def join(first: Examples, second: Examples) -> Examples:
  """Returns the examples of both as one set, without labels if the second has none."""
  pair = first, second
  weight = None
  if any(part.weight is not None for part in pair):
    weight = jnp.concatenate([presence(p) * 1.0 if p.weight is None else p.weight for p in pair])
  y = None if second.y is None else jnp.concatenate([part.y for part in pair])
  return Examples(jnp.concatenate([part.x for part in pair]), y, weight)


class Episode(NamedTuple):
  """One task: a support set to learn from and a query set to be judged on.

  Attributes:
    support: what `adapt` sees.
    query: what `predict` is asked (x) and judged by (y).
    info: ground truth for analysis (class numbers, amplitude, ...); learners ignore it.
  """

  support: Examples
  query: Examples
  info: Any = ()


class Sampler(Protocol):
  """A pure function of a key: same key, same episode, on any device and host.

  It makes whole episodes. The plan of a metakit.sources.EpisodeSource is a sampler too, whose
  episodes hold row numbers in place of x.
  """

  def __call__(self, key: Key, /) -> Episode:
    """Returns the episode of a key."""
    ...


class OfValue(Protocol):
  """A function of the parameters and of a number: a target, or a probability."""

  def __call__(self, parameters: jax.Array, value: jax.Array, /) -> jax.Array: ...


class OfParameters(Protocol):
  """A function of the parameters alone."""

  def __call__(self, parameters: jax.Array, /) -> jax.Array: ...


class Density(NamedTuple):
  """A family of distributions of one number, as functions of its parameters (metakit.densities).

  All functions take parameters [..., size] and, where they take one, a value that broadcasts
  against [...]. They return [...].

  Attributes:
    name: the name in specs and records.
    size: how many parameters a distribution has.
    log_density: (parameters, y) -> log p(y), in nats.
    mean: parameters -> E[y].
    variance: parameters -> Var[y].
    cdf: (parameters, y) -> P(Y <= y).
    quantile: (parameters, level) -> the y with cdf(y) = level, for a level in (0, 1).
    divergence: (parameters, reference) -> KL(reference || parameters), in nats.
    crps: (parameters, y) -> the continuous ranked probability score, in units of y: the integral
      over t of (cdf(t) - [y <= t])^2 (Gneiting and Raftery 2007, JASA 102, eq. 20).
    expected_improvement: (parameters, best) -> E[max(y - best, 0)], in units of y.
    pool: parameters [members, ..., size] -> those [..., size] of the member of the family that is
      nearest to the mixture of all, in equal shares. None if that is not known.
  """

  name: str
  size: int
  log_density: OfValue
  mean: OfParameters
  variance: OfParameters
  cdf: OfValue
  quantile: OfValue
  divergence: OfValue
  crps: OfValue
  expected_improvement: OfValue
  pool: OfParameters | None = None


class Objective(NamedTuple):
  """Judges outputs. It is called like a function: (outputs, examples) -> (scalar loss, metrics).

  metakit.objectives has the usual ones, and makes others.

  Attributes:
    judge: this function. Its outputs are [examples, outputs].
    kind: what the outputs are: the logits of classes ('classification'), predictions of targets
      ('regression'), or the parameters of their density ('density').
    point: outputs -> what they predict: classes [examples] int, -1 for none, or values
      [examples, size].
    divergence: (outputs, reference) -> [examples], by how much the expected loss of `outputs`
      exceeds that of `reference`, if the reference is right. In a classification this is the
      Kullback-Leibler divergence in nats, in a regression the mean squared difference.
    outputs_per_target: how many outputs there are for each class, or for each number of a target.
    pool: outputs of several networks [networks, examples, outputs] -> those of all together
      [examples, outputs]: the logits of the mean probability, the mean prediction, or the density
      with the moments of the mixture. None if there is no such density.
    density: the family that outputs are parameters of, number by number; None if there is none.
  """

  judge: Callable[[jax.Array, Examples], tuple[jax.Array, Metrics]]
  kind: Literal['classification', 'regression', 'density']
  point: Callable[[jax.Array], jax.Array]
  divergence: Callable[[jax.Array, jax.Array], jax.Array]
  outputs_per_target: int = 1
  pool: Callable[[jax.Array], jax.Array] | None = None
  density: Density | None = None

  def __call__(self, outputs: jax.Array, examples: Examples) -> tuple[jax.Array, Metrics]:
    return self.judge(outputs, examples)

  @property
  def classifies(self) -> bool:
    """Whether targets are classes."""
    return self.kind == 'classification'


class Features(NamedTuple):
  """The parts of a learner that embeds each example by itself and learns from the embeddings.

  Attributes:
    embed: (params, x) -> features, row by row; rows do not influence one another.
    head: a MetaLearner whose inputs are those features and whose params are the same params.
  """

  embed: Callable[[Params, Any], jax.Array]
  head: 'MetaLearner'


# The functions of a learner. The protocols name the arguments, which are passed by position.


class Init(Protocol):
  def __call__(self, key: Key, episode: Episode, /) -> Params: ...


class Adapt(Protocol):
  def __call__(self, key: Key, params: Params, support: Examples, /) -> Fitted: ...


class Predict(Protocol):
  def __call__(self, fitted: Fitted, x: Any, /) -> jax.Array: ...


class Loss(Protocol):
  def __call__(
    self, key: Key, params: Params, episode: Episode, /
  ) -> tuple[jax.Array, Metrics]: ...


class LossAt(Protocol):
  def __call__(
    self, step: Any, key: Key, params: Params, episode: Episode, /
  ) -> tuple[jax.Array, Metrics]: ...


class Calibrate(Protocol):
  def __call__(self, params: Params, episodes: Episode, /) -> Params: ...


class Extend(Protocol):
  def __call__(self, fitted: Fitted, more: Examples, /) -> Fitted: ...


class Prefixes(Protocol):
  def __call__(self, key: Key, params: Params, examples: Examples, /) -> jax.Array: ...


class Diagnose(Protocol):
  def __call__(self, key: Key, params: Params, episode: Episode, /) -> Metrics: ...


def unchanged(params: Params, episodes: Episode) -> Params:
  """The `calibrate` of a learner that measures nothing."""
  del episodes
  return params


class MetaLearner(NamedTuple):
  """A meta-learner as pure functions of one task. There is no task axis: callers use vmap.

  metakit.builder.meta_learner makes one from the functions that are new about a method.

  Attributes:
    init: (key, episode) -> params, the meta-parameters. A learner never gets a key that a sampler
      drew from (metakit.keys.learner_key).
    adapt: (key, params, support) -> fitted, a pytree that alone determines `predict`.
    predict: (fitted, x) -> outputs for the whole query set [queries, outputs].
    loss: (key, params, episode) -> (scalar, metrics), what meta-training minimises.
    queries_seen: whether the prediction of a query may depend on the other queries, which includes
      the statistics of a batch. If so, the learner is transductive; otherwise it is inductive.
    calibrate: (params, episodes) -> params, run once before the first `adapt` at test time. The
      episodes are training episodes with a leading task axis. It measures what gradient descent
      does not learn, such as normalisation statistics. The default changes nothing.
    features: the learner's parts if it embeds every example by itself, so that a table can be
      embedded once for all test episodes; None otherwise.
    extend: (fitted, more) -> fitted, as if `adapt` had seen all examples. It costs as much as the
      new ones alone. None if the learner cannot go on learning.
    prefixes: (key, params, examples) -> outputs [examples, outputs], each example predicted from
      those before it, in one pass; None if that takes an adaptation for each.
    loss_at: (step, key, params, episode) -> (scalar, metrics), the loss of meta-training step
      `step` [] int32. None if the loss is the same in all steps: it is `loss` then.
    diagnose: (key, params, episode) -> metrics of the meta-gradient of one task, see
      metakit.meta_gradient.diagnose; None for learners without an inner loop to differentiate.
  """

  init: Init
  adapt: Adapt
  predict: Predict
  loss: Loss
  queries_seen: bool = False
  calibrate: Calibrate = unchanged
  features: Features | None = None
  extend: Extend | None = None
  prefixes: Prefixes | None = None
  loss_at: LossAt | None = None
  diagnose: Diagnose | None = None

  @property
  def protocol(self) -> str:
    """The word that papers put beside a score: 'inductive' or 'transductive'."""
    return 'transductive' if self.queries_seen else 'inductive'
