"""Judges: what is measured on an episode."""

from typing import Protocol

import jax
import jax.numpy as jnp

from metakit.absent import blanked
from metakit.fusion import unfused
from metakit.types import Episode, Examples, Key, MetaLearner, Metrics, Objective, Params, join


class Judge(Protocol):
  """Measures something on one episode.

  The learner draws from the key (metakit.keys.learner_key), which is never the one that made the
  episode.
  """

  def __call__(
    self,
    learner: MetaLearner,
    objective: Objective,
    params: Params,
    key: Key,
    episode: Episode,
    /,
  ) -> Metrics: ...


def judge_queries(
  learner: MetaLearner, objective: Objective, params: Params, key: Key, episode: Episode
) -> Metrics:
  """Returns the metrics of the query set, predicted from the support set.

  >>> from metakit.heads import prototypes
  >>> from metakit.objectives import cross_entropy
  >>> support = Examples(jnp.array([[0.0], [1.0]]), jnp.array([0, 1]))
  >>> episode = Episode(support, Examples(jnp.array([[0.4], [0.6]]), jnp.array([0, 0])))
  >>> judge = jax.jit(judge_queries, static_argnums=(0, 1))
  >>> float(judge(prototypes(ways=2), cross_entropy, {}, jax.random.key(0), episode)['accuracy'])
  0.5
  """
  fitted = learner.adapt(key, params, episode.support)
  outputs = jax.tree.map(unfused, learner.predict(fitted, blanked(episode.query).x))
  return objective(outputs, episode.query)[1]


def judge_prefixes(
  learner: MetaLearner, objective: Objective, params: Params, key: Key, episode: Episode
) -> Metrics:
  """Returns the learning curve: the metrics of every example, predicted from those before it.

  Each metric is [support + 1]. Entry k belongs to the example after k others. The last entry
  belongs to the first query.

  >>> from metakit.heads import prototypes
  >>> from metakit.objectives import cross_entropy
  >>> support = Examples(jnp.array([[0.0], [1.0], [0.1]]), jnp.array([0, 1, 0]))
  >>> episode = Episode(support, Examples(jnp.array([[0.9]]), jnp.array([1])))
  >>> judge = jax.jit(judge_prefixes, static_argnums=(0, 1))
  >>> judge(prototypes(2), cross_entropy, {}, jax.random.key(0), episode)['accuracy'].tolist()
  [1.0, 0.0, 1.0, 1.0]
  """
  examples = sequence(episode)
  outputs = predict_prefixes(learner, key, params, examples)
  return _one_by_one(objective, outputs, examples)


def sequence(episode: Episode) -> Examples:
  """Returns the support and, after it, the first query.

  >>> support = Examples(jnp.array([[1.0], [2.0]]), jnp.array([0, 1]))
  >>> query = Examples(jnp.array([[3.0], [4.0]]), jnp.array([1, 0]))
  >>> sequence(Episode(support, query)).x[:, 0].tolist()
  [1.0, 2.0, 3.0]
  """
  return join(episode.support, jax.tree.map(lambda leaf: leaf[:1], episode.query))


def _one_by_one(objective: Objective, outputs: jax.Array, examples: Examples) -> Metrics:
  alone = jax.tree.map(lambda leaf: leaf[:, None], (outputs, examples))
  return jax.vmap(objective.judge)(*alone)[1]


def judge_beside(reference: MetaLearner, judged_by: Objective | None = None) -> Judge:
  """Returns a judge like `judge_prefixes` that compares the learner with a reference.

  Args:
    reference: a learner without parameters, such as a Bayes predictor (metakit.learners.bayes).
    judged_by: the objective of the reference's outputs, if it is another than the learner's. Both
      predict densities of the same targets then.

  Returns:
    A Judge. It adds two things to the metrics of the learner. 'reference/...' are the metrics of
    the reference. 'difference' is the divergence of the objective: by how much the loss of the
    learner exceeds that of the reference, if the beliefs of the reference are right. With another
    objective for the reference, it is by how much the loss exceeds it on these targets. The judge
    raises ValueError for a bare function as objective, which does not say what its outputs are.

  >>> from metakit.heads import matching, prototypes
  >>> from metakit.objectives import cross_entropy
  >>> support = Examples(jnp.array([[1.0], [0.0], [0.9]]), jnp.array([1, 0, 1]))
  >>> judge, key = judge_beside(prototypes(ways=2)), jax.random.key(0)
  >>> run = lambda: judge(matching(ways=2), cross_entropy, {}, key, Episode(support, support))
  >>> sorted(jax.eval_shape(run))
  ['accuracy', 'difference', 'loss', 'reference/accuracy', 'reference/loss']
  """

  def judge(
    learner: MetaLearner, objective: Objective, params: Params, key: Key, episode: Episode
  ) -> Metrics:
    if not isinstance(objective, Objective):
      raise ValueError(
        'a bare function does not say what its outputs are; make an objective of it with '
        'metakit.objectives.classification or regression'
      )
    examples = sequence(episode)
    outputs, best = (
      predict_prefixes(each, key, theirs, examples)
      for each, theirs in ((learner, params), (reference, {}))
    )
    known = _one_by_one(judged_by or objective, best, examples)
    ours = _one_by_one(objective, outputs, examples)
    apart = ours['loss'] - known['loss']
    return {
      **ours,
      **{f'reference/{name}': values for name, values in known.items()},
      'difference': objective.divergence(outputs, best) if judged_by is None else apart,
    }

  return judge


def judge_gain(
  learner: MetaLearner, objective: Objective, params: Params, key: Key, episode: Episode
) -> Metrics:
  """Returns the metrics of the last example, and `gain`: how much better it is than the first.

  This is the within-sequence gain of Kirsch et al. 2022 (arXiv:2212.04458, section 4.1): the gain
  in accuracy or, in a regression, the fall of the loss.

  >>> from metakit.heads import prototypes
  >>> from metakit.objectives import cross_entropy
  >>> support = Examples(jnp.array([[1.0], [0.0], [0.9]]), jnp.array([1, 0, 1]))
  >>> episode = Episode(support, Examples(jnp.array([[0.8]]), jnp.array([1])))
  >>> judge = jax.jit(judge_gain, static_argnums=(0, 1))
  >>> float(judge(prototypes(2), cross_entropy, {}, jax.random.key(0), episode)['gain'])  # 1 - 0
  1.0
  """
  curves = judge_prefixes(learner, objective, params, key, episode)
  curve = curves['accuracy'] if 'accuracy' in curves else -curves['loss']
  return {name: curve[-1] for name, curve in curves.items()} | {'gain': curve[-1] - curve[0]}


def judge_meta_gradient(
  learner: MetaLearner, objective: Objective, params: Params, key: Key, episode: Episode
) -> Metrics:
  """Returns what a learner measures of itself (`diagnose`), and the metrics of the query set.

  A learner by gradient descent measures its meta-gradient (metakit.meta_gradient.diagnose).

  Raises:
    ValueError: for a learner that measures nothing of itself.

  >>> import optax
  >>> import metakit
  >>> model, objective = metakit.networks.mlp(num_outputs=1, depth=1), metakit.squared_error
  >>> learner = metakit.learners.maml(model, metakit.Descent(optax.sgd(0.1)), objective=objective)
  >>> key, task = jax.random.key(0), metakit.episodes.sinusoid()
  >>> params = lambda episode: learner.init(key, episode)
  >>> judge = lambda e: judge_meta_gradient(learner, objective, params(e), key, e)
  >>> measured = jax.eval_shape(lambda: judge(task(key)))
  >>> sorted(name for name in measured if name.startswith('meta'))
  ['meta_gradient_cosine', 'meta_gradient_norm_0', 'meta_gradient_norm_1']
  """
  if learner.diagnose is None:
    raise ValueError(
      'this learner measures nothing of itself, such as a meta-gradient; use maml or its kin'
    )
  judged = judge_queries(learner, objective, params, key, episode)
  return {**judged, **learner.diagnose(key, params, episode)}


def predict_prefixes(
  learner: MetaLearner, key: Key, params: Params, examples: Examples
) -> jax.Array:
  """Predicts each example from those before it; returns outputs [examples, outputs].

  This takes one pass if the learner has `prefixes`, and otherwise an adaptation for each example.

  >>> from metakit.heads import prototypes
  >>> examples = Examples(jnp.array([[0.0], [1.0], [0.5]]), jnp.array([0, 1, 0]))
  >>> predict = jax.jit(predict_prefixes, static_argnums=0)
  >>> outputs = predict(prototypes(ways=2), jax.random.key(0), {}, examples)
  >>> outputs[2].tolist()  # the third is as far from either class before it
  [-0.25, -0.25]
  """
  if learner.prefixes is not None:
    return learner.prefixes(key, params, examples)

  def predict(place: tuple[jax.Array, jax.Array]) -> jax.Array:
    number, x = place
    before = jnp.arange(len(examples.y)) < number
    weight = before * (1.0 if examples.weight is None else examples.weight)
    fitted = learner.adapt(key, params, examples._replace(weight=weight))
    return learner.predict(fitted, x[None])[0]

  return jax.lax.map(predict, (jnp.arange(len(examples.y)), examples.x))
