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
  """The nearest class mean of normalised features. Args and raises as `normalised`."""
  return normalised(prototypes(ways), how)


def normalised(head: MetaLearner, how: str = 'cl2n') -> MetaLearner:
  """Normalises the features that a head sees.

  Args:
    head: any head.
    how: 'un' (as they are), 'l2n' (unit length), 'cl2n' (the mean of the training features is
      subtracted before), or 'power' (the square root, then unit length; of a negative feature,
      minus that of its size).

  Returns:
    A head whose params are {'mean' [features], 'head'}; `calibrate` measures the mean, of the
    episodes that it is given (the paper's is that of the whole training set), and gradient descent
    leaves it alone: until then it is 0.

  Raises:
    ValueError: for another `how`.
  """
  if how not in TRANSFORMS:
    raise ValueError(f'how={how!r} is unknown; use one of {", ".join(TRANSFORMS)}')
  transform = TRANSFORMS[how]

  def of(params: Params, examples: Examples) -> Examples:
    mean = jax.lax.stop_gradient(params['mean'])  # measured, not learned
    return examples._replace(x=transform(mean, precise(examples.x)))

  def whole(params: Params, episode: Episode) -> Episode:
    return Episode(of(params, episode.support), of(params, episode.query), episode.info)

  def init(key: Key, episode: Episode) -> Params:
    params = {'mean': jnp.zeros(episode.support.x.shape[1:], jnp.float32)}
    return {**params, 'head': head.init(key, whole(params, episode))}

  def adapt(key: Key, params: Params, support: Examples) -> Fitted:
    return params['mean'], head.adapt(key, params['head'], of(params, support))

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
    unlabelled=True,  # that is the head's affair
    calibrate=calibrate,
  )


def mean_of(episodes: Episode) -> jax.Array:
  """Returns the mean of all features [features] of episodes [tasks, examples, features]."""
  flat = lambda a: a.reshape(-1, *a.shape[2:])
  rows = [jax.tree.map(flat, part._replace(y=None)) for part in episodes[:2]]
  x = precise(jnp.concatenate([part.x for part in rows]))
  weight = jnp.concatenate([weight_of(part, x.dtype) for part in rows])
  return means(weight[:, None], x)[0]
