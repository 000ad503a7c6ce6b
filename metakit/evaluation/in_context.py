"""Measures of in-context learners: state size, regret, simplicity bias, likeness to descent."""

import math
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import keystr, tree_leaves_with_path

from metakit.absent import known
from metakit.episodes.functions import Gaussians
from metakit.evaluation.judges import Judge, predict_prefixes, sequence
from metakit.learners.bayes import component_posteriors, variance_of
from metakit.learners.in_context import LAYOUTS, flat, in_context, no_tokens
from metakit.models import SequenceModel
from metakit.networks.attention import Cache
from metakit.networks.transformer import PROJECTIONS
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
  presence,
)


def state_size(learner: MetaLearner, params: Params, support: Examples) -> int:
  """Returns how many numbers the next prediction can depend on, besides the parameters.

  Kirsch et al. 2022 (arXiv:2212.04458, section 4.3) find that this number decides how well a model
  learns, and the number of parameters does not. In a transformer it grows with the support. In a
  recurrent network it is fixed.

  Args:
    learner: any MetaLearner.
    params: the meta-parameters, or their shapes.
    support: examples, or their shapes.
  """
  fitted = jax.eval_shape(learner.adapt, jax.random.key(0), params, support)
  sizes = lambda tree: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
  return sizes(fitted) - (sizes(params) if _holds(fitted, params) else 0)


def _holds(fitted: Any, params: Params) -> bool:
  """Says whether what is fitted begins with the parameters, and has more after them."""
  shapes = lambda tree: [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]
  known, parts = shapes(params), shapes(fitted)
  return 0 < len(known) < len(parts) and parts[: len(known)] == known


def regret(
  learner: MetaLearner, key: Key, params: Params, episode: Episode
) -> tuple[jax.Array, jax.Array]:
  """Returns the cumulative excess log-loss over a sequence, in nats, and -log of the task's weight.

  The excess is taken over the log-loss of the probabilities of the true task. For the Bayes mixture
  it is at most the second number, on every sequence.

  Args:
    learner: predicts logits.
    key: for the learner.
    params: the meta-parameters.
    episode: an episode of metakit.episodes.categorical.

  Returns:
    ([support + 1], []): the excess after 1, 2, ... predictions, the last that of the first query.
  """
  examples = sequence(episode)
  place = jnp.arange(len(examples.y)), examples.y
  outputs = predict_prefixes(learner, key, params, examples)
  theirs = (examples.x @ episode.info['log_probability'])[place]
  ours = jax.nn.log_softmax(outputs)[place]
  excess = jnp.where(known(examples), theirs - ours, 0)
  return jnp.cumsum(excess), -episode.info['log_weight']


def judge_regret(
  learner: MetaLearner, objective: Objective, params: Params, key: Key, episode: Episode
) -> Metrics:
  """A Judge of 'regret', the excess over the whole sequence, and of 'weight' (see `regret`)."""
  del objective  # regret is measured by the log-loss, whatever the objective
  excess, weight = regret(learner, key, params, episode)
  return {'regret': excess[-1], 'weight': weight}


FEWEST_ASKED = 16  # mixture_weight needs so many queries for errors of predictions to average out


class MixtureWeight(NamedTuple):
  """How much a learner and the posterior believe in the first of two components.

  Attributes:
    implied: [], the weight that the learner's predictions imply.
    posterior: [], the weight by Bayes' rule.
  """

  implied: jax.Array
  posterior: jax.Array


def mixture_weight(
  learner: MetaLearner,
  prior: Gaussians,
  noise: float,
  *,
  key: Key,
  params: Params,
  support: Examples,
  asked: jax.Array,
) -> MixtureWeight:
  """Finds how firmly a learner believes in the first of two components, from its predictions.

  The Bayes predictor is the mean of the components' predictions, weighted by their posterior
  weights (Panwar et al. 2024, arXiv:2306.04891, section 3.2). The implied weight is the one with
  which the components' predictions come closest to the learner's, by least squares over `asked`.

  Args:
    learner: a learner of a regression.
    prior: a prior of two components (gaussian_mixture).
    noise: standard deviation; see metakit.learners.bayes.
    key: for the learner.
    params: the meta-parameters.
    support: the examples.
    asked: [queries, inputs].

  Raises:
    ValueError: if the prior has not two components.
  """
  if len(prior.log_weight) != 2:
    raise ValueError(f'a prior of {len(prior.log_weight)} components; use one of two')
  present = presence(support)
  variance = variance_of(noise, [prior], support.x, present=present)
  each = component_posteriors(
    prior, variance, support.x, y=support.y[:, 0], present=present, asked=asked
  )
  means, evidence = each.mean, each.log_evidence
  apart = means[0] - means[1]
  outputs = learner.predict(learner.adapt(key, params, support), asked)[:, 0]
  implied = ((outputs - means[1]) * apart).sum() / jnp.square(apart).sum()
  return MixtureWeight(implied, jax.nn.softmax(prior.log_weight + evidence[:, 0])[0])


def judge_mixture_weight(prior: Gaussians, noise: float) -> Judge:
  """Returns a judge of the weight that predictions imply, after 0, 1, ... all support examples.

  Args:
    prior: a prior of two components.
    noise: standard deviation.

  Returns:
    A Judge with the metrics 'implied' and 'posterior' [1 + support] (see mixture_weight, asked at
    the queries, of which there should be many) and their mean absolute difference,
    'mixture_weight' []. It raises ValueError for fewer than FEWEST_ASKED queries.
  """

  def judge(
    learner: MetaLearner, objective: Objective, params: Params, key: Key, episode: Episode
  ) -> Metrics:
    support, queries = episode.support, episode.query.x
    point = lambda fitted, x: objective.point(learner.predict(fitted, x))  # the mean of a density
    pointed = learner._replace(predict=point)
    if len(queries) < FEWEST_ASKED:
      raise ValueError(
        f'queries={len(queries)} do not tell a weight; use queries>={FEWEST_ASKED}, such as 64'
      )

    def after(number: jax.Array) -> MixtureWeight:
      there = presence(support) & (jnp.arange(len(support.y)) < number)
      seen = support._replace(weight=there.astype(queries.dtype))
      return mixture_weight(
        pointed, prior, noise, key=key, params=params, support=seen, asked=queries
      )

    implied, posterior = jax.vmap(after)(jnp.arange(1 + len(support.y)))
    apart = jnp.abs(implied - posterior).mean()
    return {'implied': implied, 'posterior': posterior, 'mixture_weight': apart}

  return judge


def spectrum(
  learner: MetaLearner, key: Key, params: Params, *, support: Examples, grid: jax.Array
) -> Any:
  """Returns the amplitudes of the function that a learner has fitted to a support set.

  They are the discrete Fourier transform of its predictions on a grid. A learner with a simplicity
  bias fits the low frequencies first (Panwar et al. 2024, arXiv:2306.04891, section 4.3).

  Args:
    learner: a learner of a regression with one input and one output.
    key: for the learner.
    params: the meta-parameters.
    support: the examples.
    grid: [points, 1], evenly spaced over one period, the end left out.

  Returns:
    [points // 2 + 1]: entry n is the amplitude of the wave with n periods.
  """
  values = learner.predict(learner.adapt(key, params, support), grid)[:, 0]
  amplitudes = jnp.abs(jnp.fft.rfft(values)) / len(values)
  twice = slice(1, (len(values) + 1) // 2)  # the highest frequency of an even grid occurs once
  return amplitudes.at[twice].multiply(2)


def attention_to_support(
  model: SequenceModel, fitted: Fitted, x: jax.Array, *, layout: str = 'pairs'
) -> jax.Array:
  """Returns how much each query attends to each token of the support.

  Args:
    model: a transformer of metakit.networks with softmax attention.
    fitted: what `adapt` of `in_context(model, ..., layout)` returned.
    x: [queries, ...].
    layout: the layout of the learner.

  Returns:
    [layers, heads, queries, tokens]; what is missing to 1 a query gives to itself.

  Raises:
    ValueError: if the model has no attention weights.
  """
  params, state, last = fitted
  # The state of attention with momentum holds its cache.
  cache = None if model.inspect is None else getattr(state[1], 'cache', state[1])
  if model.inspect is None or not isinstance(cache, Cache):
    raise ValueError('the network has no attention weights; use attention=softmax or momentum')
  questions = LAYOUTS[layout].question(flat(x), last)
  shown = model.inspect(params, questions[:0], questions, *no_tokens(len(questions)), state)
  query, key = (_shown(shown, f'.{name}') for name in ('query', 'key'))
  scores = jnp.einsum('lqhf,lkhf->lhqk', query, cache.key)
  scores = jnp.where(cache.present[:, None, None], scores, -jnp.inf)
  itself = jnp.einsum('lqhf,lqhf->lhq', query, key)[..., None]
  weights = jax.nn.softmax(jnp.append(scores, itself, axis=-1) / query.shape[-1] ** 0.5)
  return weights[..., :-1]


def _shown(shown: Any, name: str) -> jax.Array:
  """Returns what each layer shows under a name, [layers, asked, heads, features]."""
  number = lambda path: int((re.findall(r'Block_(\d+)', keystr(path)) or ['0'])[0])
  leaves = [(number(p), leaf) for p, leaf in tree_leaves_with_path(shown) if name in keystr(p)]
  # By number, since by name Block_10 would come before Block_2.
  each = [leaf for _, leaf in sorted(leaves, key=lambda pair: pair[0])]
  return jnp.concatenate([jnp.reshape(leaf, (-1, *leaf.shape[-3:])) for leaf in each])


class Likeness(NamedTuple):
  """How alike two ways of learning from the same examples are, in one episode.

  Attributes:
    to_descent: mean cosine between two changes of the attention's output: the change by reading the
      support, and the change by gradient descent on it. This is SimAOU of Dai et al. 2023.
    to_chance: the same, with a random change of the same parameters, of the same size, in place of
      the descent.
  """

  to_descent: jax.Array
  to_chance: jax.Array


def likeness_to_descent(
  model: SequenceModel,
  num_outputs: int,
  key: Key,
  *,
  params: Params,
  episode: Episode,
  learning_rate: float = 0.01,
  objective: Objective = cross_entropy,
  label_scale: float | None = None,
) -> Likeness:
  """Compares learning in context with explicit fine-tuning.

  Dai et al. 2023 (arXiv:2212.10559, section 4) take the attention outputs of the query three times:
  with the support in context; without it; and without it after one epoch of gradient descent on the
  key and value projections, one example at a time in the same order. Their examples are texts. Here
  an example is a token, which without a support sees only itself. With a softmax its key then has
  no gradient, and only the values move.

  Args:
    model: a transformer of metakit.networks, `in_context` with the layout 'pairs'.
    num_outputs: classes, or size of the targets.
    key: draws the random change.
    params: the meta-parameters.
    episode: support and query.
    learning_rate: the rate of the descent.
    objective: the loss of the descent.
    label_scale: the label scale of the learner.

  Returns:
    Means over layers and queries.

  Raises:
    ValueError: if the model shows no attention outputs.
  """
  if model.inspect is None:
    raise ValueError('a network without attention cannot be compared; use network transformer')
  learner = in_context(model, num_outputs, objective=objective, label_scale=label_scale)
  support, nothing = episode.support, jax.tree.map(lambda leaf: leaf[:0], episode.support)

  def zero_shot_loss(params: Params, example: Examples) -> jax.Array:
    one = jax.tree.map(lambda leaf: leaf[None], example)
    return objective(learner.predict(learner.adapt(key, params, nothing), one.x), one)[0]

  def descend(params: Params, example: Examples) -> tuple[Params, None]:
    grads = jax.grad(zero_shot_loss)(params, example)
    step = _keys_and_values(jax.tree.map(lambda g: learning_rate * g, grads))
    return jax.tree.map(jnp.subtract, params, step), None

  def attend(params: Params, support: Examples) -> jax.Array:
    """Returns what the queries attended to, [layers, queries, width]."""
    _, state, last = learner.adapt(key, params, support)
    questions = LAYOUTS['pairs'].question(flat(episode.query.x), last)
    assert model.inspect is not None
    shown = model.inspect(params, questions[:0], questions, *no_tokens(len(questions)), state)
    attended = _shown(shown, 'attended')
    return attended.reshape(*attended.shape[:2], -1)

  tuned, _ = jax.lax.scan(descend, params, support)
  change = jax.tree.map(jnp.subtract, tuned, params)
  chance = jax.tree.map(jnp.add, params, _random_like(key, change))
  before = attend(params, nothing)
  read = attend(params, support) - before
  return Likeness(*(_cosine(read, attend(p, nothing) - before).mean() for p in (tuned, chance)))


def judge_likeness(
  model: SequenceModel, num_outputs: int, label_scale: float | None = None
) -> Judge:
  """Returns a judge with the metrics 'likeness_to_descent' and 'likeness_to_chance'.

  Args:
    model: see likeness_to_descent.
    num_outputs: classes, or size of the targets.
    label_scale: that of the learner.
  """

  def judge(
    learner: MetaLearner, objective: Objective, params: Params, key: Key, episode: Episode
  ) -> Metrics:
    del learner  # likeness_to_descent makes its own from the model
    likeness = likeness_to_descent(
      model,
      num_outputs,
      key,
      params=params,
      episode=episode,
      objective=objective,
      label_scale=label_scale,
    )
    return {'likeness_to_descent': likeness.to_descent, 'likeness_to_chance': likeness.to_chance}

  return judge


def _cosine(a: jax.Array, b: jax.Array) -> jax.Array:
  return (a * b).sum(-1) / jnp.maximum(
    jnp.linalg.norm(a, axis=-1) * jnp.linalg.norm(b, axis=-1), 1e-12
  )


def _keys_and_values(tree: Params) -> Params:
  """Returns the tree with 0 everywhere but in the key and value projections."""

  def kept(path: Any, leaf: jax.Array) -> jax.Array:
    if PROJECTIONS not in keystr(path):
      return jnp.zeros_like(leaf)
    return jnp.asarray(leaf).at[..., 0, :, :].set(0)  # entry 0 is the query projection

  return jax.tree_util.tree_map_with_path(kept, tree)


def _random_like(key: Key, tree: Params) -> Params:
  """Returns Gaussian noise of each array's size; 0 where the array is."""
  leaves, structure = jax.tree.flatten(tree)
  keys = jax.random.split(key, len(leaves))
  drawn = [jax.random.normal(k, a.shape, a.dtype) for k, a in zip(keys, leaves, strict=True)]
  noise = _keys_and_values(jax.tree.unflatten(structure, drawn))
  norm = lambda leaf: jnp.sqrt(jnp.square(leaf).sum())
  alike = lambda a, n: n * norm(a) / jnp.maximum(norm(n), 1e-12)
  return jax.tree.map(alike, tree, noise)
