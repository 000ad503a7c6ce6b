"""A head on a network from ordinary training on all classes; tuning on episodes may follow.

Wei-Yu Chen et al., A Closer Look at Few-shot Classification, ICLR 2019, arXiv:1904.04232 (a linear
or a cosine last layer); Yinbo Chen, Zhuang Liu, Huijuan Xu, Trevor Darrell, Xiaolong Wang,
Meta-Baseline, ICCV 2021, arXiv:2003.04390 (then tuning on episodes). The cosine layer is the
normalised softmax of hyperspherical embeddings: Feng Wang, Xiang Xiang, Jian Cheng, Alan L. Yuille,
NormFace, 2017, arXiv:1704.06369, eq. 4, without margins or mining. `transforms` are those of
self-supervised label augmentation: Hankook Lee, Sung Ju Hwang, Jinwoo Shin, ICML 2020,
arXiv:1910.05872, eq. 3 (joint labels) and eq. 4 (the prediction aggregated over transforms). Here
the features of all transforms stand side by side, so their squared distances add up, as logits do
there.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from metakit.absent import UNLABELLED, guarded
from metakit.heads.common import check_positive, cosine_similarity
from metakit.keys import stream
from metakit.learners.embedded import embedded
from metakit.learners.training_classes import check_training_classes, of_training_classes
from metakit.models import Model, StoredStatistics, drawing, draws_of
from metakit.networks.last_layer import init_last_layer, linear
from metakit.objectives import cross_entropy
from metakit.types import Episode, Examples, Key, MetaLearner, Metrics, Params, join

Transform = Callable[[jax.Array], jax.Array]  # [examples, ...] -> the same shape


def pretrained(
  model: Model,
  head: MetaLearner,
  num_classes: int,
  *,
  until: int | None = None,
  cosine: bool = True,
  scale: float = 16.0,
  transforms: Sequence[Transform] = (),
  statistics: str = 'training',
) -> MetaLearner:
  """A head on an embedding that was trained to tell all training classes apart.

  Args:
    model: the embedding network.
    head: learns test episodes, and training episodes from step `until` on.
    num_classes: number of training classes; episode.info['classes'] [ways] names those of an
      episode.
    until: steps of ordinary training; None for all steps.
    cosine: whether the last layer compares directions alone (normalised softmax).
    scale: factor of the cosines.
    transforms: each makes one further class of every training class, and further features. The
      identity is among them only if it is given.
    statistics: see metakit.learners.embedded.

  Raises:
    ValueError: for numbers that make no sense or statistics that the network cannot have.

  >>> from metakit.heads import simpleshot, tim
  >>> from metakit.networks import resnet12
  >>> heads = simpleshot(ways=5), tim(ways=5)
  >>> [pretrained(resnet12(), head, num_classes=64).protocol for head in heads]
  ['inductive', 'transductive']
  """
  if num_classes < 2:
    raise ValueError(f'num_classes={num_classes} leaves nothing to tell apart; use 2 or more')
  if until is not None and until < 1:
    raise ValueError(f'until={until} is not positive; use none for all steps, or the head alone')
  check_positive(scale=scale)
  transforms = tuple(transforms)
  base = embedded(side_by_side(model, transforms) if transforms else model, head, statistics)
  copies = max(1, len(transforms))

  def init(key: Key, episode: Episode) -> Params:
    check_training_classes(episode.info, num_classes)
    params = base.init(key, episode)
    width = jax.eval_shape(model.apply, params['body'], episode.support.x).shape[1]
    return {**params, 'layer': init_last_layer(stream(key, 'layer'), width, num_classes * copies)}

  def classify(params: Params, z: jax.Array) -> jax.Array:
    layer = params['layer']
    return scale * cosine_similarity(z, layer['kernel'].T) if cosine else linear(layer, z)

  def ordinary(key: Key, params: Params, episode: Episode) -> tuple[jax.Array, Metrics]:
    both = of_training_classes(join(episode.support, episode.query), episode.info)
    both = jointly_labelled(both, transforms) if transforms else both
    apply = drawing(model.apply, draws_of(model, key))
    z = apply(params['body'], both.x, weight=both.weight)
    return cross_entropy(classify(params, z), both)

  learner = base._replace(init=init, loss=ordinary)
  if until is None:
    return guarded(learner, unlabelled=True)

  def loss_at(
    step: jax.Array, key: Key, params: Params, episode: Episode
  ) -> tuple[jax.Array, Metrics]:
    return jax.lax.cond(step < until, ordinary, base.loss, key, params, episode)

  return guarded(learner._replace(loss_at=loss_at), unlabelled=True)


def jointly_labelled(examples: Examples, transforms: Sequence[Transform]) -> Examples:
  """Returns all transformed examples. Class c under transform j of M becomes class M c + j."""
  many = len(transforms)
  x = jnp.concatenate([transform(examples.x) for transform in transforms])
  labels = lambda j: jnp.where(examples.y < 0, UNLABELLED, many * examples.y + j)
  y = jnp.concatenate([labels(j) for j in range(many)])
  weight = None if examples.weight is None else jnp.tile(examples.weight, many)
  return Examples(x, y, weight)


def side_by_side(model: Model, transforms: Sequence[Transform]) -> Model:
  """Returns the network whose features are those of all transformed inputs, side by side."""
  many = len(transforms)

  def views(x: jax.Array) -> jax.Array:
    return jnp.concatenate([transform(x) for transform in transforms])

  def beside(z: jax.Array) -> jax.Array:
    return jnp.concatenate(jnp.split(z, many), axis=-1)

  def apply(params, x, weight=None, key=None):
    weight = None if weight is None else jnp.tile(weight, many)
    return beside(drawing(model.apply, key)(params, views(x), weight=weight))

  if model.stored is None:
    return model._replace(apply=apply)
  stored = model.stored

  def calibrate(params, x, weight=None):
    weight = None if weight is None else jnp.tile(weight, (1, many))
    return stored.calibrate(params, jax.vmap(views)(x), weight)

  apply_stored = lambda params, x, weight=None, key=None: beside(
    drawing(stored.apply, key)(params, views(x))
  )
  return model._replace(apply=apply, stored=StoredStatistics(apply_stored, calibrate))
