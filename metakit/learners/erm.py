"""Empirical risk minimisation: one network for all tasks, trained in the ordinary way.

Ishaan Gulrajani, David Lopez-Paz, In Search of Lost Domain Generalization, ICLR 2021,
arXiv:2007.01434, section 2: the baseline that methods of domain generalisation have to beat. With
the statistics of the 'episode' a test normalises queries by their own statistics: Zachary Nado et
al., Evaluating Prediction-Time Batch Normalization for Robustness under Covariate Shift, 2020,
arXiv:2006.10963. Deviation: a network with batch statistics normalises by those of one episode in
training, where ERM mixes domains in a batch. Give it mixed episodes, or another normalisation.

Changes in a task: nothing.
"""

import jax

from metakit.builder import meta_learner
from metakit.learners.descent import initial
from metakit.learners.embedded import check_statistics
from metakit.models import Model, drawing, draws_of, embed_rows
from metakit.objectives import cross_entropy
from metakit.types import Episode, Key, MetaLearner, Metrics, Objective, Params


def erm(
  model: Model, *, objective: Objective = cross_entropy, statistics: str = 'training'
) -> MetaLearner:
  """Learns the queries of all training episodes. The support has no effect.

  Args:
    model: a network that ends in the outputs, which mean the same in all tasks.
    objective: what is minimised.
    statistics: what a network with batch statistics normalises test examples by: those of
      'training' episodes or of the 'episode'.

  Returns:
    A MetaLearner whose params, and fitted, are those of the network.

  Raises:
    ValueError: for other statistics, or 'episode' with a network that never mixes examples.

  >>> from metakit.networks import conv4
  >>> [erm(conv4(10), statistics=each).protocol for each in ('training', 'episode')]
  ['inductive', 'transductive']
  """
  check_statistics(model, statistics)
  stored = model.stored

  def loss(key: Key, params: Params, episode: Episode) -> tuple[jax.Array, Metrics]:
    query, apply = episode.query, drawing(model.apply, draws_of(model, key))
    return objective(apply(params, query.x, weight=query.weight), query)

  def calibrate(params: Params, episodes: Episode) -> Params:
    return stored.calibrate(params, episodes.query.x, episodes.query.weight) if stored else params

  return meta_learner(
    initial(model),
    lambda key, params, support: params,
    model.apply if statistics == 'episode' else embed_rows(model),
    loss=loss,
    queries_seen=statistics == 'episode',
    unlabelled=True,  # no support example has an effect, with a label or without
    calibrate=calibrate,
  )
