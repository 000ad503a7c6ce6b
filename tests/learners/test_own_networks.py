"""Networks and data of one's own: what arrays are for, what training draws, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from metakit.heads.prototypes import prototypes
from metakit.learners.alfa import alfa
from metakit.learners.descent import Descent
from metakit.learners.imaml import imaml
from metakit.learners.maml import maml
from metakit.learners.maml_plus_plus import maml_plus_plus
from metakit.learners.meta_curvature import meta_curvature
from metakit.learners.ordinary_training import fine_tuning
from metakit.learners.prototypical import prototypical
from metakit.learners.reptile import reptile
from metakit.meta_gradient import implicit, neumann, unroll
from metakit.models import from_linen
from metakit.networks.normalisation import BatchNorm
from metakit.train import init_state
from metakit.types import Episode
from tests.learners.judged import episode_of, made
from tests.learners.rows import KEY, WAYS, perceptron
from tests.learners.test_family import QUADRATIC, SGD, same
from tests.learners.test_maml import (
  OTHER,
  THE_PARAMETERS,
  THETA,
  half_square,
)


class MyNormal(nn.Module):
  """No normalisation, whatever its name."""

  @nn.compact
  def __call__(self, x):
    return nn.Dense(4)(x)


class Misnamed(nn.Module):
  """Normalisations whose names do not say so, and weights whose names say that they are others."""

  stored: bool = False

  @nn.compact
  def __call__(self, x, weight=None):
    x = BatchNorm(self.stored, name='whiten')(x, weight)
    x = nn.LayerNorm(name='norm')(MyNormal()(x))
    return nn.Dense(WAYS, name='statistics_0')(x)


WEIGHTS = ["['MyNormal_0']['Dense_0']", "['statistics_0']"]


def test_roles_are_those_of_classes_rather_than_of_names():
  network, episode = from_linen(Misnamed(), Misnamed(stored=True)), episode_of('maml:batch')
  params = jax.jit(maml_plus_plus(network).init)(KEY, episode)
  layers = lambda part: sorted({name.rpartition('[')[0] for name in params[part]})
  assert layers('norms') == [f"['params']['{name}']" for name in ('norm', 'whiten')]
  assert layers('rates') == [f"['params']{name}" for name in WEIGHTS]
  arrays = len(jax.tree.leaves(params['start']['params']))
  shapes = lambda learner: jax.eval_shape(learner.init, KEY, episode)
  assert shapes(alfa(network))['rates'].shape[1] == arrays
  assert len(shapes(meta_curvature(network))['curvature']) == arrays


def test_a_network_says_what_its_normalisation_is_where_no_class_does():
  network, episode = from_linen(Misnamed(), Misnamed(stored=True)), episode_of('maml:batch')
  silent = network._replace(roles=None)
  with pytest.raises(ValueError, match=r'does not say which.*norms=.*roles'):
    jax.eval_shape(maml_plus_plus(silent).init, KEY, episode)
  told = from_linen(Misnamed(), Misnamed(stored=True), norms=[MyNormal])
  norms = jax.eval_shape(maml_plus_plus(told).init, KEY, episode)['norms']
  assert any('MyNormal_0' in name for name in norms)


def test_imaml_says_how_far_its_linear_system_is_off():
  """On a quadratic it is solved at once; without enough iterations a part is left, as computed."""
  with jax.enable_x64(True):
    learner = imaml(
      THE_PARAMETERS, Descent(optax.sgd(0.4), 200), proximal=0.7, objective=half_square
    )
    _, metrics = jax.jit(learner.loss)(KEY, jnp.asarray(THETA), QUADRATIC)
    assert metrics['implicit_residual'] < 1e-9
    curved = lambda outputs, examples: (
      jnp.sum(jnp.arange(1.0, 4) * jnp.square(outputs - examples.y)) / 2,
      {},
    )
    mode = implicit(neumann(1, 0.1))  # u = 0.1 v, so what is left is (0.1 A - 1) v
    learner = imaml(
      THE_PARAMETERS, Descent(optax.sgd(0.1), 200, mode=mode), proximal=0.7, objective=curved
    )
    _, metrics = jax.jit(learner.loss)(KEY, jnp.asarray(THETA), QUADRATIC)
    fitted = jax.jit(learner.adapt)(KEY, jnp.asarray(THETA), QUADRATIC.support)
    v = np.arange(1.0, 4) * (np.asarray(fitted) - OTHER)
    left = (0.1 * (np.arange(1.0, 4) + 0.7) - 1) * v
    expected = np.linalg.norm(left) / np.linalg.norm(v)
    np.testing.assert_allclose(metrics['implicit_residual'], expected, rtol=1e-9)


class Dropped(nn.Module):
  num_outputs: int | None = WAYS

  @nn.compact
  def __call__(self, x):
    x = nn.Dropout(0.5)(nn.Dense(8)(x))
    return x if self.num_outputs is None else nn.Dense(self.num_outputs)(x)


STOCHASTIC = {
  'maml': lambda: maml(from_linen(Dropped()), Descent(SGD, 2)),
  'maml_plus_plus': lambda: maml_plus_plus(
    from_linen(Dropped()), Descent(steps=2), initial_rate=0.3
  ),
  'reptile': lambda: reptile(from_linen(Dropped()), Descent(SGD, 2)),
  'prototypical': lambda: prototypical(from_linen(Dropped(None)), WAYS),
  'fine_tuning': lambda: fine_tuning(
    from_linen(Dropped(None)), WAYS, Descent(SGD, 2), num_classes=7
  ),
}


@pytest.mark.parametrize(
  'name',
  [
    pytest.param(name, marks=[] if name in ('maml', 'prototypical') else [pytest.mark.slow])
    for name in STOCHASTIC
  ],
)
def test_dropout_draws_in_training_and_not_at_test_time(name):
  learner, episode = STOCHASTIC[name](), episode_of('fine_tuning')
  params, other = jax.jit(learner.init)(KEY, episode), jax.random.key(1)
  loss, adapt = jax.jit(learner.loss), jax.jit(learner.adapt)
  one, same_key, another = (loss(key, params, episode)[0] for key in (KEY, KEY, other))
  assert one == same_key != another
  same(*(adapt(key, params, episode.support) for key in (KEY, other)), 0)


def test_each_inner_step_drops_others():
  """Three inner steps and the queries: four keys."""
  seen = set()

  def apply(params, x, weight=None, key=None):
    jax.debug.callback(lambda data: seen.add(np.asarray(data).tobytes()), jax.random.key_data(key))
    return x @ params

  learner = maml(from_linen(Dropped())._replace(apply=apply), Descent(SGD, 3, mode=unroll(True)))
  jax.block_until_ready(
    jax.jit(learner.loss)(KEY, np.ones((4, WAYS), np.float32), episode_of('maml:3_steps'))
  )
  jax.effects_barrier()
  assert len(seen) == 4


@pytest.mark.filterwarnings('ignore:the sampler gives the same episode')
@pytest.mark.parametrize(
  'name',
  [
    *('maml:3_steps', 'ridge'),
    *(pytest.param(name, marks=pytest.mark.slow) for name in ('in_context', 'prototypical:group')),
  ],
)
def test_labels_that_a_learner_has_no_output_for_are_refused(name):
  """1 to ways, for instance: where they are known, by whoever adapts or begins to train.

  Traced, which shows what fails.
  """
  learner, params = made(name)
  episode = episode_of(name)
  wrong = episode._replace(support=episode.support._replace(y=episode.support.y + 1))
  with pytest.raises(ValueError, match='label 3 is none of the classes 0 to 2'):
    jax.eval_shape(lambda: learner.adapt(KEY, params, wrong.support))
  ready = learner._replace(init=lambda key, episode: params)
  with pytest.raises(ValueError, match='label 3 is none of the classes 0 to 2'):
    init_state(ready, optax.sgd(0.1), KEY, lambda key: wrong)
  as_list = episode.support._replace(y=episode.support.y.tolist())
  with pytest.raises(ValueError, match='an input is a list of 6; give one array'):
    jax.eval_shape(lambda: learner.adapt(KEY, params, as_list))


@pytest.mark.parametrize(
  'make',
  [
    pytest.param(lambda: maml(perceptron(), Descent(SGD, 2)), marks=pytest.mark.slow),
    STOCHASTIC['prototypical'],
    lambda: prototypes(WAYS),
  ],
)
def test_arrays_of_another_byte_order_are_the_same(make):
  learner, episode = make(), episode_of('fine_tuning')
  swap = lambda leaf: np.asarray(leaf).astype(np.asarray(leaf).dtype.newbyteorder('>'))
  params = jax.jit(learner.init)(KEY, episode)
  other = Episode(*jax.tree.map(swap, (episode.support, episode.query)))
  jax.tree.map(np.testing.assert_array_equal, jax.jit(lambda: learner.init(KEY, other))(), params)

  def run(each):  # the arrays are constants, since jit itself refuses another byte order
    outputs = learner.predict(learner.adapt(KEY, params, each.support), each.query.x)
    return learner.loss(KEY, params, each)[0], outputs

  same(*jax.jit(lambda: (run(other), run(episode)))())
