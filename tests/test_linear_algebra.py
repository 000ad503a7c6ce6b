import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metakit.linear_algebra import (
  cholesky,
  cholesky_of_root,
  solve_lower,
  solve_positive,
  solve_upper,
)

RNG = np.random.default_rng(0)


def positive(n=5, batch=()):
  root = RNG.normal(size=(*batch, n, n))
  return root @ np.swapaxes(root, -1, -2) + np.eye(n)


OURS = {
  'cholesky': lambda a, b: cholesky(a) @ b,
  'lower': lambda a, b: solve_lower(cholesky(a), b),
  'upper': lambda a, b: solve_upper(cholesky(a), b),
  'positive': solve_positive,
  'root': lambda a, b: cholesky_of_root(jnp.concatenate([a, jnp.eye(5, dtype=a.dtype)])) @ b,
}
THEIRS = {
  'cholesky': lambda a, b: jnp.linalg.cholesky(a) @ b,
  'lower': lambda a, b: jnp.linalg.inv(jnp.linalg.cholesky(a)) @ b,
  'upper': lambda a, b: jnp.linalg.inv(jnp.linalg.cholesky(a)).T @ b,
  'positive': lambda a, b: jnp.linalg.inv(a) @ b,
  'root': lambda a, b: jnp.linalg.cholesky(a.T @ a + jnp.eye(5)) @ b,
}


# The first and the last multiply by what they are given, whatever its columns.
@pytest.mark.parametrize(
  ('name', 'columns'),
  [
    *(('cholesky', ()), ('lower', (3,)), ('positive', ()), ('root', ())),
    *(
      pytest.param(*each, marks=pytest.mark.slow)
      for each in (('lower', ()), ('upper', ()), ('upper', (3,)), ('positive', (3,)))
    ),
  ],
)
def test_values_and_both_derivatives_are_those_of_the_dense_inverse(name, columns):
  with jax.enable_x64(True):
    a, b = positive(), RNG.normal(size=(5, *columns))

    def judge(f, a, b):
      """The values, two gradients and two second derivatives."""
      # Of symmetric matrices: only there do the two agree beside the values.
      loss = lambda a, b: jnp.sin(f((a + a.T) / 2, b)).sum()
      slopes = [jax.grad(loss, place) for place in (0, 1)]
      hessians = [jax.jacfwd(slope, place) for place, slope in enumerate(slopes)]
      return [each(a, b) for each in (f, *slopes, *hessians)]

    found, expected = jax.jit(lambda *given: [judge(f[name], *given) for f in (OURS, THEIRS)])(a, b)
    for x, y in zip(found, expected, strict=True):
      np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-10)


def factorised(compiled):
  """The sizes of the arrays that a program gives to LAPACK."""
  return re.findall(r'= \(?f32\[([\d,]+)\].*custom_call_target="lapack', compiled.as_text())


@pytest.mark.parametrize(
  'name',
  [pytest.param(n, marks=[] if n in ('positive', 'root') else [pytest.mark.slow]) for n in OURS],
)
def test_many_are_each_alone(name):
  """In their values, and in the program: one that has several at once may not end (STORM)."""
  a, b = (np.asarray(x, np.float32) for x in (positive(batch=(7,)), RNG.normal(size=(7, 5, 2))))
  both = lambda a, b: jax.value_and_grad(lambda a: OURS[name](a, b).sum())(a)
  together, one = jax.jit(jax.vmap(both)).lower(a, b).compile(), jax.jit(both)
  many, sizes = together(a, b), factorised(together)
  assert sizes and all(size.count(',') <= 1 or size.startswith('1,') for size in sizes), sizes
  alone = [one(*each) for each in zip(a, b, strict=True)]
  jax.tree.map(
    lambda x, *y: np.testing.assert_allclose(x, np.stack(y), rtol=2e-4, atol=1e-4), many, *alone
  )


def test_a_matrix_that_is_not_positive_definite_gives_nan():
  assert np.isnan(jax.jit(cholesky)(-np.eye(3))).any()


STORM = """
import jax, jax.numpy as jnp
from metakit.linear_algebra import solve_positive
@jax.jit
def several(x):
  return [jax.vmap(solve_positive)(x * (i + 1), x).sum() for i in range(4)]
x = jnp.stack([2 * jnp.eye(64) + 0.01] * 64)
for _ in range(30):
  out = several(x)
print(float(out[0]))
"""


@pytest.mark.slow
def test_several_batches_at_once_end():
  """With jnp.linalg.cholesky in its place this has not ended in a minute, on two cores."""
  done = subprocess.run(
    [sys.executable, '-c', STORM], capture_output=True, text=True, timeout=240, check=True
  )
  assert float(done.stdout) == pytest.approx(64 * 64, rel=1e-3)
