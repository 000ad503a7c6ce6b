"""The steps of experiments.benchmarks.suites.meta_step as they are written in PyTorch.

MAML has three forms. One loops over tasks and inner steps with `torch.autograd.grad`, as higher and
learn2learn do. One uses `torch.func`, in a loop over tasks or under its vmap. One uses TorchOpt's
differentiable optimizer. Prototypical networks loop over tasks. All run in a process of their own,
as a user of PyTorch would run them, with the settings of PyTorch alone.
"""

import contextlib
import importlib.util
import multiprocessing
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.func import grad, vmap
from torch.nn import functional

from metakit.types import Episode

Weights = list[torch.Tensor]
FORMS = (
  'PyTorch, learn2learn form',
  'PyTorch, learn2learn form, first order',
  'PyTorch, torch.func, a loop over tasks',
  'PyTorch, torch.func, vmap over tasks',
  'PyTorch, prototypical networks',
  'TorchOpt, MetaSGD',  # it is the last, since TorchOpt may not be installed
)
ALL = -1


class Sizes(NamedTuple):
  """The sizes of the network and of the inner loop."""

  steps: int
  rate: float
  depth: int


def forms_beside(
  episodes: Episode, weights: Sequence[np.ndarray], sizes: Sizes
) -> list[tuple[str, Callable[[], Any], list[np.ndarray]]]:
  """Returns name, call and gradient of each form, on the same tasks and weights.

  Args:
    episodes: tasks [tasks, examples, ...].
    weights: kernel, scale and bias of each block, then kernel and bias, in the layout of JAX. The
      gradients have the same layout.
    sizes: sizes of the network and the inner loop.
  """
  images = lambda x: np.moveaxis(np.asarray(x), -1, 2)
  labels = lambda y: np.asarray(y, np.int64)
  parts = episodes.support, episodes.query
  data = tuple(array for part in parts for array in (images(part.x), labels(part.y)))
  ours, theirs = multiprocessing.Pipe()
  spawn = multiprocessing.get_context('spawn')
  spawn.Process(target=serve, args=(theirs, data, list(weights), sizes), daemon=True).start()

  def call(form: int, show: bool = False) -> Any:
    ours.send((form, show))
    return ours.recv()

  names = FORMS[: call(ALL)]
  return [(name, partial(call, i), call(i, show=True)) for i, name in enumerate(names)]


def serve(
  connection: Connection,
  data: tuple[np.ndarray, ...],
  weights: Sequence[np.ndarray],
  sizes: Sizes,
) -> None:
  """Answers requests until the connection is closed.

  The number of a form makes it compute that form. When this is done it sends None, or the gradient
  if the request asks for it. To ALL it answers how many forms there are.
  """
  started = [torch.from_numpy(_turned(w)).requires_grad_() for w in weights]
  computed = forms(tuple(map(torch.from_numpy, data)), started, sizes)
  with contextlib.suppress(EOFError):
    while True:
      form, show = connection.recv()
      if form == ALL:
        connection.send(len(computed))
        continue
      gradient = computed[form]()
      connection.send([_turned(g.detach().numpy(), back=True) for g in gradient] if show else None)


def _turned(weight: np.ndarray, back: bool = False) -> np.ndarray:
  """Turns a weight of JAX into PyTorch's order of axes, or back."""
  axes = {4: (2, 3, 1, 0) if back else (3, 2, 0, 1), 2: (1, 0)}.get(weight.ndim, (0,))
  return np.ascontiguousarray(np.transpose(weight, axes))


def forms(
  data: tuple[torch.Tensor, ...], params: Weights, sizes: Sizes
) -> list[Callable[[], Weights]]:
  """Returns the FORMS that are installed: each the gradient of the mean loss over tasks."""
  tasks = len(data[0])

  def loss(weights: Weights, x: torch.Tensor, y: torch.Tensor, *norm: Any) -> torch.Tensor:
    return functional.cross_entropy(_network(weights, x, sizes.depth, *norm), y)

  def by_autograd(second: bool) -> Any:
    total: Any = 0
    for task in range(tasks):
      weights, (x, y, query_x, query_y) = params, (array[task] for array in data)
      for _ in range(sizes.steps):
        slopes = torch.autograd.grad(loss(weights, x, y), weights, create_graph=second)
        weights = [w - sizes.rate * g for w, g in zip(weights, slopes, strict=True)]
      total = total + loss(weights, query_x, query_y) / tasks
    return torch.autograd.grad(total, params)

  def outer(weights: Weights, task: tuple[torch.Tensor, ...], *norm: Any) -> torch.Tensor:
    x, y, query_x, query_y = task
    for _ in range(sizes.steps):
      slopes = grad(loss)(weights, x, y, *norm)
      weights = [w - sizes.rate * g for w, g in zip(weights, slopes, strict=True)]
    return loss(weights, query_x, query_y, *norm)

  def by_distances() -> Weights:
    """Snell et al. 2017: queries by squared distance to class means; the last layer is unused."""
    total: Any = 0
    for x, y, query_x, query_y in zip(*data, strict=True):
      features = _features(params, torch.cat([x, query_x]), sizes.depth)
      support, query = features[: len(x)], features[len(x) :]
      means = torch.stack([support[y == label].mean(0) for label in y.unique()])
      total = total + functional.cross_entropy(-(torch.cdist(query, means) ** 2), query_y) / tasks
    return list(torch.autograd.grad(total, params[:-2]))

  one = lambda weights, task: outer(weights, tuple(array[task] for array in data))
  one_by_one = lambda weights: sum(one(weights, task) for task in range(tasks)) / tasks
  beside = vmap(lambda weights, task: outer(weights, task, _written_norm), (None, 0))
  at_once = lambda weights: beside(weights, data).mean()
  gradients: list[Callable[[], Any]] = [
    lambda: by_autograd(True),
    lambda: by_autograd(False),
    lambda: grad(one_by_one)(params),
    lambda: grad(at_once)(params),
    by_distances,
  ]
  if importlib.util.find_spec('torchopt') is not None:
    gradients.append(_by_torchopt(data, params, sizes))
  return gradients


class _Network(torch.nn.Module):
  """The network as TorchOpt wants it: a module whose weights it replaces."""

  def __init__(self, weights: Weights, depth: int):
    super().__init__()
    self.depth, self.number = depth, len(weights)
    for i, weight in enumerate(weights):
      self.register_parameter(f'w{i}', torch.nn.Parameter(weight.detach().clone()))

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    return _network([getattr(self, f'w{i}') for i in range(self.number)], x, self.depth)


def _by_torchopt(
  data: tuple[torch.Tensor, ...], params: Weights, sizes: Sizes
) -> Callable[[], Weights]:
  """As in TorchOpt's own example of MAML: its differentiable optimizer, reset after each task."""
  import torchopt

  network = _Network(params, sizes.depth)
  inner = torchopt.MetaSGD(network, lr=sizes.rate)
  leaves, tasks = list(network.parameters()), len(data[0])
  parts: tuple[Any, Any] = (network, inner)
  started = [torchopt.extract_state_dict(each, by='reference') for each in parts]
  loss = lambda x, y: functional.cross_entropy(network(x), y)

  def gradient() -> Weights:
    total: Any = 0
    for task in range(tasks):
      x, y, query_x, query_y = (array[task] for array in data)
      for _ in range(sizes.steps):
        inner.step(loss(x, y))
      total = total + loss(query_x, query_y) / tasks
      for each, state in zip(parts, started, strict=True):
        torchopt.recover_state_dict(each, state)
    return list(torch.autograd.grad(total, leaves))

  return gradient


def _library_norm(x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
  return functional.batch_norm(x, None, None, scale, bias, training=True)


def _written_norm(x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
  """The same as the library's, whose second derivative under vmap is wrong (PyTorch 2.15)."""
  mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
  return (x - mean) * torch.rsqrt(variance + 1e-5) * scale[:, None, None] + bias[:, None, None]


def _network(
  weights: Weights, x: torch.Tensor, depth: int, norm: Callable[..., torch.Tensor] = _library_norm
) -> torch.Tensor:
  return functional.linear(_features(weights, x, depth, norm), *weights[-2:])


def _features(
  weights: Weights, x: torch.Tensor, depth: int, norm: Callable[..., torch.Tensor] = _library_norm
) -> torch.Tensor:
  for block in range(depth):
    kernel, scale, bias = weights[3 * block : 3 * block + 3]
    x = functional.conv2d(x, kernel, padding=1)
    x = functional.max_pool2d(functional.relu(norm(x, scale, bias)), 2)
  return x.flatten(1)
