"""Random integers of plans. A key gives the same ones on every device, host and version of JAX.

metakit.episodes.draws draws the other random numbers of episodes.
"""

from functools import partial

import jax
import jax.numpy as jnp

from metakit.types import Key


def draw_without_replacement(key: Key, count: jax.typing.ArrayLike, num_draws: int) -> jax.Array:
  """Draws `num_draws` different integers from 0 to count - 1, every ordered draw equally likely.

  This is a Fisher-Yates shuffle that stops after `num_draws` swaps. The array is never built; only
  the swaps are kept. So the cost does not depend on `count`, which may be traced.

  Args:
    key: a key.
    count: how many integers there are, at least `num_draws` (not checked: it may be traced).
    num_draws: static.

  Returns:
    [num_draws] int32, in random order.

  >>> sorted(draw_without_replacement(jax.random.key(0), 4, 4).tolist())
  [0, 1, 2, 3]
  """
  return choose(jax.random.bits(key, (num_draws,), jnp.uint32), count)


def choose(bits: jax.Array, count: jax.typing.ArrayLike) -> jax.Array:
  """As `draw_without_replacement`, from random bits [num_draws] uint32 in place of a key.

  Plans draw the bits of all their choices at once, since each call of the generator takes a fifth
  of a second to compile.
  """
  step = jnp.arange(len(bits), dtype=jnp.int32)
  return undo_swaps(step, step + reduce_below(bits, count - step))


def integers_below(key: Key, limit: jax.typing.ArrayLike) -> jax.Array:
  """Draws an integer from 0 to limit - 1 for each entry of `limit`.

  It is 32 random bits modulo the limit. So no integer is more likely than another by more than a
  factor of 1 + limit / 2**32. jax.random.randint draws twice as many bits, and may use them in
  another way in another version of JAX, which must not change plans.

  Args:
    key: a key.
    limit: any shape, positive integers.

  Returns:
    int32 of the shape of `limit`.
  """
  return reduce_below(jax.random.bits(key, jnp.shape(limit), jnp.uint32), limit)


def reduce_below(bits: jax.Array, limit: jax.typing.ArrayLike) -> jax.Array:
  """As `integers_below`, from random bits uint32 of the shape of `limit` in place of a key."""
  return (bits % jnp.asarray(limit).astype(jnp.uint32)).astype(jnp.int32)


@partial(jax.jit, inline=True)  # compiled once, also when a sampler is called without jit
def undo_swaps(places: jax.Array, target: jax.Array) -> jax.Array:
  """Returns what stands at `places` after a shuffle whose array was never built.

  At first the array held the number of each place. Swap i of the shuffle exchanged what stood at
  places[i] and at target[i], for i = 0, 1, ...

  Args:
    places: [swaps] different places. No swap after swap i touches places[i].
    target: [swaps] places. target[i] is not one of places[0], ..., places[i - 1].

  Returns:
    [swaps] int32.
  """
  step = jnp.arange(len(places))

  def undo(place, swap):  # before swap m, what is now at target[m] was at places[m]
    number, swapped_place, swapped_target = swap
    return jnp.where((step > number) & (place == swapped_target), swapped_place, place), None

  place, _ = jax.lax.scan(
    undo, target, (step, places, target), reverse=True, unroll=min(len(places), 16)
  )
  return place.astype(jnp.int32)
