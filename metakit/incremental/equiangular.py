"""Prototypes that are given to classes before training, at equal angles and as far as can be.

A simplex equiangular tight frame: Vardan Papyan, X. Y. Han, David L. Donoho, Prevalence of Neural
Collapse during the Terminal Phase of Deep Learning Training, PNAS 2020, arXiv:2008.08186.
Prototypes of classes that are still to come keep their place: Yibo Yang, Haobo Yuan, Xiangtai Li,
Zhouchen Lin, Philip Torr, Dacheng Tao, Neural Collapse Inspired Feature-Classifier Alignment for
Few-Shot Class-Incremental Learning, ICLR 2023, arXiv:2302.03004, eq. 1.
"""

import jax
import jax.numpy as jnp

from metakit.heads.common import product
from metakit.types import Key


def equiangular_frame(key: Key, classes: int, features: int) -> jax.Array:
  """Returns unit vectors [classes, features] with the cosine -1 / (classes - 1) between any two.

  They are sqrt(K / (K - 1)) (I - 1 1' / K) U', with U [features, K] orthonormal and random.

  Args:
    key: names the directions.
    classes: K, of all sessions together.
    features: their size.

  Raises:
    ValueError: for fewer than two classes, or more classes than features.

  >>> frame = jax.jit(equiangular_frame, static_argnums=(1, 2))(jax.random.key(0), 3, 8)
  >>> (frame @ frame.T).round(3).tolist()
  [[1.0, -0.5, -0.5], [-0.5, 1.0, -0.5], [-0.5, -0.5, 1.0]]
  """
  if classes < 2:
    raise ValueError(f'classes={classes} have no angles between them; use 2 or more')
  if classes > features:
    raise ValueError(
      f'classes={classes} exceeds the {features} features, which have no room for as many vectors '
      'at equal angles; use a wider network or fewer classes'
    )
  basis, _ = jnp.linalg.qr(jax.random.normal(key, (features, classes), jnp.float32))
  centred = jnp.eye(classes) - 1 / classes
  return (classes / (classes - 1)) ** 0.5 * product(centred, basis.T)
