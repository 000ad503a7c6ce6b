"""Factorisations of matrices that do not block one another on a CPU.

On a CPU JAX runs the parts of a batched factorisation on the threads that call it, and each call
waits for its parts. If as many calls run at once as there are threads, they wait for ever. This
happens with jax 0.10 to 0.12: on two cores, four independent `jnp.linalg.cholesky` of [64, 64, 64]
under one jit block within seconds. So on a CPU the functions here, under vmap, loop over the
matrices, and the calling thread factorises each.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.export import is_symbolic_dim

EXACT = jax.lax.Precision.HIGHEST
ROUNDING = 4  # rounding of a matrix of inner products, in units in the last place of its trace


def is_wide(matrix: jax.Array) -> bool:
  """Tells whether a matrix has at least as many columns as rows.

  It does not where metakit.export leaves the number of rows open. Callers take a form then that
  holds for any number, and may take longer.
  """
  rows, columns = matrix.shape
  return not is_symbolic_dim(rows) and rows <= columns


def one_by_one(function: Callable[..., Any]) -> Callable[..., Any]:
  """Returns the function; under vmap on a CPU it loops over the examples.

  It has no derivative.
  """
  loop = jax.custom_batching.sequential_vmap(function)
  return lambda *operands: jax.lax.platform_dependent(*operands, cpu=loop, default=function)


_cholesky = one_by_one(jnp.linalg.cholesky)
_triangle = one_by_one(lambda root: jnp.linalg.qr(root, mode='r'))
_lower = one_by_one(lambda a, b: jax.scipy.linalg.solve_triangular(a, b, lower=True))
_upper = one_by_one(lambda a, b: jax.scipy.linalg.solve_triangular(a, b, lower=True, trans=1))


@jax.custom_jvp
def cholesky(matrix: jax.Array) -> jax.Array:
  """Returns the lower triangular factor L [n, n] of a positive definite matrix LL'.

  NaN where the matrix is not positive definite.
  """
  return _cholesky((matrix + matrix.T) / 2)


@cholesky.defjvp
def _cholesky_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]):
  """L' = L tril(L^-1 A' L^-T), its diagonal halved."""
  factor, (tangent,) = cholesky(*primals), tangents
  return factor, _factor_tangent(factor, (tangent + tangent.T) / 2)


def _factor_tangent(factor: jax.Array, tangent: jax.Array) -> jax.Array:
  """Returns the derivative of L, given that of LL'."""
  middle = solve_lower(factor, solve_lower(factor, tangent).T)
  lower = jnp.tril(middle) - jnp.diag(jnp.diagonal(middle)) / 2
  return jnp.matmul(factor, lower, precision=EXACT)


@jax.custom_jvp
def cholesky_of_root(root: jax.Array) -> jax.Array:
  """Returns the lower triangular factor L [n, n] of A'A = LL' for A [rows, n] of full rank.

  It comes from the QR decomposition of A. The product A'A would lose twice as many digits.
  """
  upper = _triangle(root)
  return (upper * jnp.where(jnp.diagonal(upper) < 0, -1, 1)[:, None]).T


@cholesky_of_root.defjvp
def _cholesky_of_root_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]):
  (root,), (tangent,) = primals, tangents
  factor = cholesky_of_root(root)
  half = jnp.matmul(root.T, tangent, precision=EXACT)
  return factor, _factor_tangent(factor, half + half.T)


def solve_lower(factor: jax.Array, right: jax.Array) -> jax.Array:
  """Returns L^-1 b for L [n, n] lower triangular and b [n] or [n, columns]."""
  return _triangular(factor, right, _lower, _upper, lambda a: a)


def solve_upper(factor: jax.Array, right: jax.Array) -> jax.Array:
  """Returns L^-T b for L [n, n] lower triangular and b [n] or [n, columns]."""
  return _triangular(factor, right, _upper, _lower, jnp.transpose)


def _triangular(factor, right, solve, transposed, side):
  factor = jnp.tril(factor)
  return jax.lax.custom_linear_solve(
    lambda x: jnp.matmul(side(factor), x, precision=EXACT),
    right,
    lambda _, b: solve(jax.lax.stop_gradient(factor), b),
    lambda _, b: transposed(jax.lax.stop_gradient(factor), b),
  )


def solve_positive(matrix: jax.Array, right: jax.Array) -> jax.Array:
  """Returns A^-1 b for A [n, n] positive definite and b [n] or [n, columns]."""
  factor = cholesky(matrix)
  return solve_upper(factor, solve_lower(factor, right))


def with_ridge(gram: jax.Array, penalty: jax.Array | float) -> jax.Array:
  """Returns gram + penalty I [n, n] for a matrix x'x or xx'; the result is positive definite.

  A penalty below the rounding of the products is raised to that rounding.
  """
  least = ROUNDING * jnp.finfo(gram.dtype).eps * jax.lax.stop_gradient(jnp.trace(gram))
  return gram + jnp.maximum(penalty, least).astype(gram.dtype) * jnp.eye(
    gram.shape[0], dtype=gram.dtype
  )
