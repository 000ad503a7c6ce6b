"""Evolution strategies: the derivative of a smoothed inner loop, from values of the loop alone.

Tim Salimans, Jonathan Ho, Xi Chen, Szymon Sidor, Ilya Sutskever, Evolution Strategies as a Scalable
Alternative to Reinforcement Learning, 2017, arXiv:1703.03864; for meta-learning Song et al.,
ES-MAML, ICLR 2020, arXiv:1910.01215. Let A(p) be what the inner loop returns, v its cotangent and e
standard normal. The gradient with respect to p = (fast, slow) is the mean over antithetic pairs of
e <v, A(p + sigma e) - A(p - sigma e)> / (2 sigma).

The estimate is unbiased for the Gaussian smoothing of <v, A>. Its variance grows with the number of
parameters. A function of the result of the loop is not smoothed: its ordinary derivative is used.
To smooth it too, put it into Inner.readout.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from metakit.meta_gradient.inner import Data, Fast, Inner, Mode, Slow, Solution, Solve
from metakit.meta_gradient.loops import constant, join_floats, no_tangent, split_floats
from metakit.types import Key


def evolution(sigma: float = 0.01, pairs: int = 16) -> Mode:
  """Estimates the gradient from values of the inner loop; the task's data count as constants.

  Args:
    sigma: standard deviation of the perturbations of every parameter.
    pairs: antithetic pairs; each costs two inner loops, one pair after the other.

  Returns:
    A Mode. It raises ValueError for an Inner whose data have meta-parameters behind them.

  Raises:
    ValueError: if sigma or pairs is not positive.

  >>> from metakit.meta_gradient import by_optax
  >>> inner = by_optax(lambda fast, slow, data, step: fast**2, optax.sgd(0.25))
  >>> end = lambda start: evolution()(inner)(jax.random.key(0), start, {}, None, 1).fast
  >>> slope = jax.jit(jax.grad(end))(jnp.float32(1))
  >>> bool(0.3 < slope < 0.7)  # 0.5 is right
  True
  """
  if sigma <= 0 or pairs < 1:
    raise ValueError(f'sigma={sigma} and pairs={pairs} must be positive')

  def build(inner: Inner) -> Solve:
    if inner.through_data:
      raise ValueError(
        'mode evolution takes the data of a task as constants, and this learner learns the '
        'features in them; use mode unroll'
      )
    loop = constant(inner)

    def solve(key: Key, fast: Fast, slow: Slow, data: Data, steps: int) -> Solution:
      @jax.custom_vjp
      def run(key, fast, slow, data):
        return loop(key, fast, slow, data, steps)

      def forward(key, fast, slow, data):
        return run(key, fast, slow, data), (key, fast, slow, data)

      def backward(kept, cotangent):
        key, fast, slow, data = kept
        floats, others = split_floats((fast, slow))

        def estimate(total: Any, key: Key) -> Any:
          noise = optax.tree.random_like(key, floats)

          def moved(sign: float) -> Any:
            shifted = jax.tree.map(lambda a, e: a + sign * sigma * e, floats, noise)
            fast, slow = join_floats(shifted, others)
            return split_floats(loop(key, fast, slow, data, steps))[0]

          change = jax.tree.map(jnp.subtract, moved(1.0), moved(-1.0))
          scale = optax.tree.vdot(split_floats(cotangent)[0], change) / (2 * sigma * pairs)
          return jax.tree.map(lambda t, e: t + scale.astype(e.dtype) * e, total, noise), None

        none = jax.tree.map(jnp.zeros_like, floats)
        total, _ = jax.lax.scan(estimate, none, jax.random.split(key, pairs))
        for_fast, for_slow = join_floats(total, jax.tree.map(no_tangent, others))
        return no_tangent(key), for_fast, for_slow, jax.tree.map(_constant, data)

      run.defvjp(forward, backward)
      return run(key, fast, slow, data)

    return solve

  return build


def _constant(leaf: Any) -> Any:
  """The cotangent of data."""
  inexact = jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
  return jnp.zeros_like(leaf) if inexact else no_tangent(leaf)
