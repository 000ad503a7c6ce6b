"""What a learner knows after each session of a stream of classes."""

import itertools

import jax
import jax.numpy as jnp

from metakit.episodes.class_incremental import Sessions
from metakit.evaluation.judges import Judge
from metakit.objectives import cross_entropy
from metakit.types import Episode, Examples, Fitted, Key, MetaLearner, Metrics, Objective, Params


def judge_sessions(sessions: Sessions) -> Judge:
  """Returns a judge of streams of sessions (metakit.episodes.class_incremental).

  A learner with `extend` sees each session's support once. A learner without it adapts anew to the
  support of all sessions so far, which is the joint solution. After each session the learner
  predicts queries of all classes so far. It must never name a class that it has not seen (heads do
  not).

  Args:
    sessions: the sizes.

  Returns:
    A Judge. Its metrics have one entry a session, [number + 1]: 'accuracy' on all classes so far;
    'base', on the base classes; 'novel', on the later classes (nan after session 0); 'harmonic',
    the harmonic mean of these two ('base' after session 0). One metric is a single number:
    'forgetting' [], how far the accuracy on a session's classes falls from its best to the end, the
    mean over all sessions but the last (Chaudhry et al. 2018, arXiv:1801.10112, eq. 3). A 'loss'
    [number + 1], the cross-entropy on all classes so far, shows predictions that are not finite;
    they count as wrong.
  """
  starts, of_class = sessions.starts, sessions.session_of

  def judge(
    learner: MetaLearner, objective: Objective, params: Params, key: Key, episode: Episode
  ) -> Metrics:
    del objective  # streams are of classes, so the loss is the cross-entropy
    known = _after_each(learner, key, params, episode.support, starts)
    right, losses = [], []
    for after, fitted in enumerate(known):
      # Queries are sorted by label, so those of the classes so far come first.
      count = int((of_class <= after).sum()) * sessions.queries
      asked = Examples(episode.query.x[:count], episode.query.y[:count])
      outputs = learner.predict(fitted, asked.x)
      losses.append(cross_entropy(outputs, asked)[0])
      hits = cross_entropy.point(outputs) == asked.y
      right.append(jnp.pad(hits, (0, len(episode.query.y) - count)))
    per_class = jnp.stack(right).reshape(len(right), sessions.total_ways, -1).mean(-1)
    return {**_metrics(per_class, jnp.asarray(of_class)), 'loss': jnp.stack(losses)}

  return judge


def _after_each(
  learner: MetaLearner, key: Key, params: Params, support: Examples, starts: list[int]
) -> list[Fitted]:
  """Returns what the learner has fitted after each session."""
  cut = lambda start, stop: jax.tree.map(lambda leaf: leaf[start:stop], support)
  if learner.extend is None:
    return [learner.adapt(key, params, cut(0, stop)) for stop in starts[1:]]
  known = [learner.adapt(key, params, cut(*starts[:2]))]
  for pair in itertools.pairwise(starts[1:]):
    known.append(learner.extend(known[-1], cut(*pair)))
  return known


def _metrics(per_class: jax.Array, of_class: jax.Array) -> Metrics:
  """Returns the metrics, from the accuracy of each class after each session.

  Args:
    per_class: [sessions, classes].
    of_class: [classes], the session that each class comes in.
  """
  after = jnp.arange(len(per_class))
  mean = lambda chosen: (per_class * chosen).sum(-1) / chosen.sum(-1)
  so_far = of_class <= after[:, None]
  base, novel = mean(so_far & (of_class == 0)), mean(so_far & (of_class > 0))
  harmonic = jnp.where(after > 0, 2 * base * novel / jnp.maximum(base + novel, 1e-12), base)
  of_session = jnp.stack([mean(jnp.broadcast_to(of_class == s, so_far.shape)) for s in after], 1)
  known = jnp.where(after <= after[:, None], of_session, 0)  # [after, session]
  lost = known[:-1].max(0, initial=0) - known[-1]
  forgetting = lost[:-1].mean()
  accuracy = mean(so_far)
  return {
    'accuracy': accuracy,
    'base': base,
    'novel': novel,
    'harmonic': harmonic,
    'forgetting': forgetting,
  }
