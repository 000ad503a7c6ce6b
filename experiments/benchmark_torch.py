"""The meta-step of benchmark_meta_step as it is written in PyTorch.

A loop over tasks and inner steps with `torch.autograd.grad` (what learn2learn and higher do), and
`torch.func` in a loop over tasks or under its vmap.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.func import grad, vmap
from torch.nn import functional

from experiments.timing import Case
from metakit.types import Episode

Weights = list[torch.Tensor]


def cases(
  episodes: Episode, steps: int, rate: float, width: int, depth: int, baseline: str
) -> list[Case]:
  """Returns a case for each form, of the same tasks and of a network of the same shape."""
  images = lambda x: torch.tensor(np.moveaxis(np.asarray(x), -1, 2))
  labels = lambda y: torch.tensor(np.asarray(y), dtype=torch.int64)
  support, query = ((images(part.x), labels(part.y)) for part in (episodes.support, episodes.query))
  tasks, ways = len(support[0]), int(support[1].max()) + 1
  params = _initial(width, depth, ways)

  def loss(weights: Weights, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(_network(weights, x, depth), y)

  def by_autograd(second: bool) -> Any:
    total: Any = 0
    for task in range(tasks):
      weights = params
      for _ in range(steps):
        inner = loss(weights, support[0][task], support[1][task])
        slopes = torch.autograd.grad(inner, weights, create_graph=second)
        weights = [w - rate * g for w, g in zip(weights, slopes, strict=True)]
      total = total + loss(weights, query[0][task], query[1][task]) / tasks
    return torch.autograd.grad(total, params)

  def outer(weights: Weights, *task: torch.Tensor) -> torch.Tensor:
    for _ in range(steps):
      slopes = grad(loss)(weights, *task[:2])
      weights = [w - rate * g for w, g in zip(weights, slopes, strict=True)]
    return loss(weights, *task[2:])

  data = *support, *query
  one_by_one = lambda weights: sum(outer(weights, *(a[t] for a in data)) for t in range(tasks))
  at_once = lambda weights: vmap(outer, (None, 0, 0, 0, 0))(weights, *data).sum()
  forms: dict[str, Callable[[], Any]] = {
    'PyTorch, learn2learn form': lambda: by_autograd(True),
    'PyTorch, learn2learn form, first order': lambda: by_autograd(False),
    'PyTorch, torch.func, a loop over tasks': lambda: grad(one_by_one)(params),
    'PyTorch, torch.func, vmap over tasks': lambda: grad(at_once)(params),
  }
  return [Case(name, call, 0, None, baseline=baseline) for name, call in forms.items()]


def _initial(width: int, depth: int, ways: int) -> Weights:
  torch.manual_seed(0)
  weights, channels = [], 1
  for _ in range(depth):
    scale = (2 / (9 * channels)) ** 0.5
    weights += [torch.randn(width, channels, 3, 3) * scale, torch.ones(width), torch.zeros(width)]
    channels = width
  weights += [0.1 * torch.randn(ways, width), torch.zeros(ways)]
  return [weight.requires_grad_() for weight in weights]


def _network(weights: Weights, x: torch.Tensor, depth: int) -> torch.Tensor:
  for block in range(depth):
    kernel, scale, bias = weights[3 * block : 3 * block + 3]
    x = functional.conv2d(x, kernel, padding=1)
    x = functional.batch_norm(x, None, None, scale, bias, training=True)
    x = functional.max_pool2d(functional.relu(x), 2)
  return functional.linear(x.flatten(1), *weights[-2:])
