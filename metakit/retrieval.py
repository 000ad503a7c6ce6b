"""Nearest neighbours in a bank of examples: passages beside each example, or a chosen support.

Retrieval never gives a query itself away. Entries that equal it (a cosine of 1, up to rounding) are
left out, so a text that occurs twice is no exception. Labels are never looked at.

Exact search costs queries * entries * features. A block of queries at a time keeps the memory at
block * entries. Above millions of entries, `approximate` uses jax.lax.approx_max_k (Chern et al.
2022, arXiv:2206.14286), which is faster on a TPU and the same elsewhere.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metakit.data.table import ClassTable
from metakit.inputs import as_float
from metakit.sizes import check_positive
from metakit.sources import EpisodeSource, abstract_episode, as_source
from metakit.types import Episode, Examples, Sampler

EQUAL = 1e-5  # of a cosine from 1: rounding of float32 over thousands of features
BLOCK = 256  # queries that are compared at once
NEVER = -2.0  # below any cosine


def nearest(
  bank: Any, queries: Any, k: int, *, block: int = BLOCK, approximate: bool = False
) -> tuple[jax.Array, jax.Array]:
  """Returns the k entries of a bank with the largest cosine to each query, but not its equals.

  Args:
    bank: [entries, features] numbers.
    queries: [queries, features].
    k: how many.
    block: queries that are compared at once.
    approximate: see the module.

  Returns:
    Entries [queries, k] int32, nearest first, and their cosines [queries, k]. Where fewer than k
    differ from the query, a cosine of -2 marks those that are none.

  Raises:
    ValueError: if the bank is empty or of another width, or k is not positive or above its size.

  >>> bank = jnp.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
  >>> entries, cosines = nearest(bank, bank[:1], k=2)
  >>> entries.tolist(), cosines.round(3).tolist()
  ([[1, 2]], [[0.7070000171661377, 0.0]])
  """
  check_bank(np.shape(bank), np.shape(queries)[-1], k)
  check_positive(block=block)
  search = jax.lax.approx_max_k if approximate else jax.lax.top_k
  keys = _unit(jnp.asarray(bank))

  def one_by_one(query: jax.Array) -> tuple[jax.Array, jax.Array]:
    cosines = keys @ _unit(query)
    cosines, entries = search(jnp.where(cosines > 1 - EQUAL, NEVER, cosines), k)
    return entries, cosines

  return jax.lax.map(one_by_one, jnp.asarray(queries), batch_size=block)


def check_bank(shape: tuple[int, ...], width: int, k: int) -> None:
  """Raises ValueError if k entries cannot be retrieved for queries of some width."""
  check_positive(k=k)
  if len(shape) != 2 or not shape[0]:
    raise ValueError(f'a bank of shape {shape} holds nothing; give [entries, features]')
  if shape[1] != width:
    raise ValueError(
      f'the bank has {shape[1]} features and the queries {width}; embed both by one encoder'
    )
  if k > shape[0]:
    raise ValueError(f'k={k} is more than the {shape[0]} entries of the bank; use a smaller k')


def with_passages(
  table: ClassTable, bank: Any, k: int = 5, *, random: int | None = None
) -> ClassTable:
  """Returns a table whose examples have passages beside them, retrieved from a corpus.

  They are found once for each example, so episodes cost nothing more.

  Args:
    table: of examples [rows, features].
    bank: [entries, features], the corpus, in the same features; it has no labels. It may hold the
      examples themselves, which are never their own passages.
    k: passages of an example.
    random: a seed, for passages that are drawn at random instead: what is left of a gain then is
      none of retrieval.

  Returns:
    The table with x [rows, 1 + k, features]: the example, then its passages, nearest first.

  Raises:
    ValueError: see `nearest`; or if x are no vectors.

  >>> from metakit.data.table import class_table
  >>> x = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
  >>> with_passages(class_table(x, [0, 0, 0]), x, k=1).x[:, 1].tolist()
  [[1.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
  """
  x, bank = np.asarray(table.x), np.asarray(bank)
  if x.ndim != 2:
    raise ValueError(f'examples have the shape {x.shape[1:]}; passages are for vectors')
  check_bank(bank.shape, x.shape[1], k)
  if random is None:
    entries = np.asarray(jax.jit(lambda bank, x: nearest(bank, x, k)[0])(bank, x))
  else:
    entries = np.random.default_rng(random).integers(0, len(bank), (len(x), k))
  return table._replace(x=np.concatenate([x[:, None], bank[entries]], axis=1, dtype=x.dtype))


def retrieve(
  sampler: Sampler, k: int, *, embed: Callable[[jax.Array], jax.Array] | None = None
) -> EpisodeSource:
  """Keeps of each support the k examples that are nearest to the query, the nearest last.

  So the support of the sampler is a bank of demonstrations. An example that equals the query is
  left out, whatever its label.

  Args:
    sampler: a source or another sampler, of one query an episode.
    k: how many examples are kept.
    embed: x [examples, ...] -> [examples, features], what is compared; x itself by default.

  Raises:
    ValueError: if k is not positive or above the examples, or there are several queries.

  >>> from metakit.episodes.sinusoid import sinusoid
  >>> source = retrieve(sinusoid(shots=5, queries=1), k=2)
  >>> source(jax.random.key(0)).support.x.shape
  (2, 1)
  """
  source = as_source(sampler)
  shapes = abstract_episode(source)
  if len(shapes.query.x) != 1:
    raise ValueError(
      f'{len(shapes.query.x)} queries want demonstrations of their own; use queries=1'
    )
  check_bank((len(shapes.support.x), 1), 1, k)

  def keys(x: jax.Array) -> jax.Array:
    return as_float(x if embed is None else embed(x)).reshape(len(x), -1)

  def finish(episode: Episode) -> Episode:
    episode = episode if source.finish is None else source.finish(episode)
    support = episode.support
    cosines = _unit(keys(support.x)) @ _unit(keys(episode.query.x)[0])
    absent = cosines > 1 - EQUAL
    if support.weight is not None:
      absent |= support.weight <= 0
    cosines, rows = jax.lax.top_k(jnp.where(absent, NEVER, cosines), k)
    kept = Examples(*(jnp.asarray(leaf)[rows[::-1]] for leaf in support[:2]))
    weight = jnp.ones(k) if support.weight is None else jnp.asarray(support.weight)[rows[::-1]]
    there = (cosines[::-1] > NEVER).astype(weight.dtype)
    return episode._replace(support=kept._replace(weight=weight * there))

  return source.replace(finish=finish)


def _unit(x: jax.Array) -> jax.Array:
  """Returns vectors of norm 1; zeros stay zeros."""
  x = as_float(x)
  size = jnp.linalg.norm(x, axis=-1, keepdims=True)
  return x / jnp.where(size > 0, size, 1)
