"""What is done to features before a head sees them: centring, unit length, a power.

Yan Wang, Wei-Lun Chao, Kilian Q. Weinberger, Laurens van der Maaten, SimpleShot: Revisiting
Nearest-Neighbor Classification for Few-Shot Learning, 2019, arXiv:1911.04623: UN (nothing), L2N and
CL2N (section 3). Yuqing Hu, Vincent Gripon, Stéphane Pateux, Leveraging the Feature Distribution in
Transfer-based Few-Shot Learning, 2020, arXiv:2006.03806: the power transform (eq. 3).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from metakit.builder import meta_learner
from metakit.heads.common import means, precise, unit, weight_of
from metakit.heads.prototypes import prototypes
from metakit.types import Episode, Examples, Fitted, Key, MetaLearner, Metrics, Params

POWER, OFFSET = 0.5, 1e-6

# how: (mean of training features, z) -> z
TRANSFORMS: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
  'un': lambda mean, z: z,
  'l2n': lambda mean, z: unit(z),
  'cl2n': lambda mean, z: unit(z - mean),
  'power': lambda mean, z: unit(jnp.sign(z) * (jnp.abs(z) + OFFSET) ** POWER),
}


def simpleshot(ways: int, how: str = 'cl2n') -> MetaLearner:
  """The nearest class mean of normalised features. Args and raises as `normalised`.

  >>> head, x = simpleshot(ways=5), Examples(jax.ShapeDtypeStruct((10, 64), 'float32'), None)
  >>> params = jax.eval_shape(head.init, jax.random.key(0), Episode(x, x))
  >>> params['mean'].shape  # of the training features; metakit.calibrate measures it
  (64,)
  """
  return normalised(prototypes(ways), how)


def normalised(head: MetaLearner, how: str = 'cl2n') -> MetaLearner:
  """Normalises the features that a head sees.

  Args:
    head: any head.
    how: 'un' leaves features as they are. 'l2n' makes their length 1. 'cl2n' subtracts the mean of
      the training features first. 'power' takes square roots, then makes the length 1; a negative
      feature becomes minus the root of its size.

  Returns:
    A head whose params are {'mean' [features], 'head'}. The mean is 0 until `calibrate` measures it
    on the episodes that it gets; gradient descent does not change it. (The mean of the paper is
    that of the whole training set.)

  Raises:
    ValueError: for another `how`.

  >>> support = Examples(jnp.array([[1.0, 0.0], [0.0, 5.0]]), jnp.array([0, 1]))
  >>> head = normalised(prototypes(ways=2), how='l2n')
  >>> params = head.init(jax.random.key(0), Episode(support, support))
  >>> answer = jax.jit(lambda x: head.predict(head.adapt(jax.random.key(0), params, support), x))
  >>> int(answer(jnp.array([[5.0, 4.0]])).argmax())  # nearer to class 1, but not in direction
  0
  """
  if how not in TRANSFORMS:
    raise ValueError(f'how={how!r} is unknown; use one of {", ".join(TRANSFORMS)}')
  transform = TRANSFORMS[how]

  def transformed(params: Params, examples: Examples) -> Examples:
    mean = jax.lax.stop_gradient(params['mean'])  # measured, not learned
    return examples._replace(x=transform(mean, precise(examples.x)))

  def whole(params: Params, episode: Episode) -> Episode:
    return Episode(
      transformed(params, episode.support), transformed(params, episode.query), episode.info
    )

  def init(key: Key, episode: Episode) -> Params:
    params = {'mean': jnp.zeros(episode.support.x.shape[1:], jnp.float32)}
    return {**params, 'head': head.init(key, whole(params, episode))}

  def adapt(key: Key, params: Params, support: Examples) -> Fitted:
    return params['mean'], head.adapt(key, params['head'], transformed(params, support))

  def predict(fitted: Fitted, z: jax.Array) -> jax.Array:
    mean, adapted = fitted
    return head.predict(adapted, transform(mean, precise(z)))

  def loss(key: Key, params: Params, episode: Episode) -> tuple[jax.Array, Metrics]:
    return head.loss(key, params['head'], whole(params, episode))

  def calibrate(params: Params, episodes: Episode) -> Params:
    params = {**params, 'mean': mean_of(episodes).astype(params['mean'].dtype)}
    return {
      **params,
      'head': head.calibrate(params['head'], jax.vmap(whole, (None, 0))(params, episodes)),
    }

  return meta_learner(
    init,
    adapt,
    predict,
    loss=loss,
    queries_seen=head.queries_seen,
    unlabelled=True,  # the inner head decides
    calibrate=calibrate,
  )


def mean_of(episodes: Episode) -> jax.Array:
  """Returns the mean of all features [features] of episodes [tasks, examples, features]."""
  flat = lambda a: a.reshape(-1, *a.shape[2:])
  rows = [jax.tree.map(flat, part._replace(y=None)) for part in episodes[:2]]
  x = precise(jnp.concatenate([part.x for part in rows]))
  weight = jnp.concatenate([weight_of(part, x.dtype) for part in rows])
  return means(weight[:, None], x)[0]
