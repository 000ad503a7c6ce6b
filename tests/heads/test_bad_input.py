"""Arguments that make no sense: one line each, naming the thing and the remedy."""

import jax
import numpy as np
import optax
import pytest

from metakit import heads
from metakit.learners import in_context, maml
from metakit.learners.descent import Descent
from metakit.learners.embedded import embedded
from metakit.models import Model, identity
from metakit.networks import mlp, transformer
from metakit.types import Episode, Examples
from tests.heads.made import KEY, blobs

CLASSIFIERS = [
  name for name in heads.__all__ if name != 'normalised'
]  # all take the number of classes


@pytest.mark.parametrize('name', CLASSIFIERS)
def test_one_class_leaves_nothing_to_classify(name):
  with pytest.raises(ValueError, match='ways=1 leaves nothing to classify; use ways>=2'):
    getattr(heads, name)(1)


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda: heads.prototypes(5, 'manhattan'), "distance='manhattan' is unknown; use one of eucl"),
    (lambda: heads.prototypes(5, temperature=-1.0), 'temperature=-1.0 is not positive'),
    (lambda: heads.ridge(5, 0.0), 'penalty=0.0 is not positive'),
    (lambda: heads.logistic(5, strength=-1.0), 'strength=-1.0 is not positive'),
    (lambda: heads.svm(5, 0.0), 'strength=0.0 is not positive'),
    (lambda: heads.simpleshot(5, 'l1'), "how='l1' is unknown; use one of un, l2n, cl2n, power"),
    (lambda: heads.slk(5, kind='medians'), "kind='medians' is unknown; use one of means, modes"),
    (lambda: heads.slk(5, neighbours=0), 'neighbours=0 is not positive'),
    (lambda: heads.slk(5, -1.0), 'strength=-1.0 is negative; use 0 for no graph'),
    (lambda: heads.laplacian_shot(5, -1.0), 'strength=-1.0 is negative; use 0 for no graph'),
    (lambda: heads.tim(5, 'newton'), "solver='newton' is unknown; use one of adm, gd"),
    (lambda: heads.alpha_tim(5, 1.0), 'alpha=1.0 is not above 1; use tim for Shannon entropies'),
    (lambda: heads.paddle(5, -2.0), 'complexity=-2.0 is negative; use 0 for soft k-means'),
    (lambda: heads.pt_map(5, power=0.0), 'power=0.0 is not positive'),
    (lambda: heads.soft_kmeans(5, 0), 'steps=0 is not positive'),
    (lambda: heads.soft_kmeans(5, radius=0.0), 'radius=0.0 is not positive'),
    (lambda: heads.baseline(5, steps=0), 'steps=0 is not positive'),
    (lambda: heads.discriminant(5, shrinkage=0.0), r'shrinkage=0.0 is not in \(0, 1\]'),
    (lambda: heads.naive_bayes(5, smoothing=0.0), 'smoothing=0.0 is not positive'),
    (lambda: heads.mahalanobis(5, 0.0), 'ridge=0.0 is not positive'),
    (lambda: heads.baseline(5, batch=-1), 'batch=-1 is negative; use 0 for the whole support set'),
    (lambda: heads.feat(5, contrast=-1.0), 'contrast=-1.0 is negative; use 0 for none'),
    (lambda: heads.relation(5, depth=0), 'depth=0 is not positive'),
    (lambda: heads.recursive_ridge(5, expansion=-1), 'expansion=-1 is negative; use 0 for none'),
    (lambda: heads.bd_cspn(5, 0.0), 'scale=0.0 is not positive'),
    (lambda: heads.matching(5, 0.0), 'scale=0.0 is not positive'),
    (lambda: heads.transductive_tuning(5, steps=0), 'steps=0 is not positive'),
  ],
)
def test_numbers_that_make_no_sense(make, message):
  with pytest.raises(ValueError, match=message):
    make()


@pytest.mark.parametrize('name', ['bd_cspn', 'laplacian_shot', 'slk', 'pt_map'])
def test_a_query_alone_is_refused_where_queries_are_centred(name):
  """Every query would be of the same class, whatever it is."""
  support, query, _ = blobs()
  head = getattr(heads, name)(3)
  with pytest.raises(ValueError, match=r'one query alone is its own mean.* ask several together'):
    head.predict(head.adapt(KEY, {}, support), query.x[:1])


def test_a_query_alone_is_answered_where_none_are_moved():
  support, query, _ = blobs()
  for head in (heads.slk(3, centre=False), heads.laplacian_shot(3, rectify=False)):
    ask = jax.jit(lambda z, head=head: head.predict(head.adapt(KEY, {}, support), z).argmax(-1)[0])
    alone = [ask(query.x[i : i + 1]) for i in range(9)]
    assert len({int(each) for each in alone}) > 1


@pytest.mark.parametrize('dtype', [np.float32, bool])
@pytest.mark.parametrize(
  'make',
  [
    lambda: heads.prototypes(3),
    lambda: heads.ridge(3),
    lambda: heads.soft_kmeans(3),
    lambda: maml(mlp(3, width=4), Descent(optax.sgd(0.1), 1)),
    lambda: in_context(transformer(3, width=4, depth=1, heads=1), 3),
  ],
)
def test_labels_that_are_no_integers_are_refused(make, dtype):
  """Without a warning of JAX before, which every test takes for an error.

  Labels of known values, in what is traced, which shows what fails; and labels that are traced.
  """
  learner, (support, query, _) = make(), blobs()
  shapes = jax.eval_shape(learner.init, KEY, Episode(support, query))
  params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
  wrong = support._replace(y=support.y.astype(dtype))
  known = lambda: jax.eval_shape(lambda: learner.adapt(KEY, params, wrong))
  for adapt in (known, lambda: jax.eval_shape(learner.adapt, KEY, params, wrong)):
    with pytest.raises(ValueError, match=r'(labels|targets) are (float32|bool)') as error:
      adapt()
    assert '\n' not in str(error.value) and 'integers' in str(error.value)


def test_an_embedding_must_give_vectors():
  images = Examples(np.zeros((4, 8, 8, 1), np.float32), np.zeros(4, np.int32))
  with pytest.raises(ValueError, match=r'the embedding gives \(4, 8, 8, 1\)'):
    embedded(identity, heads.prototypes(2)).init(KEY, Episode(images, images))


def test_the_body_of_a_model_may_have_no_parameters():
  learner = embedded(Model(identity.init, identity.apply), heads.prototypes(3))
  assert learner.init(KEY, blobs()) == {'body': {}, 'head': {}}
