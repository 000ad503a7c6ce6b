"""The network of metakit.networks.two_way as it is written in PyTorch, post-norm.

Attention is PyTorch's `scaled_dot_product_attention`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from experiments.benchmarks.elsewhere import elsewhere

Tree = Mapping[str, Any]


def form_beside(
  cells: Mapping[str, np.ndarray], params: Tree, *, depth: int, heads: int
) -> tuple[Callable[[], Any], Any]:
  """Returns a call of one gradient, and that gradient as a tree like params.

  Args:
    cells: what the network reads, see experiments.benchmarks.suites.tables.read_cells.
    params: parameters in JAX's layout.
    depth: blocks.
    heads: attention heads.
  """
  call = elsewhere(gradients, dict(cells), params, depth, heads)['PyTorch']
  return call, call(show=True)


def gradients(cells: Any, params: Tree, depth: int, heads: int) -> Mapping[str, Callable[[], Any]]:
  """Returns a call of one gradient, which is a tree like params."""
  leaves: list[torch.Tensor] = []
  weights = _tensors(params, leaves)
  tensors = {name: torch.from_numpy(np.array(each)) for name, each in cells.items()}

  def gradient() -> Any:
    slopes = torch.autograd.grad(loss(weights, tensors, depth, heads=heads), leaves)
    return _like(params, iter(slopes))

  return {'PyTorch': gradient}


def _tensors(tree: Tree, leaves: list[torch.Tensor]) -> Any:
  """Turns a tree of arrays into one of tensors, which are listed too."""
  made = {}
  for name, each in tree.items():
    if isinstance(each, Mapping):
      made[name] = _tensors(each, leaves)
    else:
      leaves.append(torch.from_numpy(np.array(each)).requires_grad_())
      made[name] = leaves[-1]
  return made


def _like(params: Tree, slopes: Any) -> Any:
  return {
    name: _like(each, slopes) if isinstance(each, Mapping) else next(slopes)
    for name, each in params.items()
  }


def loss(weights: Any, cells: Any, depth: int, *, heads: int) -> torch.Tensor:
  """The mean over tables of the cross-entropy of their queries."""
  read, columns = cells['present'].shape[1], cells['columns']
  x = torch.cat([_dense(cells[name], weights[name]) for name in ('features', 'targets')], dim=2)
  number = cells['targets'].shape[2]
  for layer in range(depth):
    block = weights[f'block_{layer}']
    asked = x[:, :, -number:] if layer == depth - 1 else x
    seen = columns[:, None].expand(-1, x.shape[1], -1)
    x = _norm(asked + _attend(asked, x, block, 'column', seen=seen), block['column_norm'])
    turned = x.transpose(1, 2)  # [tables, columns, rows, width]
    seen = cells['present'][:, None].expand(-1, turned.shape[1], -1)
    attended = _attend(turned, turned[:, :, :read], block, 'row', seen=seen).transpose(1, 2)
    x = _norm(x + attended, block['row_norm'])
    x = _norm(x + _perceptron(x, block), block['norm'])
  logits = _perceptron(x[:, read:], weights)[..., 0]
  logits = logits.masked_fill(~columns[:, None, -number:], -1e4)
  each = functional.cross_entropy(logits.transpose(1, 2), cells['labels'].long(), reduction='none')
  weight = cells['weight']
  return ((each * weight).sum(1) / weight.sum(1).clamp_min(1e-30)).mean()


def _dense(x: torch.Tensor, layer: Any) -> torch.Tensor:
  return functional.linear(x, layer['kernel'].T, layer['bias'])


def _perceptron(x: torch.Tensor, layers: Any) -> torch.Tensor:
  hidden = functional.gelu(_dense(x, layers['hidden']), approximate='tanh')
  return _dense(hidden, layers['outputs'])


def _norm(x: torch.Tensor, layer: Any) -> torch.Tensor:
  return functional.layer_norm(x, x.shape[-1:], layer['scale'], layer['bias'], 1e-6)


def _attend(
  asked: torch.Tensor, read: torch.Tensor, block: Any, name: str, *, seen: torch.Tensor
) -> torch.Tensor:
  """Attention of [tables, places, asked, width] to [tables, places, read, width]."""
  queries, keys, outputs = (block[f'{name}_{part}'] for part in ('queries', 'keys', 'outputs'))
  width = asked.shape[-1]
  split = lambda x: x.unflatten(-1, queries['kernel'].shape[1:]).transpose(2, 3)
  query = split(functional.linear(asked, queries['kernel'].flatten(1).T, queries['bias'].flatten()))
  both = functional.linear(read, keys['kernel'].flatten(1).T, keys['bias'].flatten())
  key, value = (split(part) for part in both.chunk(2, dim=-1))
  mask = seen[:, :, None, None]
  attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
  attended = attended.transpose(2, 3).flatten(-2)
  return functional.linear(attended, outputs['kernel'].reshape(width, width).T, outputs['bias'])
