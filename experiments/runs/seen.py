"""What a learner predicts in the first test episodes, query by query, and what guessing would."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.output.answers import NONE, Answers
from experiments.output.progress import episode_progress
from experiments.runs.evaluation import Tested, judged_by
from metakit.absent import blanked, known
from metakit.sources import abstract_episode
from metakit.types import Episode, Examples, Key, MetaLearner, Metrics, Objective, Params

EPISODES = 200  # are looked at query by query
MOST_OUTPUTS = 1 << 24  # that are kept of them, 64 MiB

# What `judge_seen` gives beside the metrics of the queries, and the start of the names of guesses.
OUTPUTS, TARGETS, COUNTED, CLASSES = 'seen/outputs', 'seen/y', 'seen/counted', 'seen/classes'
GUESS = 'guess/'
# How one may guess without any knowledge but the targets of the support.
FREQUENT, MEAN, ZERO = 'the most frequent class of the support', 'the mean of the support', 'zero'


class Seen(NamedTuple):
  """The first test episodes, as NumPy arrays.

  Attributes:
    metrics: the metrics of the queries, each [episodes].
    guesses: how one may guess -> the same metric of the guess, [episodes]: the accuracy in a
      classification, and otherwise the loss. Empty where outputs are not predictions.
    outputs: [episodes, queries, outputs], logits or predictions.
    y: [episodes, queries] labels, or [episodes, queries, outputs] targets.
    counted: [episodes, queries] bool, False for padding and for queries without a label.
    classes: [episodes, ways], the number of each label's class in the table of the test, -1 for a
      label without examples; None if episodes are of no table.
  """

  metrics: Mapping[str, np.ndarray]
  guesses: Mapping[str, np.ndarray]
  outputs: np.ndarray
  y: np.ndarray
  counted: np.ndarray
  classes: np.ndarray | None


def see(tested: Tested, episodes: int, *, said: str = 'looking at') -> Seen:
  """Returns what a learner predicts in the first episodes, at most EPISODES of them."""
  few = min(episodes, EPISODES, _most_episodes(tested))
  with episode_progress(f'{said} {few} episodes', few) as on_chunk:
    judged = judged_by(judge_seen, tested, few, on_chunk=on_chunk)
  own = [name for name in judged if not name.startswith(('seen/', GUESS))]
  guesses = {name[len(GUESS) :]: judged[name] for name in judged if name.startswith(GUESS)}
  outputs, y, counted = (judged[name] for name in (OUTPUTS, TARGETS, COUNTED))
  classes = judged.get(CLASSES) if tested.task.table else None
  return Seen({name: judged[name] for name in own}, guesses, outputs, y, counted, classes)


def _most_episodes(tested: Tested) -> int:
  queries = len(abstract_episode(tested.source).query.y)
  outputs = tested.task.num_outputs * tested.task.objective.outputs_per_target
  return max(1, MOST_OUTPUTS // (queries * outputs))


def judge_seen(
  learner: MetaLearner, objective: Objective, params: Params, key: Key, episode: Episode
) -> Metrics:
  """Returns the metrics of the query set, those of guesses, the predictions and the targets."""
  fitted = learner.adapt(key, params, episode.support)
  outputs = learner.predict(fitted, blanked(episode.query).x)
  seen = {OUTPUTS: outputs, TARGETS: episode.query.y, COUNTED: known(episode.query)}
  if isinstance(episode.info, dict) and 'classes' in episode.info and objective.classifies:
    numbers = jnp.asarray(episode.info['classes'])
    there = label_counts(episode.support, len(numbers)) > 0
    seen[CLASSES] = jnp.where(there, numbers, -1)
  guesses = {f'{GUESS}{how}': value for how, value in guess(objective, outputs, episode).items()}
  return {**objective(outputs, episode.query)[1], **guesses, **seen}


def guess(objective: Objective, outputs: jax.Array, episode: Episode) -> Metrics:
  """Returns the metrics of guesses by the targets of the support alone, by how one guesses.

  In a classification it is the accuracy of guessing the most frequent class of the support, one of
  several at random. If all classes have as many examples, that is 1/ways. In a regression it is the
  loss of the mean of the support, and that of zeros.
  """
  support, query = episode.support, blanked(episode.query)
  if objective.classifies:
    counts = label_counts(support, outputs.shape[-1])
    frequent = counts == counts.max()
    hits, counted = frequent[query.y] / frequent.sum(), known(query)
    return {FREQUENT: jnp.where(counted, hits, 0).sum() / jnp.maximum(counted.sum(), 1)}
  if objective.kind != 'regression':
    return {}
  weight = known(support)[:, None] * 1.0
  mean = (blanked(support).y * weight).sum(0) / jnp.maximum(weight.sum(), 1)
  constant = lambda value: objective(jnp.zeros_like(outputs) + value, episode.query)[1]['loss']
  return {MEAN: constant(mean), ZERO: constant(0.0)}


def label_counts(examples: Examples, ways: int) -> jax.Array:
  """Returns how many examples there are of each label, [ways]."""
  there = known(examples)
  return jnp.zeros(ways).at[jnp.where(there, examples.y, 0)].add(there)


def best_guess(seen: Seen, sign: float) -> tuple[str, Any] | None:
  """Returns the guess that is best on average, with its metric [episodes]; None if there is none.

  Args:
    seen: the episodes.
    sign: 1 if more is better, or -1.
  """
  if not seen.guesses:
    return None
  return max(seen.guesses.items(), key=lambda pair: sign * float(np.mean(pair[1])))


def answers_of(tested: Tested, seen: Seen) -> Answers | None:
  """Returns which classes were answered, query by query; None in a regression."""
  if not tested.task.objective.classifies:
    return None
  episode, query = np.nonzero(seen.counted)
  outputs, y = seen.outputs[episode, query], seen.y[episode, query]
  finite = np.isfinite(outputs.max(-1))
  labels = np.where(finite, outputs.argmax(-1), NONE)
  with np.errstate(invalid='ignore'):  # infinite logits have no probability: nan
    confidence = 1 / np.exp(outputs - outputs.max(-1, keepdims=True)).sum(-1)
  ways = seen.classes
  if ways is None or tested.task.table is None:
    ways = np.tile(np.arange(outputs.shape[-1]), (len(seen.y), 1))
    return Answers(episode, y, labels, confidence, ways, None)
  # A label that is no way of the episode may be predicted, since some learners have more outputs.
  more = max(0, outputs.shape[-1] - ways.shape[1])
  padded = np.pad(ways, ((0, 0), (0, more)), constant_values=NONE)
  predicted = np.where(finite, padded[episode, labels], NONE)
  names = tested.task.table(tested.split).names
  return Answers(episode, ways[episode, y], predicted, confidence, ways, names)
