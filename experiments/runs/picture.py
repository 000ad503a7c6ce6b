"""The test episode that a report shows: predictions, attention, and the nearest examples."""

import re
from typing import Any

import jax
import numpy as np

from experiments.output.report import EpisodePicture
from experiments.runs.evaluation import Tested
from experiments.runs.seen import Seen
from experiments.runs.setup import Setup
from metakit.evaluation.in_context import attention_to_support
from metakit.keys import learner_key, task_key
from metakit.types import Episode, Examples, Fitted


def picture(setup: Setup, tested: Tested, seen: Seen) -> EpisodePicture:
  """Returns episode 0 with its predictions, and what the learner looked at in the support."""
  key = task_key(tested.root, 0, 0)
  episode = tested.source(key)
  support_x, support_y = without_padding(episode.support, *episode.support[:2])
  outputs = seen.outputs[0]
  if tested.task.objective.kind == 'density':  # a picture shows what it predicts
    outputs = np.asarray(tested.task.objective.point(outputs))
  query_x, query_y, outputs = without_padding(episode.query, *episode.query[:2], outputs)
  return EpisodePicture(
    support_x,
    support_y,
    query_x,
    query_y,
    outputs,
    attention=attention(setup, tested, episode),
    distances=distances(tested, episode),
    names=label_names(tested, seen),
  )


def label_names(tested: Tested, seen: Seen) -> list[str] | None:
  """Returns what each label of episode 0 is called; None if classes have no names."""
  if seen.classes is None or tested.task.table is None:
    return None
  names = tested.task.table(tested.split).names
  return [names[number] if number >= 0 else 'none' for number in seen.classes[0]]


def attention(setup: Setup, tested: Tested, episode: Episode) -> np.ndarray | None:
  """Returns how much each query attends to each support example, [layers, queries, support].

  It is the mean of all attention heads. It is None for learners in which nothing attends to an
  example.
  """
  layout = re.match(r'in_context:layout=(pairs|interleaved)', setup.specs['learner'])
  if not layout:  # a token of another layout does not hold one example
    return None
  adapt = jax.jit(tested.learner.adapt)  # not op by op
  fitted: Fitted = adapt(learner_key(tested.root, 0), tested.params, episode.support)
  try:
    network = setup.network(tested.task)
    of_tokens = attention_to_support(network, fitted, episode.query.x, layout=layout[1])
  except ValueError:  # no attention weights
    return None
  weights = of_tokens.reshape(*of_tokens.shape[:-1], len(episode.support.x), -1).sum(-1)
  of_queries = without_padding(episode.query, np.asarray(weights.mean(1).swapaxes(0, 1)))[0]
  of_both = without_padding(episode.support, np.moveaxis(of_queries, 2, 0))[0]
  return of_both.transpose(2, 1, 0)  # it was [support, queries, layers]


def distances(tested: Tested, episode: Episode) -> np.ndarray | None:
  """Returns the Euclidean distances of embeddings, [queries, support], without padding.

  They are None for learners that do not embed each example by itself.
  """
  features = tested.learner.features
  if features is None:
    return None
  parts = episode[:2]
  if tested.quick[0] is not tested.learner:  # the table is embedded already
    embedded = [part.x for part in tested.quick[1](task_key(tested.root, 0, 0))[:2]]
  else:
    embed = jax.jit(features.embed)
    embedded = [embed(tested.params, part.x) for part in parts]
  support, query = (
    without_padding(part, np.reshape(x, (len(x), -1)))[0]
    for part, x in zip(parts, embedded, strict=True)
  )
  squares = np.square(query).sum(-1)[:, None] + np.square(support).sum(-1) - 2 * query @ support.T
  return np.sqrt(np.maximum(squares, 0))


def without_padding(examples: Examples, *arrays: Any) -> list[np.ndarray]:
  """Returns the rows of arrays [examples, ...] that count."""
  there = np.s_[:] if examples.weight is None else np.asarray(examples.weight) > 0
  return [np.asarray(array)[there] for array in arrays]
