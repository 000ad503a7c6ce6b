"""The table of learners whose laws tests/learners/test_laws.py checks."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import optax
from flax import linen as nn

from metakit.heads import (
  alpha_tim,
  baseline,
  bd_cspn,
  class_mean_stream,
  discriminant,
  feat,
  laplacian_shot,
  logistic,
  mahalanobis,
  matching,
  naive_bayes,
  normalised,
  paddle,
  prototypes,
  pt_map,
  recursive_ridge,
  relation,
  ridge,
  simpleshot,
  slk,
  soft_kmeans,
  svm,
  tim,
  transductive_tuning,
)
from metakit.learners.alfa import alfa
from metakit.learners.anil import anil
from metakit.learners.anp import anp
from metakit.learners.arm_bn import arm_bn
from metakit.learners.arm_ll import arm_ll
from metakit.learners.boil import boil
from metakit.learners.cavia import cavia
from metakit.learners.cnp import cnp
from metakit.learners.convcnp import convcnp
from metakit.learners.dann import dann
from metakit.learners.descent import Descent
from metakit.learners.embedded import embedded
from metakit.learners.erm import erm
from metakit.learners.generative_adapter import generative_adapter
from metakit.learners.imaml import imaml
from metakit.learners.in_context import in_context
from metakit.learners.maml import maml
from metakit.learners.maml_plus_plus import maml_plus_plus
from metakit.learners.mend import mend
from metakit.learners.meta_curvature import meta_curvature
from metakit.learners.meta_dmoe import meta_dmoe
from metakit.learners.meta_sgd import meta_sgd
from metakit.learners.niw_meta import niw_meta
from metakit.learners.np import np
from metakit.learners.ordinary_training import fine_tuning, from_scratch
from metakit.learners.pretrained import pretrained
from metakit.learners.proto_maml import proto_maml
from metakit.learners.prototypical import prototypical
from metakit.learners.raml import raml
from metakit.learners.reptile import reptile
from metakit.learners.stda_meta import stda_meta
from metakit.learners.tabular import tabular
from metakit.learners.tent import tent
from metakit.learners.tnp import tnp
from metakit.losses import icnn, proto_triplet, with_losses
from metakit.meta_gradient import first_order, mixed, remat, unroll
from metakit.models import from_linen
from metakit.networks.conv4 import conv4
from metakit.networks.mlp import mlp
from metakit.networks.normalisation import Norm
from metakit.networks.recurrent import recurrent
from metakit.networks.transformer import transformer
from metakit.objectives import squared_error
from metakit.types import MetaLearner

WAYS, SHOTS, QUERIES, TASKS = 3, 2, 2, 2


class Small(nn.Module):
  """The smallest network with every way in which examples may influence one another."""

  num_outputs: int | None
  norm: str
  stored: bool = False

  @nn.compact
  def __call__(self, x, weight=None):
    x = Norm(self.norm, self.stored)(nn.Dense(8)(x), weight)
    x = nn.relu(x)
    return x if self.num_outputs is None else nn.Dense(self.num_outputs)(x)


def small(norm, num_outputs=WAYS):
  module = Small(num_outputs, norm)
  return from_linen(module, module.clone(stored=True) if norm == 'batch' else None)


class Row(NamedTuple):
  """A learner in the table.

  Attributes:
    make: () -> MetaLearner.
    data: 'vectors' [examples, 4], 'images' [examples, 4, 4, 1], or, in a regression, 'curves'
      [examples, 6] or 'points' [examples, 1].
    symmetric: permuting the support's labels permutes the outputs.
    exact: the gradient of `loss` is its derivative (a first-order approximation is not, nor one
      that leaves alone what is measured).
    ordered: the support is a sequence, whose order matters.
    padded: an absent example is as none (it takes its place in a minibatch, and so is not).
    supervised: an example without a label is as none; others learn from it, be it by the statistics
      of a batch.
  """

  make: Callable[[], MetaLearner]
  data: str = 'vectors'
  symmetric: bool = False
  exact: bool = True
  ordered: bool = False
  padded: bool = True
  supervised: bool = True


# eps_root: the square root of Adam has no derivative at a gradient of zero (metakit.learners.maml).
ADAM = optax.adam(0.1, eps_root=1e-4)
SGD = optax.sgd(0.4)


def perceptron(num_outputs=WAYS):
  return mlp(num_outputs, width=8, depth=1)


def attention(num_outputs=WAYS, **options):
  return transformer(num_outputs, width=8, depth=1, heads=2, **options)


LEARNERS = {
  'prototypical:batch': Row(
    lambda: prototypical(small('batch'), WAYS), symmetric=True, supervised=False
  ),
  'prototypical:group': Row(lambda: prototypical(small('group'), WAYS), symmetric=True),
  'prototypical:transductive': Row(
    lambda: prototypical(small('batch'), WAYS, statistics='episode'),
    symmetric=True,
    supervised=False,
  ),
  'prototypical:cosine': Row(
    lambda: prototypical(small('batch'), WAYS, distance='cosine'), symmetric=True, supervised=False
  ),
  'maml:batch': Row(lambda: maml(small('batch'), Descent(SGD))),
  'maml:conv4_group': Row(
    lambda: maml(conv4(WAYS, 4, depth=1, norm='group'), Descent(SGD)), 'images'
  ),
  'maml:3_steps': Row(lambda: maml(small('group'), Descent(SGD, 3))),
  'maml:adam': Row(lambda: maml(perceptron(), Descent(ADAM, 3))),
  'maml:first_order': Row(
    lambda: maml(perceptron(), Descent(SGD, 3, mode=first_order())), exact=False
  ),
  'maml:regression': Row(
    lambda: maml(perceptron(1), Descent(optax.sgd(0.05)), objective=squared_error), 'curves'
  ),
  'maml:inductive': Row(lambda: maml(small('batch'), Descent(SGD), statistics='support')),
  'maml:mixed': Row(lambda: maml(perceptron(), Descent(SGD, 3, mode=mixed()))),
  'maml:remat': Row(lambda: maml(perceptron(), Descent(SGD, 3, mode=remat()))),
  'maml:minibatches': Row(lambda: maml(perceptron(), Descent(SGD, 3, batch=4)), padded=False),
  'anil': Row(lambda: anil(small('batch', None), WAYS, Descent(SGD, 3)), supervised=False),
  'anil:transductive': Row(
    lambda: anil(small('batch', None), WAYS, Descent(SGD, 3), statistics='episode'),
    supervised=False,
  ),
  'boil': Row(lambda: boil(small('batch', None), WAYS, Descent(SGD))),
  'niw_meta': Row(lambda: niw_meta(perceptron(), Descent(SGD, 3, 4), samples=2), exact=False),
  'reptile': Row(lambda: reptile(perceptron(), Descent(SGD, 3, 4)), exact=False),
  'meta_sgd': Row(lambda: meta_sgd(perceptron(), Descent(steps=2))),
  'maml_plus_plus': Row(lambda: maml_plus_plus(small('batch'), Descent(steps=2))),
  'maml_plus_plus:inductive': Row(
    lambda: maml_plus_plus(small('batch'), Descent(steps=2), statistics='support')
  ),
  'imaml:unroll': Row(lambda: imaml(perceptron(), Descent(SGD, 3, mode=unroll()), proximal=0.5)),
  'imaml': Row(lambda: imaml(perceptron(), Descent(SGD, 5), proximal=0.5), exact=False),
  'cavia': Row(lambda: cavia(perceptron(), 4, Descent(SGD, 2))),
  'cavia:conv4': Row(lambda: cavia(conv4(WAYS, 4, depth=1), 4, Descent(SGD)), 'images'),
  'meta_curvature': Row(lambda: meta_curvature(perceptron(), Descent(steps=2))),
  'alfa': Row(lambda: alfa(perceptron(), Descent(steps=2))),
  'proto_maml': Row(
    lambda: proto_maml(small('batch', None), WAYS, Descent(optax.sgd(0.05), 2)), symmetric=True
  ),
  'fine_tuning': Row(
    lambda: fine_tuning(small('batch', None), WAYS, Descent(SGD, 3), num_classes=WAYS + 2)
  ),
  'linear_probe': Row(
    lambda: fine_tuning(
      perceptron(None), WAYS, Descent(SGD, 3), num_classes=WAYS + 2, tuned='head'
    ),
    symmetric=True,
  ),
  'from_scratch': Row(lambda: from_scratch(perceptron(), Descent(SGD, 3)), exact=False),
  'in_context': Row(lambda: in_context(attention(), WAYS), ordered=True),
  'in_context:shifted': Row(lambda: in_context(attention(), WAYS, 'shifted'), ordered=True),
  'in_context:interleaved': Row(lambda: in_context(attention(), WAYS, 'interleaved'), ordered=True),
  'in_context:set': Row(lambda: in_context(attention(attention='set'), WAYS)),
  'in_context:momentum': Row(
    lambda: in_context(attention(attention='momentum'), WAYS), ordered=True
  ),
  'in_context:linear': Row(lambda: in_context(attention(attention='linear'), WAYS), ordered=True),
  'mend': Row(lambda: mend(attention(), WAYS, 2, width=8, depth=1, heads=2), exact=False),
  'in_context:lstm': Row(lambda: in_context(recurrent(WAYS, width=8), WAYS), ordered=True),
  'in_context:regression': Row(
    lambda: in_context(attention(1), 1, objective=squared_error), 'curves', ordered=True
  ),
  'tabular': Row(lambda: tabular(WAYS, 8, 2, heads=2), symmetric=True),
  'tabular:regression': Row(
    lambda: tabular(1, 8, 1, heads=2, norm='pre', objective=squared_error), 'curves'
  ),
}
LEARNERS |= {
  'raml': Row(lambda: raml(perceptron(None), WAYS), 'images', symmetric=True),
  'generative_adapter': Row(lambda: generative_adapter(perceptron(), WAYS, 8, depth=1, rank=4)),
  'cnp': Row(lambda: cnp(1, 8, 1, decoder_depth=1), 'curves'),
  'np': Row(lambda: np(1, 8, 1, latents=4, decoder_depth=1, samples=2), 'curves'),
  'anp': Row(lambda: anp(1, 8, 1, heads=2, latents=4, decoder_depth=1, samples=2), 'curves'),
  'anp:deterministic': Row(lambda: anp(1, 8, 1, heads=2, latents=0, decoder_depth=1), 'curves'),
  'convcnp': Row(lambda: convcnp(1, 4, 1, size=3, points_per_unit=2.0, reach=2.0), 'points'),
  'tnp': Row(lambda: tnp(1, 8, 1, heads=2, hidden=8, embedding_depth=1), 'curves'),
}


def on_features(head, **row):
  """The row of a head, on the features of a perceptron."""
  return Row(lambda: embedded(perceptron(None), head()), **row)


VIEWS = [lambda x: x, lambda x: x[..., ::-1]]
HEADS = {
  'prototypes:temperature': on_features(lambda: prototypes(WAYS, 'cosine', 5.0), symmetric=True),
  'simpleshot': on_features(lambda: simpleshot(WAYS), symmetric=True, exact=False),
  'matching': on_features(lambda: matching(WAYS, 3.0), symmetric=True),
  'relation': on_features(lambda: relation(WAYS, 8, 1), symmetric=True),
  'feat': on_features(lambda: feat(WAYS, 4.0), symmetric=True),
  'ridge': on_features(lambda: ridge(WAYS), symmetric=True),
  'logistic': on_features(lambda: logistic(WAYS, 1.0, 40, tolerance=1e-4), symmetric=True),
  'svm': on_features(lambda: svm(WAYS), symmetric=True),
  'baseline': on_features(lambda: baseline(WAYS, steps=3, batch=0)),
  'baseline:cosine': on_features(lambda: baseline(WAYS, True, 3), padded=False),
  'naive_bayes': on_features(lambda: naive_bayes(WAYS), symmetric=True),
  'naive_bayes:own': on_features(lambda: naive_bayes(WAYS, False, 0.1), symmetric=True),
  'discriminant': on_features(lambda: discriminant(WAYS), symmetric=True),
  'discriminant:own': on_features(lambda: discriminant(WAYS, False), symmetric=True),
  'mahalanobis': on_features(lambda: mahalanobis(WAYS), symmetric=True),
  'recursive_ridge': on_features(
    lambda: recursive_ridge(WAYS, 0.5, 6), symmetric=True, exact=False
  ),
  'class_mean_stream': on_features(lambda: class_mean_stream(WAYS), symmetric=True),
  'soft_kmeans': on_features(lambda: soft_kmeans(WAYS, 2), symmetric=True, supervised=False),
  'soft_kmeans:distractors': on_features(
    lambda: soft_kmeans(WAYS, 1, True, queries=False), symmetric=True, supervised=False
  ),
  'slk': on_features(
    lambda: slk(WAYS, 0.5, 2, kind='means', steps=2, bound_steps=2), symmetric=True
  ),
  'slk:modes': on_features(
    lambda: slk(WAYS, 0.5, 2, kind='modes', steps=2, bound_steps=2), symmetric=True
  ),
  'laplacian_shot': on_features(lambda: laplacian_shot(WAYS, 0.5, 2, steps=3), symmetric=True),
  'bd_cspn': on_features(lambda: bd_cspn(WAYS), symmetric=True),
  'tim': on_features(lambda: tim(WAYS, steps=3), symmetric=True),
  'tim:gd': on_features(lambda: tim(WAYS, 'gd', 3, learning_rate=0.1), symmetric=True),
  'alpha_tim': on_features(lambda: alpha_tim(WAYS, 3.0, 3, learning_rate=0.1), symmetric=True),
  'pt_map': on_features(lambda: pt_map(WAYS, 2, sinkhorn_steps=5), symmetric=True),
  'paddle': on_features(lambda: paddle(WAYS, 2.0, 3), symmetric=True),
  'transductive_tuning': on_features(lambda: transductive_tuning(WAYS, 3), symmetric=True),
  'with_losses': on_features(
    lambda: with_losses(prototypes(WAYS), [proto_triplet(WAYS), icnn(2)]), symmetric=True
  ),
  'normalised:tim': on_features(lambda: normalised(tim(WAYS, steps=2), 'power'), symmetric=True),
}
LEARNERS |= HEADS
LEARNERS |= {
  'pretrained': Row(
    lambda: pretrained(small('batch', None), prototypes(WAYS), 5), symmetric=True, supervised=False
  ),
  'pretrained:transforms': Row(
    lambda: pretrained(
      small('batch', None), ridge(WAYS), 5, until=None, cosine=False, transforms=VIEWS
    ),
    symmetric=True,
    supervised=False,
  ),
}

LEARNERS |= {
  'erm': Row(lambda: erm(small('batch'))),
  'arm_bn': Row(lambda: arm_bn(small('batch')), supervised=False),
  'arm_ll': Row(lambda: arm_ll(small('batch'), Descent(SGD), width=4), supervised=False),
  'tent': Row(lambda: tent(small('batch'), Descent(SGD)), supervised=False),
  'meta_dmoe': Row(
    lambda: meta_dmoe(small('batch', None), WAYS, Descent(SGD), experts=3, heads=2),
    exact=False,  # experts are constants to it
    supervised=False,
  ),
  'dann': Row(  # the gradient of its features is reversed
    lambda: dann(small('batch', None), WAYS, domains=3, width=4), exact=False, supervised=False
  ),
  'stda_meta': Row(
    lambda: stda_meta(small('group', None), WAYS, Descent(SGD), domains=3, width=4), exact=False
  ),
}

SHAPES = {'vectors': (4,), 'images': (4, 4, 1), 'curves': (6,), 'points': (1,)}
REGRESSIONS = ('curves', 'points')
KEY = jax.random.key(0, impl='threefry2x32')
