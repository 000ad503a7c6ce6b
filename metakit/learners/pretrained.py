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

With `auxiliary` the transforms are no classes but a task beside them: Spyros Gidaris, Andrei
Bursuc, Nikos Komodakis, Patrick Perez, Matthieu Cord, Boosting Few-Shot Visual Learning with
Self-Supervision, ICCV 2019, arXiv:1906.05186, eq. 6 and the rotations of section 3.2. All
transformed images have the label of the class, as in the authors' settings. Deviation: a linear
layer of the features tells the transforms apart, with no convolutions of its own.

With `teacher` it is a student: Yonglong Tian, Yue Wang, Dilip Krishnan, Joshua B. Tenenbaum,
Phillip Isola, Rethinking Few-Shot Image Classification, ECCV 2020, arXiv:2003.11539, section 3.4
(sequential self-distillation), after the born-again networks of Tommaso Furlanello, Zachary C.
Lipton, Michael Tschannen, Laurent Itti, Anima Anandkumar, ICML 2018, arXiv:1805.04770. The loss is
alpha times the cross-entropy and 1 - alpha times the divergence from the answers of the generation
before, which has the same network; alpha and T are theirs (metakit.losses.answer_distillation).
"""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp

from metakit.absent import UNLABELLED, guarded
from metakit.heads.common import check_positive, cosine_similarity
from metakit.keys import stream
from metakit.learners.embedded import embedded
from metakit.learners.stages import two_stages
from metakit.learners.training_classes import check_training_classes, of_training_classes
from metakit.losses.answers import answer_distillation
from metakit.models import Model, StoredStatistics, drawing, draws_of, embed_rows
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
  auxiliary: float | None = None,
  teacher: Params | None = None,
  alpha: float = 0.5,
  temperature: float = 4.0,
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
    auxiliary: weight of telling the transforms apart, as a task beside the classes. They then make
      no further classes or features. None for transforms that do.
    teacher: calibrated params of an earlier training of the same network, classes and last layer,
      from whose answers it learns too. They stay as they are.
    alpha: weight of the labels beside a teacher, whose answers have the weight 1 - alpha.
    temperature: of the answers of both.
    statistics: see metakit.learners.embedded.

  Raises:
    ValueError: for numbers that make no sense or statistics that the network cannot have; when the
      loss is traced, for a teacher of other classes.

  >>> from metakit.heads import simpleshot, tim
  >>> from metakit.networks import resnet12
  >>> heads = simpleshot(ways=5), tim(ways=5)
  >>> [pretrained(resnet12(), head, num_classes=64).protocol for head in heads]
  ['inductive', 'transductive']
  """
  transforms = tuple(transforms)
  _check(num_classes, until, scale, temperature)
  _check_weights(alpha, auxiliary, len(transforms))
  joint = auxiliary is None and bool(transforms)
  seen = side_by_side if joint else measured_on_all
  base = embedded(seen(model, transforms) if transforms else model, head, statistics)
  copies = len(transforms) if joint else 1

  def init(key: Key, episode: Episode) -> Params:
    check_training_classes(episode.info, num_classes)
    params = base.init(key, episode)
    width = jax.eval_shape(model.apply, params['body'], episode.support.x).shape[1]
    layer = lambda name, outputs: {name: init_last_layer(stream(key, name), width, outputs)}
    turns = {} if auxiliary is None else layer('auxiliary', len(transforms))
    return {**params, **layer('layer', num_classes * copies), **turns}

  def classify(params: Params, z: jax.Array) -> jax.Array:
    layer = params['layer']
    return scale * cosine_similarity(z, layer['kernel'].T) if cosine else linear(layer, z)

  def ordinary(key: Key, params: Params, episode: Episode) -> tuple[jax.Array, Metrics]:
    both = of_training_classes(join(episode.support, episode.query), episode.info)
    both = jointly_labelled(both, transforms) if transforms else both
    apply = drawing(model.apply, draws_of(model, key))
    z = apply(params['body'], both.x, weight=both.weight)
    logits = classify(params, z)
    loss, metrics = cross_entropy(
      logits, both if auxiliary is None else _by_class(both, transforms)
    )
    if teacher is not None and alpha < 1:  # at 1 it is the same program as without a teacher
      answers = classify(teacher, embed_rows(model)(teacher['body'], both.x))
      taught = answer_distillation(logits, answers, temperature, weight=both.weight)
      loss = alpha * loss + (1 - alpha) * taught
    if auxiliary is not None:
      turns = linear(params['auxiliary'], z)
      loss += auxiliary * cross_entropy(turns, _by_transform(both, transforms))[0]
    return loss, metrics

  learner = base._replace(init=init, loss=ordinary)
  if until is None:
    return guarded(learner, unlabelled=True)

  stages = two_stages(until, ordinary, base.loss)
  return guarded(learner._replace(loss_at=stages), unlabelled=True)


def _check(num_classes: int, until: int | None, scale: float, temperature: float) -> None:
  if num_classes < 2:
    raise ValueError(f'num_classes={num_classes} leaves nothing to tell apart; use 2 or more')
  if until is not None and until < 1:
    raise ValueError(f'until={until} is not positive; use none for all steps, or the head alone')
  check_positive(scale=scale, temperature=temperature)


def _check_weights(alpha: float, auxiliary: float | None, transforms: int) -> None:
  if not 0 <= alpha <= 1:
    raise ValueError(f'alpha={alpha} is no share of the labels; use 0 <= alpha <= 1')
  if auxiliary is None:
    return
  check_positive(auxiliary=auxiliary)
  if transforms < 2:
    raise ValueError(
      f'auxiliary={auxiliary} is the weight of telling transforms apart, and there are '
      f'{transforms}; give two or more'
    )


def jointly_labelled(examples: Examples, transforms: Sequence[Transform]) -> Examples:
  """Returns all transformed examples. Class c under transform j of M becomes class M c + j."""
  many = len(transforms)
  x = _views(transforms, examples.x)
  labels = lambda j: jnp.where(examples.y < 0, UNLABELLED, many * examples.y + j)
  y = jnp.concatenate([labels(j) for j in range(many)])
  weight = None if examples.weight is None else jnp.tile(examples.weight, many)
  return Examples(x, y, weight)


def _by_class(joint: Examples, transforms: Sequence[Transform]) -> Examples:
  """Returns jointly labelled examples with their classes as labels; -1 stays -1."""
  return joint._replace(y=joint.y // len(transforms))


def _by_transform(joint: Examples, transforms: Sequence[Transform]) -> Examples:
  """Returns all transformed examples with their transforms as labels, which need no class."""
  many = len(transforms)
  return joint._replace(y=jnp.repeat(jnp.arange(many), len(joint.y) // many))


def side_by_side(model: Model, transforms: Sequence[Transform]) -> Model:
  """Returns the network whose features are those of all transformed inputs, side by side."""
  many = len(transforms)

  def beside(z: jax.Array) -> jax.Array:
    return jnp.concatenate(jnp.split(z, many), axis=-1)

  def apply(params, x, weight=None, key=None):
    weight = None if weight is None else jnp.tile(weight, many)
    return beside(drawing(model.apply, key)(params, _views(transforms, x), weight=weight))

  stored = measured_on_all(model, transforms).stored
  if stored is None:
    return model._replace(apply=apply)
  apply_stored = lambda params, x, weight=None, key=None: beside(
    drawing(stored.apply, key)(params, _views(transforms, x))
  )
  return model._replace(apply=apply, stored=stored._replace(apply=apply_stored))


def measured_on_all(model: Model, transforms: Sequence[Transform]) -> Model:
  """Returns the network whose stored statistics are those of all transformed inputs."""
  if model.stored is None:
    return model
  stored = model.stored

  def calibrate(params, x, weight=None):
    weight = None if weight is None else jnp.tile(weight, (1, len(transforms)))
    return stored.calibrate(params, jax.vmap(partial(_views, transforms))(x), weight)

  return model._replace(stored=StoredStatistics(stored.apply, calibrate))


def _views(transforms: Sequence[Transform], x: jax.Array) -> jax.Array:
  return jnp.concatenate([transform(x) for transform in transforms])
