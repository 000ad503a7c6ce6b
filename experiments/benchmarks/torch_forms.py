"""The steps of experiments.benchmarks.suites.meta_step as they are written in PyTorch.

MAML has several forms. learn2learn's own classes, MAML and MetaSGD, are used as in its examples.
Its form by hand loops over tasks and inner steps with `torch.autograd.grad`: this is what its
classes compute without their copies of modules, and needs PyTorch alone. One form uses
`torch.func`, in a loop over tasks or under its vmap. One uses TorchOpt's differentiable optimizer.
Prototypical networks loop over tasks.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.func import grad_and_value, vmap
from torch.nn import functional

from experiments.benchmarks.elsewhere import elsewhere
from experiments.benchmarks.packages import without_packages
from metakit.types import Episode

Weights = list[torch.Tensor]
Data = tuple[torch.Tensor, ...]
Value = tuple[torch.Tensor, Sequence[torch.Tensor]]  # the mean loss over tasks, and its gradient


class Sizes(NamedTuple):
  """The sizes of the network and of the inner loop."""

  steps: int
  rate: float
  depth: int


def forms_beside(
  episodes: Episode, weights: Sequence[np.ndarray], sizes: Sizes, *, packages: Sequence[str]
) -> list[tuple[str, Callable[[], Any], tuple[float, list[np.ndarray]]]]:
  """Returns name, call, and loss and gradient of each form, on the same tasks and weights.

  Args:
    episodes: tasks [tasks, examples, ...].
    weights: kernel, scale and bias of each block, then kernel and bias, in the layout of JAX. The
      gradients have the same layout. Those of rates follow, where there are any.
    sizes: sizes of the network and the inner loop.
    packages: which of torchopt and learn2learn are installed.
  """
  images = lambda x: np.moveaxis(np.asarray(x), -1, 2)
  labels = lambda y: np.asarray(y, np.int64)
  parts = episodes.support, episodes.query
  data = tuple(array for part in parts for array in (images(part.x), labels(part.y)))
  calls = elsewhere(forms, data, [_turned(each) for each in weights], sizes, list(packages))

  def value(call: Callable[..., Any]) -> tuple[float, list[np.ndarray]]:
    loss, gradient = call(show=True)
    return float(loss), [_turned(each, back=True) for each in gradient]

  return [(name, call, value(call)) for name, call in calls.items()]


def _turned(weight: np.ndarray, back: bool = False) -> np.ndarray:
  """Turns a weight of JAX into PyTorch's order of axes, or back."""
  axes = {4: (2, 3, 1, 0) if back else (3, 2, 0, 1), 2: (1, 0)}.get(weight.ndim, (0,))
  return np.ascontiguousarray(np.transpose(weight, axes))


def forms(
  data: tuple[np.ndarray, ...],
  weights: Sequence[np.ndarray],
  sizes: Sizes,
  packages: Sequence[str],
) -> Mapping[str, Callable[[], Value]]:
  """Returns the forms that are installed; weights and gradients are in the layout of PyTorch."""
  tensors = tuple(map(torch.from_numpy, data))
  params = [torch.from_numpy(each).requires_grad_() for each in weights]
  made: dict[str, Callable[[], Value]] = {
    'PyTorch, learn2learn form': partial(_by_autograd, tensors, params, sizes),
    'PyTorch, torch.func, a loop over tasks': _by_func(tensors, params, sizes, at_once=False),
    'PyTorch, torch.func, vmap over tasks': _by_func(tensors, params, sizes, at_once=True),
    'PyTorch, prototypical networks': partial(_by_distances, tensors, params, sizes),
  }
  if 'torchopt' in packages:
    made['TorchOpt, MetaSGD'] = _by_torchopt(tensors, params, sizes)
  if 'learn2learn' in packages:
    of_maml = partial(_by_maml_class, tensors, params, sizes)
    made['learn2learn, MAML'] = of_maml(first_order=False)
    made['learn2learn, MAML, first order'] = of_maml(first_order=True)
    made['learn2learn, Meta-SGD'] = _by_meta_sgd_class(tensors, params, sizes)
  return made


def _by_autograd(data: Data, params: Weights, sizes: Sizes) -> Value:
  loss = lambda weights, x, y: functional.cross_entropy(_network(weights, x, sizes.depth), y)
  total: Any = 0
  for x, y, query_x, query_y in zip(*data, strict=True):
    weights = params
    for _ in range(sizes.steps):
      slopes = torch.autograd.grad(loss(weights, x, y), weights, create_graph=True)
      weights = [w - sizes.rate * g for w, g in zip(weights, slopes, strict=True)]
    total = total + loss(weights, query_x, query_y) / len(data[0])
  return total, torch.autograd.grad(total, params)


def _by_func(data: Data, params: Weights, sizes: Sizes, *, at_once: bool) -> Callable[[], Value]:
  """MAML by torch.func, under its vmap or in a loop over tasks."""
  norm = _written_norm if at_once else _library_norm

  def loss(weights: Weights, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(_network(weights, x, sizes.depth, norm), y)

  def outer(weights: Weights, task: Data) -> torch.Tensor:
    x, y, query_x, query_y = task
    for _ in range(sizes.steps):
      slopes, _ = grad_and_value(loss)(weights, x, y)
      weights = [w - sizes.rate * g for w, g in zip(weights, slopes, strict=True)]
    return loss(weights, query_x, query_y)

  one_by_one = lambda weights: (
    sum(outer(weights, task) for task in zip(*data, strict=True)) / len(data[0])
  )
  together = lambda weights: vmap(outer, (None, 0))(weights, data).mean()
  both = grad_and_value(together if at_once else one_by_one)
  return lambda: both(params)[::-1]


def _by_distances(data: Data, params: Weights, sizes: Sizes) -> Value:
  """Snell et al. 2017: queries by squared distance to class means; the last layer is unused."""
  total: Any = 0
  for x, y, query_x, query_y in zip(*data, strict=True):
    features = _features(params, torch.cat([x, query_x]), sizes.depth)
    support, query = features[: len(x)], features[len(x) :]
    means = torch.stack([support[y == label].mean(0) for label in y.unique()])
    loss = functional.cross_entropy(-(torch.cdist(query, means) ** 2), query_y)
    total = total + loss / len(data[0])
  return total, torch.autograd.grad(total, params[:-2])


class _Network(torch.nn.Module):
  """The network as TorchOpt and learn2learn want it: a module whose weights they replace."""

  def __init__(self, weights: Weights, depth: int):
    super().__init__()
    self.depth, self.number = depth, len(weights)
    for i, weight in enumerate(weights):
      self.register_parameter(f'w{i}', torch.nn.Parameter(weight.detach().clone()))

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    return _network([getattr(self, f'w{i}') for i in range(self.number)], x, self.depth)


def _by_torchopt(data: Data, params: Weights, sizes: Sizes) -> Callable[[], Value]:
  """As in TorchOpt's own example of MAML: its differentiable optimizer, reset after each task."""
  import torchopt

  network = _Network(params, sizes.depth)
  inner = torchopt.MetaSGD(network, lr=sizes.rate)
  leaves, tasks = list(network.parameters()), len(data[0])
  parts: tuple[Any, Any] = (network, inner)
  started = [torchopt.extract_state_dict(each, by='reference') for each in parts]
  loss = lambda x, y: functional.cross_entropy(network(x), y)

  def value() -> Value:
    total: Any = 0
    for x, y, query_x, query_y in zip(*data, strict=True):
      for _ in range(sizes.steps):
        inner.step(loss(x, y))
      total = total + loss(query_x, query_y) / tasks
      for each, state in zip(parts, started, strict=True):
        torchopt.recover_state_dict(each, state)
    return total, torch.autograd.grad(total, leaves)

  return value


def _by_maml_class(
  data: Data, params: Weights, sizes: Sizes, *, first_order: bool
) -> Callable[[], Value]:
  """MAML by learn2learn's class."""
  made = without_packages('learn2learn.algorithms.maml').MAML
  learner = made(_Network(params, sizes.depth), lr=sizes.rate, first_order=first_order)
  return _by_learn2learn(data, learner, list(learner.parameters()), sizes.steps)


def _by_meta_sgd_class(data: Data, params: Weights, sizes: Sizes) -> Callable[[], Value]:
  """Meta-SGD by learn2learn's class; the gradient is that of the weights, then of the rates."""
  # It keeps slopes in the `grad` of tensors that are not leaves, which PyTorch warns about.
  warnings.filterwarnings('ignore', 'The .grad attribute of a Tensor that is not a leaf')
  made = without_packages('learn2learn.algorithms.meta_sgd').MetaSGD
  learner = made(_Network(params, sizes.depth), lr=sizes.rate)
  leaves = [*learner.module.parameters(), *learner.lrs]
  return _by_learn2learn(data, learner, leaves, sizes.steps)


def _by_learn2learn(data: Data, learner: Any, leaves: Weights, steps: int) -> Callable[[], Value]:
  """As in learn2learn's own examples: a clone for each task, and backward() after each."""

  def value() -> Value:
    total: Any = 0
    for leaf in leaves:
      leaf.grad = None
    for x, y, query_x, query_y in zip(*data, strict=True):
      clone = learner.clone()
      for _ in range(steps):
        clone.adapt(functional.cross_entropy(clone(x), y))
      loss = functional.cross_entropy(clone(query_x), query_y) / len(data[0])
      loss.backward()
      total = total + loss.detach()
    return total, [leaf.grad for leaf in leaves]

  return value


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
  return x.movedim(1, -1).flatten(1)  # channels last, as in JAX
