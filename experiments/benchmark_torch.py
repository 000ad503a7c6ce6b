"""The meta-step of benchmark_meta_step as it is written in PyTorch.

A loop over tasks and inner steps with `torch.autograd.grad` (what learn2learn and higher do), and
`torch.func` in a loop over tasks or under its vmap. They run in a process of their own, as a user
of PyTorch would run them, with the settings of PyTorch alone.
"""

import contextlib
import multiprocessing
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.func import grad, vmap
from torch.nn import functional

from experiments.timing import Case
from metakit.types import Episode

Weights = list[torch.Tensor]
FORMS = (
  'PyTorch, learn2learn form',
  'PyTorch, learn2learn form, first order',
  'PyTorch, torch.func, a loop over tasks',
  'PyTorch, torch.func, vmap over tasks',
)


class Sizes(NamedTuple):
  """Of the network and of the inner loop."""

  steps: int
  rate: float
  width: int
  depth: int


def cases(episodes: Episode, sizes: Sizes, baseline: str) -> list[Case]:
  """Returns a case for each form, of the same tasks and of a network of the same shape."""
  images = lambda x: np.moveaxis(np.asarray(x), -1, 2)
  labels = lambda y: np.asarray(y, np.int64)
  parts = episodes.support, episodes.query
  data = tuple(array for part in parts for array in (images(part.x), labels(part.y)))
  ours, theirs = multiprocessing.Pipe()
  spawn = multiprocessing.get_context('spawn')
  spawn.Process(target=serve, args=(theirs, data, sizes), daemon=True).start()

  def call(form: int) -> None:
    ours.send(form)
    ours.recv()

  return [
    Case(name, partial(call, i), baseline=baseline, peer=True) for i, name in enumerate(FORMS)
  ]


def serve(connection: Connection, data: tuple[np.ndarray, ...], sizes: Sizes) -> None:
  """Computes the form whose number is received, and says when it is done, until nobody asks."""
  computed = forms(tuple(map(torch.from_numpy, data)), sizes)
  with contextlib.suppress(EOFError):
    while True:
      computed[connection.recv()]()
      connection.send(None)


def forms(data: tuple[torch.Tensor, ...], sizes: Sizes) -> list[Callable[[], Any]]:
  """Returns the FORMS; each computes the gradient of the mean loss over tasks."""
  tasks, ways = len(data[0]), int(data[1].max()) + 1
  params = _initial(sizes, ways)

  def loss(weights: Weights, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(_network(weights, x, sizes.depth), y)

  def by_autograd(second: bool) -> Any:
    total: Any = 0
    for task in range(tasks):
      weights, (x, y, query_x, query_y) = params, (array[task] for array in data)
      for _ in range(sizes.steps):
        slopes = torch.autograd.grad(loss(weights, x, y), weights, create_graph=second)
        weights = [w - sizes.rate * g for w, g in zip(weights, slopes, strict=True)]
      total = total + loss(weights, query_x, query_y) / tasks
    return torch.autograd.grad(total, params)

  def outer(weights: Weights, *task: torch.Tensor) -> torch.Tensor:
    for _ in range(sizes.steps):
      slopes = grad(loss)(weights, *task[:2])
      weights = [w - sizes.rate * g for w, g in zip(weights, slopes, strict=True)]
    return loss(weights, *task[2:])

  one_by_one = lambda weights: sum(outer(weights, *(a[t] for a in data)) for t in range(tasks))
  at_once = lambda weights: vmap(outer, (None, 0, 0, 0, 0))(weights, *data).sum()
  return [
    lambda: by_autograd(True),
    lambda: by_autograd(False),
    lambda: grad(one_by_one)(params),
    lambda: grad(at_once)(params),
  ]


def _initial(sizes: Sizes, ways: int) -> Weights:
  torch.manual_seed(0)
  weights, channels, width = [], 1, sizes.width
  for _ in range(sizes.depth):
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
