"""Supervised contrastive loss: examples of a class close to one another, and far from all others.

Prannay Khosla, Piotr Teterwak, Chen Wang, Aaron Sarna, Yonglong Tian, Phillip Isola, Aaron
Maschinot, Ce Liu, Dilip Krishnan, Supervised Contrastive Learning, NeurIPS 2020, arXiv:2004.11362,
eq. 2 (the sum over positives outside of the logarithm). Deviations: the positives of an example are
other examples of its class, not changed copies of itself; features are compared without a
projection; an example that is alone in its class is no anchor, and the loss is a mean over anchors.
"""

import jax
import jax.numpy as jnp

from metakit.heads.common import check_positive, product, unit
from metakit.losses.together import FeatureLoss
from metakit.types import Examples, join, presence

FAR = -1e30  # finite, so that an example without any other has a gradient


def supervised_contrastive(temperature: float = 0.1) -> FeatureLoss:
  """Returns the mean over anchors i of -mean over positives p of log softmax(z_i z_p / t).

  Features are divided by their lengths. The softmax is over all examples but i, of support and
  queries together.

  Args:
    temperature: t; a small one looks at the nearest examples.

  Raises:
    ValueError: if the temperature is not positive.

  >>> from metakit.types import Episode
  >>> z = jnp.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
  >>> part = lambda y: Episode(Examples(z[:2], jnp.array(y[:2])), Examples(z[2:], jnp.array(y[2:])))
  >>> loss = jax.jit(supervised_contrastive())
  >>> [f'{loss(part(y)):.1f}' for y in ([0, 0, 1, 1], [0, 1, 0, 1])]  # close, and far apart
  ['0.0', '9.0']
  """
  check_positive(temperature=temperature)
  return lambda episode: contrast(join(episode.support, episode.query), temperature)


def contrast(examples: Examples, temperature: float = 0.1) -> jax.Array:
  """As `supervised_contrastive`, of one set of features; -1 is an example without a label.

  >>> z = jnp.array([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
  >>> loss = jax.jit(contrast)(Examples(z, jnp.array([0, 0, 1])), temperature=1.0)
  >>> f'{loss:.3f}'  # log(1 + exp(-2))
  '0.127'
  """
  there = presence(examples) & (examples.y >= 0)
  pair = there[:, None] & there & ~jnp.eye(len(there), dtype=bool)
  positive = pair & (examples.y[:, None] == examples.y)
  z = unit(examples.x)
  similar = jnp.where(pair, product(z, z.T) / temperature, FAR)
  logs = jnp.where(positive, jax.nn.log_softmax(similar), 0).sum(1)
  count = positive.sum(1)
  return -(logs / jnp.maximum(count, 1)).sum() / jnp.maximum((count > 0).sum(), 1)
