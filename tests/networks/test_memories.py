"""Memories of fixed size: chunks against the recurrence as the papers write it, in plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metakit.networks.attention import Heads
from metakit.networks.memories import KINDS, gates_of, memory_attention
from metakit.networks.transformer import transformer

TOKENS, HEADS, FEATURES = 11, 2, 3
SEEN = np.array([0, 5, 11, 4])
PRESENT = np.arange(TOKENS) != 6
OTHERS = [kind for kind in KINDS if kind != 'linear']  # which is gated_linear without gates
sigmoid = lambda x: 1 / (1 + np.exp(-x))


@pytest.fixture(autouse=True)
def float64():
  with jax.enable_x64(True):
    yield


def drawn(kind, count, seed=0):
  rng = np.random.default_rng(seed)
  gates = rng.normal(size=(count, HEADS, max(gates_of(kind, FEATURES), 1)))
  return Heads(*rng.normal(size=(3, count, HEADS, FEATURES)), gates)


def written(kind, state, key, value, gate):
  """The state of one head after a token; key and value of a head, as in the module's docstring."""
  if kind == 'linear':
    return state + np.outer(key / FEATURES, value)
  if kind == 'gated_linear':
    return sigmoid(gate)[:, None] ** (1 / 16) * state + np.outer(key / FEATURES**0.5, value)
  if kind == 'delta':
    key = key / np.sqrt(key @ key + 1e-6)
    return state + sigmoid(gate) * np.outer(key, value - state.T @ key)
  step = np.log1p(np.exp(gate - 4))
  kept = np.exp(-np.outer(np.arange(1, FEATURES + 1), step))
  return kept * state + np.outer(key / FEATURES**0.5, value)


def recalled(kind, state, query):
  if kind == 'delta':
    query = query / np.sqrt(query @ query + 1e-6)
  found = query @ state
  return found / np.sqrt(np.mean(found**2) + 1e-6) if KINDS[kind].normed else found


def plainly(kind, read, asked):
  """Token by token and head by head; each question beside the tokens that it sees."""
  outputs, answers = np.zeros((TOKENS, HEADS, FEATURES)), np.zeros((len(SEEN), HEADS, FEATURES))
  for h in range(HEADS):
    states = [np.zeros((FEATURES, FEATURES))]
    for t in range(TOKENS):
      after = written(kind, states[-1], read.key[t, h], read.value[t, h], read.gates[t, h])
      outputs[t, h] = recalled(kind, after, read.query[t, h])
      states.append(after if PRESENT[t] else states[-1])
    for i, seen in enumerate(SEEN):
      own = asked.key[i, h], asked.value[i, h], asked.gates[i, h]
      answers[i, h] = recalled(kind, written(kind, states[seen], *own), asked.query[i, h])
  return np.concatenate([outputs, answers])


@pytest.mark.parametrize('chunk', [1, 4, 16])
@pytest.mark.parametrize('kind', KINDS)
def test_chunks_and_questions_are_the_recurrence(kind, chunk):
  read, asked = drawn(kind, TOKENS), drawn(kind, len(SEEN), 1)
  outputs, _ = jax.jit(memory_attention(kind, chunk))(read, asked, SEEN, PRESENT, None)
  np.testing.assert_allclose(outputs, plainly(kind, read, asked), rtol=0, atol=1e-9)


def test_a_key_that_is_written_again_is_replaced_by_delta_and_added_to_by_linear():
  """Fully open gates: the second value of the same key is what is recalled."""
  one = np.array([1.0, 0, 0])
  tokens = lambda *values: Heads(
    *(np.array([[row] for row in rows]) for rows in ([one, one], [one, one], values)),
    np.full((2, 1, 1), 50.0),
  )
  nothing = jax.tree.map(lambda leaf: leaf[:0], tokens(one, one))
  found = {
    kind: np.asarray(
      memory_attention(kind)(tokens(one, 3 * one), nothing, SEEN[:0], PRESENT[:2], None)[0]
    )[1, 0, 0]
    for kind in ('delta', 'linear')
  }
  assert found == pytest.approx({'delta': 3.0, 'linear': 4 / 3}, rel=1e-5)


@pytest.mark.parametrize('kind', OTHERS)
def test_extreme_gates_and_equal_keys_leave_numbers_finite(kind):
  """In float32, 200 tokens: gates at both ends, every key the same. Gradients too."""
  with jax.enable_x64(False):
    heads = jax.tree.map(lambda x: x.astype('f'), drawn(kind, 200))
    key = np.broadcast_to(heads.key[:1], heads.key.shape)
    gates = np.where(np.arange(200)[:, None, None] % 3, -500, 500) * np.ones_like(heads.gates)
    heads = heads._replace(key=key, gates=gates.astype('f'))
    empty = jax.tree.map(lambda leaf: leaf[:0], heads)

    def total(heads):
      present = jnp.ones(200, bool)
      return (memory_attention(kind)(heads, empty, SEEN[:0], present, None)[0] ** 2).sum()

    found, slopes = jax.jit(jax.value_and_grad(total))(heads)
    assert np.isfinite(found) and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))


@pytest.mark.parametrize('kind', OTHERS)
def test_work_and_memory_grow_with_the_tokens_and_not_with_their_square(kind):
  """Twice as many tokens are at most 2.1 times the operations and the temporaries."""
  model = transformer(2, width=16, depth=1, heads=2, hidden=16, attention=kind)
  none = jnp.zeros((0, 3)), jnp.zeros(0, int)

  def cost(count):
    tokens = jax.ShapeDtypeStruct((count, 3), 'float64')
    params = jax.eval_shape(model.init, jax.random.key(0), tokens)
    total = lambda params, tokens: model.apply(params, tokens, *none).outputs.sum()
    compiled = jax.jit(jax.grad(total)).lower(params, tokens).compile()
    return compiled.cost_analysis()['flops'], compiled.memory_analysis().temp_size_in_bytes

  assert (np.divide(cost(1024), cost(512)) < 2.1).all()


def test_bad_input_is_named():
  with pytest.raises(ValueError, match="kind='sparse' is unknown"):
    memory_attention('sparse')
  with pytest.raises(ValueError, match='chunk=0 is not positive'):
    transformer(2, attention='delta', chunk=0)
