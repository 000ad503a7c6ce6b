"""In-context learners: a sequence model that reads examples and predicts what comes next.

Louis Kirsch, James Harrison, Jascha Sohl-Dickstein, Luke Metz, General-Purpose In-Context Learning
by Meta-Learning Transformers, 2022, arXiv:2212.04458. No gradient adapts anything: the forward pass
is the learning algorithm. The model predicts every example from those before it. Meta-training
minimises the mean loss of these predictions (their eq. 2). A layout says how examples become
tokens:

- 'shifted' is that of the paper. An example is one token: x with the label of the example before.
- 'interleaved' (Garg et al. 2022, arXiv:2208.01066): x and y are two tokens.
- 'pairs': an example is one token, x with its own y. Each prediction has a further token, x alone.
  It sees the examples before it and itself, and no other token sees it. With a model that is not
  causal this is a learner of sets (Mueller et al. 2022, arXiv:2112.10510), where only queries have
  a loss.

The published layout stays at chance for far longer (experiments/results/), since a model must first
learn to look one token back before it can learn from (x, y).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metakit.absent import known
from metakit.builder import meta_learner
from metakit.inputs import as_float
from metakit.models import SequenceModel
from metakit.objectives import cross_entropy
from metakit.types import (
  Episode,
  Examples,
  Fitted,
  Key,
  MetaLearner,
  Metrics,
  Objective,
  Params,
  join,
)


class Layout(NamedTuple):
  """How examples become tokens.

  Attributes:
    tokens: (x, y, present, last) -> (tokens, present) of n examples; x [n, inputs], y [n, outputs].
      `last` [outputs] is the label before the first of them, 0 at the start.
    question: (x, last) -> tokens [n, features] that ask for the labels of x, each alone.
    stride: tokens an example.
    asks: whether a prediction is the answer to a question; otherwise it is the output of the first
      token of its example.
  """

  tokens: Callable[..., tuple[jax.Array, jax.Array]]
  question: Callable[[jax.Array, jax.Array], jax.Array]
  stride: int
  asks: bool


def in_context(
  model: SequenceModel,
  num_outputs: int,
  layout: str = 'pairs',
  *,
  objective: Objective = cross_entropy,
  label_scale: float | None = None,
) -> MetaLearner:
  """Learns a learning algorithm in the forward pass of a sequence model.

  Args:
    model: a network of metakit.networks.transformer or metakit.networks.recurrent.
    num_outputs: classes of the labels, or size of the regression targets.
    layout: how examples become tokens: 'pairs' (x and y in one), 'shifted' (the last y with the
      next x) or 'interleaved' (x and y after one another).
    objective: loss of the predictions: of each support example from those before it, and of each
      query from the support. The metric `gain` is added: the mean loss of the first half of the
      predictions less that of the second. It is 0 until the model learns from what it reads.
    label_scale: what one-hot labels are multiplied by; None for the root of the number of inputs.

  Returns:
    A MetaLearner whose fitted hold the model's state, so a query costs one token. `extend` goes on
    reading, and `prefixes` predicts each example from those before it. A learner whose model is not
    causal has neither.

  Raises:
    ValueError: for an unknown layout, or one that a model that is not causal cannot use.

  >>> from metakit.networks import transformer
  >>> models = [transformer(num_outputs=5, attention=kind) for kind in ('softmax', 'set')]
  >>> [in_context(model, num_outputs=5).extend is not None for model in models]  # can it go on?
  [True, False]
  """
  if layout not in LAYOUTS:
    raise ValueError(f'layout={layout!r} is unknown; use one of {", ".join(LAYOUTS)}')
  if not model.causal and layout != 'pairs':
    raise ValueError(f'layout={layout} needs a causal model; use attention=softmax or layout=pairs')
  kind = LAYOUTS[layout]
  targets_of = lambda examples: targets(examples, num_outputs, label_scale)
  read = reading(model, kind, num_outputs, targets_of=targets_of)

  def init(key: Key, episode: Episode) -> Params:
    support = episode.support
    x, y = flat(support.x), targets_of(support)
    return model.init(key, kind.tokens(x, y, known(support), jnp.zeros_like(y[0]))[0])

  def adapt(key: Key, params: Params, support: Examples) -> Fitted:
    del key  # nothing is drawn
    return read(params, support, support.x[:0])[2]

  def extend(fitted: Fitted, support: Examples) -> Fitted:
    return read(fitted[0], support, support.x[:0], fitted)[2]

  def predict(fitted: Fitted, x: jax.Array) -> jax.Array:
    params, state, last = fitted
    questions = kind.question(flat(x), last)
    return model.apply(
      params, questions[:0], questions, *no_tokens(questions.shape[0]), state
    ).answers

  def prefixes(key: Key, params: Params, support: Examples) -> jax.Array:
    del key  # nothing is drawn
    return read(params, support, support.x[:0], predicted=True)[0]

  def loss(key: Key, params: Params, episode: Episode) -> tuple[jax.Array, Metrics]:
    del key  # nothing is drawn
    support, query, _ = episode
    predicted, answers, _ = read(params, support, query.x, predicted=model.causal)
    if not model.causal:
      return objective(answers, query)
    outputs, examples = jnp.concatenate([predicted, answers]), join(support, query)
    total, metrics = objective(outputs, examples)
    return total, {**metrics, 'gain': _gain(objective, outputs, examples)}

  learner = meta_learner(init, adapt, predict, loss=loss, extend=extend, prefixes=prefixes)
  return learner if model.causal else learner._replace(extend=None, prefixes=None)


def reading(
  model: SequenceModel,
  layout: Layout,
  num_outputs: int,
  *,
  targets_of: Callable[[Examples], jax.Array],
) -> Callable[..., tuple[jax.Array, jax.Array, Fitted]]:
  """Returns a function that reads a support set and predicts.

  (params, support, asked, before=None, predicted=False) -> predictions of the support [n, outputs],
  predictions of the inputs `asked` [m, outputs], and fitted. Predictions of the support may cost as
  much as reading it. They are left out unless `predicted`.

  Args:
    model: the network.
    layout: how examples become tokens.
    num_outputs: classes of the labels, or size of the targets.
    targets_of: examples -> their labels as they are read, [examples, outputs].
  """
  tokens_of, question, stride, asks = layout

  def read(
    params: Params,
    support: Examples,
    asked: jax.Array,
    before: Fitted | None = None,
    predicted: bool = False,
  ) -> tuple[jax.Array, jax.Array, Fitted]:
    x, y, present = flat(support.x), targets_of(support), known(support)
    state, last = (None, jnp.zeros_like(y, shape=num_outputs)) if before is None else before[1:]
    tokens, there = tokens_of(x, y, present, last)
    last = jnp.concatenate([last[None], y])[last_present(present)[-1]]
    of_examples = question(x if asks and predicted else x[:0], last)
    questions = jnp.concatenate([of_examples, question(flat(asked), last)])
    seen = jnp.append(
      jnp.arange(of_examples.shape[0]), jnp.full(asked.shape[0], tokens.shape[0])
    ).astype(jnp.int32)
    outputs, answers, state = model.apply(params, tokens, questions, seen, there, state)
    of_support = answers[: of_examples.shape[0]] if asks else outputs[::stride]
    return of_support, answers[of_examples.shape[0] :], (params, state, last)

  return read


def no_tokens(asked: int) -> tuple[jax.Array, jax.Array]:
  """Returns `seen` and `present` of a call that asks questions and reads no tokens."""
  return jnp.zeros(asked, jnp.int32), jnp.zeros(0, bool)


def _gain(objective: Objective, outputs: jax.Array, examples: Examples) -> jax.Array:
  """Returns by how much the loss of the second half of a sequence is below that of the first."""
  half = len(outputs) // 2
  if not half:
    return jnp.zeros((), outputs.dtype)
  take = lambda part: jax.tree.map(lambda leaf: leaf[part], (outputs, examples))
  return objective(*take(slice(half)))[0] - objective(*take(slice(half, None)))[0]


def flat(x: jax.Array) -> jax.Array:
  """Returns floating-point inputs [examples, features]."""
  return as_float(x).reshape(x.shape[0], math.prod(x.shape[1:]))


def targets(examples: Examples, num_outputs: int, label_scale: float | None) -> jax.Array:
  """Returns the labels as [examples, outputs]; integer labels become one-hot, times their scale."""
  x = flat(examples.x[:1])
  if not jnp.issubdtype(examples.y.dtype, jnp.integer):
    if examples.y.ndim == 1:
      raise ValueError(
        f'targets are {examples.y.dtype} of shape {examples.y.shape}; give class labels as '
        'integers, and targets of a regression as [examples, outputs]'
      )
    return examples.y.astype(x.dtype)
  scale = x.shape[1] ** 0.5 if label_scale is None else label_scale
  return scale * jax.nn.one_hot(examples.y, num_outputs, dtype=x.dtype)


def last_present(present: jax.Array) -> jax.Array:
  """Returns [1 + n] int. Entry k is 1 + the number of the last present one of the first k, or 0."""
  numbers = jnp.where(present, jnp.arange(1, present.shape[0] + 1), 0)
  return jnp.append(0, jax.lax.cummax(numbers)) if present.shape[0] else jnp.zeros(1, jnp.int32)


# The layouts. A flag in the last feature tells kinds of tokens apart.


def _flagged(x: jax.Array, y: jax.Array, flag: float) -> jax.Array:
  return jnp.concatenate([x, y, jnp.full((x.shape[0], 1), flag, x.dtype)], axis=1)


def _alone(x: jax.Array, last: jax.Array) -> jax.Array:
  return _flagged(x, jnp.zeros((x.shape[0], *last.shape), x.dtype), 1.0)


def _pairs(x, y, present, last):
  del last  # each token holds its own label
  return _flagged(x, y, 0.0), present


def _shifted(x, y, present, last):
  previous = jnp.concatenate([last[None], y])[last_present(present)[:-1]]
  return jnp.concatenate([x, previous], axis=1), present


def _interleaved(x, y, present, last):
  labels = _flagged(jnp.zeros_like(x), y, 0.0)
  both = jnp.stack([_alone(x, last), labels], axis=1)  # [examples, 2, features]
  return both.reshape(-1, both.shape[-1]), jnp.repeat(present, 2)


def _with_last(x: jax.Array, last: jax.Array) -> jax.Array:
  return jnp.concatenate([x, jnp.broadcast_to(last, (x.shape[0], *last.shape))], axis=1)


LAYOUTS = {
  'pairs': Layout(_pairs, _alone, 1, True),
  'shifted': Layout(_shifted, _with_last, 1, False),
  'interleaved': Layout(_interleaved, _alone, 2, False),
}
