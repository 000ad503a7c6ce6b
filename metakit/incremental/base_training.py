"""Training of the base classes of a stream of sessions, with tricks that are added one by one.

Shuvendu Roy, Chunjong Park, Aldi Fahrezi, Ali Etemad, A Bag of Tricks for Few-Shot
Class-Incremental Learning, 2024, arXiv:2403.14392. The baseline trains a network to tell the base
classes apart, by cosines, and freezes it ("incremental-frozen"). Of the tricks for stability the
supervised contrastive loss, prototypes that are given before training and pseudo-classes are here,
of those for training the rotations: Spyros Gidaris, Praveer Singh, Nikos Komodakis, Unsupervised
Representation Learning by Predicting Image Rotations, ICLR 2018, arXiv:1803.07728. The trick for
adaptability is metakit.incremental.subnetwork. Deviations: details are those of the works that each
file names, since only the abstract of the paper was at hand; each example is turned once, so that a
batch holds as many turned examples as others.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metakit.absent import UNLABELLED, guarded
from metakit.heads.common import check_ways, cosine_similarity
from metakit.incremental.equiangular import equiangular_frame
from metakit.incremental.pseudo_classes import mixed_pairs, pair_count
from metakit.inputs import as_float
from metakit.keys import stream
from metakit.learners.embedded import embedded
from metakit.learners.training_classes import check_training_classes, of_training_classes
from metakit.losses.supervised_contrastive import contrast
from metakit.models import Model, drawing, draws_of
from metakit.networks.last_layer import init_last_layer, linear
from metakit.objectives import cross_entropy
from metakit.types import Episode, Examples, Key, MetaLearner, Metrics, Params, join

TURNS = 4  # quarter turns


class Tricks(NamedTuple):
  """What is added to the cross-entropy of the base classes; by default nothing.

  Attributes:
    contrastive: weight of the supervised contrastive loss.
    prototypes: how many classes, those of later sessions included, have prototypes at equal angles
      before training, in place of a layer that is learned; 0 for none.
    pairs: whether mixtures of two classes are classes of their own.
    turning: weight of telling quarter turns apart.
  """

  contrastive: float = 0.0
  prototypes: int = 0
  pairs: bool = False
  turning: float = 0.0


PLAIN = Tricks()


def base_learner(
  model: Model, head: MetaLearner, classes: int, *, tricks: Tricks = PLAIN, scale: float = 16.0
) -> MetaLearner:
  """A head on an embedding that is trained to tell the base classes apart.

  Args:
    model: the embedding network.
    head: learns the sessions from frozen features; its own loss is not used.
    classes: base classes; episode.info['classes'] names those of an episode.
    tricks: what is added.
    scale: factor of the cosines.

  Returns:
    A learner as metakit.learners.embedded makes it, with another loss.

  Raises:
    ValueError: for numbers that make no sense; at init, for more prototypes than features, or
      images that cannot be turned.

  >>> from metakit.heads import class_mean_stream
  >>> from metakit.networks import conv4
  >>> learner = base_learner(conv4(), class_mean_stream(ways=100), 60, tricks=Tricks(pairs=True))
  >>> images = Examples(jnp.zeros((2, 28, 28, 1)), jnp.arange(2))
  >>> episode = Episode(images, images, {'classes': jnp.arange(2)})
  >>> params = jax.eval_shape(learner.init, jax.random.key(0), episode)
  >>> params['layer'].shape  # 60 classes, and 60 * 59 / 2 pairs
  (64, 1830)
  """
  _check(classes, tricks)
  base = embedded(model, head)
  named = tricks.prototypes or classes  # outputs of classes; those of pairs come after them

  def init(key: Key, episode: Episode) -> Params:
    check_training_classes(episode.info, classes)
    params = base.init(key, episode)
    width = jax.eval_shape(model.apply, params['body'], episode.support.x).shape[1]
    learned = (not tricks.prototypes) * classes + tricks.pairs * pair_count(classes)
    added = {}
    if learned:
      added['layer'] = init_last_layer(stream(key, 'layer'), width, learned)['kernel']
    if tricks.prototypes:
      added['prototypes'] = equiangular_frame(stream(key, 'prototypes'), named, width)
    if tricks.turning:
      check_square(episode.support.x)
      added['turns'] = init_last_layer(stream(key, 'turns'), width, TURNS)
    return {**params, **added}

  def classify(params: Params, z: jax.Array) -> jax.Array:
    fixed = [jax.lax.stop_gradient(params['prototypes'])] if 'prototypes' in params else []
    points = [*fixed, *([params['layer'].T] if 'layer' in params else [])]
    return scale * cosine_similarity(z, jnp.concatenate(points))

  def loss(key: Key, params: Params, episode: Episode) -> tuple[jax.Array, Metrics]:
    both = of_training_classes(join(episode.support, episode.query), episode.info)
    batch, turns = _batch(stream(key, 'pairs'), both, classes, tricks=tricks)
    z = drawing(model.apply, draws_of(model, key))(params['body'], batch.x, weight=batch.weight)
    value, metrics = cross_entropy(classify(params, z), batch)
    if tricks.contrastive:
      value += tricks.contrastive * contrast(both._replace(x=z[: len(both.y)]))
    if turns is not None:
      answers = linear(params['turns'], z[-len(turns.y) :])
      value += tricks.turning * cross_entropy(answers, turns)[0]
    return value, metrics

  return guarded(base._replace(init=init, loss=loss), unlabelled=True)


def _check(classes: int, tricks: Tricks) -> None:
  check_ways(classes)
  for name in ('contrastive', 'turning'):
    if not getattr(tricks, name) >= 0:
      raise ValueError(f'{name}={getattr(tricks, name)} is negative; use 0 to leave it out')
  if tricks.prototypes and tricks.prototypes < classes:
    raise ValueError(
      f'prototypes={tricks.prototypes} are too few for {classes} base classes; use as many as '
      'there will be classes'
    )


def _batch(
  key: Key, both: Examples, classes: int, *, tricks: Tricks
) -> tuple[Examples, Examples | None]:
  """Returns all that the network sees in a step, and what is turned of it, which comes last.

  Labels are outputs of the last layer; turned examples have none (-1).
  """
  batch = plain = both._replace(x=as_float(both.x))
  if tricks.pairs:
    mixed = mixed_pairs(key, plain, classes)
    output = (tricks.prototypes or classes) + mixed.y
    batch = join(batch, mixed._replace(y=jnp.where(mixed.y < 0, UNLABELLED, output)))
  if not tricks.turning:
    return batch, None
  turns = turned(plain)
  return join(batch, turns._replace(y=jnp.full_like(turns.y, UNLABELLED))), turns


def turned(examples: Examples) -> Examples:
  """Returns as many examples, each turned once, with the number of quarter turns as label.

  The k-th is turned k mod 4 times. They come sorted by turns.

  >>> image = jnp.array([[1, 2], [3, 4]])[None, :, :, None]
  >>> some = turned(Examples(jnp.tile(image, (4, 1, 1, 1)), jnp.zeros(4, int)))
  >>> some.y.tolist(), some.x[1, :, :, 0].tolist()
  ([0, 1, 2, 3], [[2, 4], [1, 3]])
  """
  sort = lambda leaf: jnp.concatenate([leaf[k::TURNS] for k in range(TURNS)])
  parts = [jnp.rot90(examples.x[k::TURNS], k, axes=(1, 2)) for k in range(TURNS)]
  numbers = sort(jnp.arange(len(examples.y)) % TURNS)
  weight = None if examples.weight is None else sort(examples.weight)
  return Examples(jnp.concatenate(parts), numbers, weight)


def check_square(x: jax.Array) -> None:
  """Raises ValueError unless x are square images [examples, n, n, ...]."""
  if x.ndim < 3 or x.shape[1] != x.shape[2]:
    raise ValueError(
      f'examples of shape {x.shape[1:]} cannot be turned; rotations need square images'
    )
