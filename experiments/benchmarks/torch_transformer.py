"""The training steps of experiments.benchmarks.suites.in_context by PyTorch's own transformer.

The blocks are `torch.nn.TransformerEncoderLayer`, pre-norm, whose attention is PyTorch's
`scaled_dot_product_attention`; causal sequences take its causal form, all others a mask. The
optimizer is `torch.optim.Adam`.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from experiments.benchmarks.elsewhere import elsewhere

Arrays = Mapping[str, np.ndarray]


class Sizes(NamedTuple):
  """Sizes of the network."""

  width: int
  depth: int
  heads: int
  hidden: int
  ways: int


class Sequences(NamedTuple):
  """What a step learns from.

  Attributes:
    tokens: [tasks, tokens, inputs].
    hidden: [tokens, tokens] bool, what a token does not see; None for all that come later.
    asked: how many tokens, the last ones, predict.
    labels: [tasks, asked].
  """

  tokens: np.ndarray
  hidden: np.ndarray | None
  asked: int
  labels: np.ndarray


def steps_beside(
  sequences: Mapping[str, Sequences], params: Mapping[str, Arrays], sizes: Sizes
) -> dict[str, tuple[Callable[[], Any], float, dict[str, np.ndarray]]]:
  """Returns a step of Adam for each kind of sequences, and the loss and gradient at its start.

  Args:
    sequences: by the names of the cases.
    params: of each case, by PyTorch's names and in its layout, as the gradients.
    sizes: sizes of the network.
  """
  calls = elsewhere(steps, dict(sequences), dict(params), sizes)
  made = {}
  for name in sequences:
    loss, gradient = calls[f'{name}, value'](show=True)
    made[name] = calls[name], float(loss), gradient
  return made


def steps(
  sequences: Mapping[str, Sequences], params: Mapping[str, Arrays], sizes: Sizes
) -> dict[str, Callable[[], Any]]:
  """Returns the steps by their names, and for each what it starts from: `NAME, value`."""
  made: dict[str, Callable[[], Any]] = {}
  for name, each in sequences.items():
    network = _Network(each.tokens.shape[-1], sizes)
    network.load_state_dict({key: torch.from_numpy(leaf) for key, leaf in params[name].items()})
    loss = _loss(network, each)
    made[name] = partial(_step, loss, torch.optim.Adam(network.parameters(), lr=1e-3))
    made[f'{name}, value'] = partial(_value, loss, network)
  return made


class _Network(nn.Module):
  """metakit.networks.transformer, as one writes it with PyTorch's blocks."""

  def __init__(self, inputs: int, sizes: Sizes):
    super().__init__()
    block = nn.TransformerEncoderLayer(
      sizes.width,
      sizes.heads,
      sizes.hidden,
      dropout=0.0,
      activation=partial(functional.gelu, approximate='tanh'),
      layer_norm_eps=1e-6,
      batch_first=True,
      norm_first=True,
    )
    norm = nn.LayerNorm(sizes.width, 1e-6)
    self.embed = nn.Linear(inputs, sizes.width)
    self.blocks = nn.TransformerEncoder(block, sizes.depth, norm, enable_nested_tensor=False)
    self.last = nn.Linear(sizes.width, sizes.ways)

  def forward(self, tokens: torch.Tensor, hidden: torch.Tensor, causal: bool) -> torch.Tensor:
    return self.last(self.blocks(self.embed(tokens), hidden, is_causal=causal))


def _loss(network: _Network, sequences: Sequences) -> Callable[[], torch.Tensor]:
  """Returns a function that computes the mean cross-entropy of all predictions."""
  tokens, labels = torch.from_numpy(sequences.tokens), torch.from_numpy(sequences.labels).long()
  causal = sequences.hidden is None
  hidden = (
    nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
    if sequences.hidden is None
    else torch.from_numpy(sequences.hidden)
  )

  def loss() -> torch.Tensor:
    outputs = network(tokens, hidden, causal)[:, -sequences.asked :]
    return functional.cross_entropy(outputs.flatten(0, 1), labels.flatten())

  return loss


def _value(loss: Callable[[], torch.Tensor], network: nn.Module) -> Any:
  value = loss()
  names, leaves = zip(*network.named_parameters(), strict=True)
  return value, dict(zip(names, torch.autograd.grad(value, leaves), strict=True))


def _step(loss: Callable[[], torch.Tensor], optimizer: torch.optim.Optimizer) -> None:
  optimizer.zero_grad()
  loss().backward()
  optimizer.step()
