"""Softmax attention against NumPy; what all attentions share is in test_sequence."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metakit.networks.attention import Heads, fused_attention, softmax_attention
from metakit.networks.transformer import transformer


def test_attention_is_the_softmax_average():
  """Of those read up to the token itself, and of those read before a question and itself."""
  rng = np.random.default_rng(0)
  read, asked = Heads(*rng.normal(size=(3, 5, 2, 4))), Heads(*rng.normal(size=(3, 3, 2, 4)))
  seen, present = np.array([0, 2, 5]), np.array([1, 1, 0, 1, 1], bool)
  with jax.enable_x64(True):
    ours = np.asarray(jax.jit(softmax_attention())(read, asked, seen, present, None)[0])
  shown = [present & (np.arange(5) <= i) for i in range(5)]
  shown += [present & (np.arange(5) < n) for n in seen]
  for i, there in enumerate(shown):
    own = jax.tree.map(lambda part, i=i: part[i - 5 : i - 4 or None], asked) if i >= 5 else None
    key, value = (
      np.concatenate([getattr(read, name)[there]] + ([getattr(own, name)] if own else []))
      for name in ('key', 'value')
    )
    query = np.concatenate([read.query, asked.query])[i]
    for head in range(2):
      weights = np.exp(key[:, head] @ query[head] / np.sqrt(4))
      expected = weights @ value[:, head] / weights.sum()
      np.testing.assert_allclose(ours[i, head], expected, rtol=1e-12)


def test_attention_to_nothing_is_finite():
  one, empty = Heads(*np.ones((3, 2, 1, 4), 'f')), Heads(*np.zeros((3, 0, 1, 4), 'f'))
  none = np.zeros(2, bool)

  def total(query):
    return softmax_attention()(one._replace(query=query), empty, np.zeros(0, int), none, None)[
      0
    ].sum()

  assert np.isfinite(np.asarray(jax.jit(jax.grad(total))(one.query))).all()


def test_fused_attention_is_the_same():
  """With a cache, with padding, and in its gradient."""
  rng = np.random.default_rng(0)
  heads = lambda count: Heads(*rng.normal(size=(3, count, 2, 4)).astype('f'))
  cached, read, asked, empty = heads(3), heads(5), heads(2), heads(0)
  there, seen = np.array([1, 1, 0, 1, 1], bool), np.array([0, 4])

  def judge(attend, query):
    none = np.zeros(0, int)
    _, state = attend(cached, empty, none, np.ones(3, bool), None)
    outputs, state = attend(read._replace(query=query), asked, seen, there, state)
    return (outputs**2).sum(), (outputs, state)

  slope = lambda attend: jax.value_and_grad(functools.partial(judge, attend), has_aux=True)
  forms = softmax_attention(), fused_attention()
  each = jax.jit(lambda query: [slope(attend)(query) for attend in forms])(read.query)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *each)


def lowered_for_cuda(examples, heads, monkeypatch):
  """On a machine without: JAX's checks of the GPU at hand are answered for it."""
  model = transformer(3, width=16, depth=1, heads=heads, attention='fused', dtype='bfloat16')
  tokens, asked = (np.zeros((count, 4), 'f') for count in (examples, examples + 1))
  params = jax.eval_shape(model.init, jax.random.key(0), tokens)
  given = tokens, asked, np.arange(examples + 1), np.ones(examples, bool), None
  total = lambda params: model.apply(params, *given).answers.astype(jnp.float32).sum()
  checks = 'jax._src.cudnn.fused_attention_stablehlo'
  monkeypatch.setattr('jax.default_backend', lambda: 'gpu')
  monkeypatch.setattr(f'{checks}.check_cudnn_version', lambda: 91000)
  monkeypatch.setattr(f'{checks}.check_compute_capability', lambda least: True)
  monkeypatch.setattr(f'{checks}.is_cuda_compute_capability_equal', lambda given: False)
  return jax.jit(jax.grad(total)).trace(params).lower(lowering_platforms=('cuda',)).as_text()


@pytest.mark.parametrize('examples', [98, 99])
def test_on_a_gpu_half_precision_is_one_kernel_and_so_is_its_gradient(examples, monkeypatch):
  lowered = lowered_for_cuda(examples, 2, monkeypatch)
  assert lowered.count('__cudnn$fmhaScaleBiasSoftmaxBackward') == 1
  assert lowered.count('__cudnn$fmhaScaleBiasSoftmax(') == 1


def test_heads_that_cudnn_refuses_take_the_other_kernel(monkeypatch):
  assert '__cudnn' not in lowered_for_cuda(9, 4, monkeypatch)
