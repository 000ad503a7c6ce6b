"""A meta-gradient step, beside the obvious JAX implementation and the forms of PyTorch.

Conv4 with 64 filters, images of 28x28, 5-way 1-shot, 15 queries a class, 5 inner steps, 4 tasks,
float32: MAML in every mode of the engine, and prototypical networks. The obvious implementation is
flax's convolution under vmap: with a kernel for each task it becomes a grouped convolution.
PyTorch, TorchOpt and learn2learn's classes are timed where they are installed
(experiments/benchmarks/packages.py says how one gets them): losses and gradients are compared
first. metakit's tasks are spread over the devices that there are (`--cpu_devices=2` makes two of a
CPU). Steps of in-context learners are a suite of their own.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax.sharding import NamedSharding, PartitionSpec

from experiments.benchmarks.packages import installed
from experiments.benchmarks.suite import AT_LEAST, AT_MOST, FASTER, LONGER, Aim, Suite
from experiments.benchmarks.timing import Case, compiled_case
from metakit import meta_gradient
from metakit.devices import AXIS, task_mesh
from metakit.learners.descent import Descent
from metakit.learners.imaml import imaml
from metakit.learners.maml import maml
from metakit.learners.meta_sgd import meta_sgd
from metakit.learners.prototypical import prototypical
from metakit.models import Model, from_linen
from metakit.networks.conv4 import conv4
from metakit.networks.normalisation import Norm
from metakit.train import TrainState, TrainStep, init_state_for, make_train_step
from metakit.types import Episode, Examples, Key, MetaLearner

WAYS, QUERIES, TASKS, STEPS, RATE, WIDTH, DEPTH = 5, 15, 4, 5, 0.4, 64, 4
# Share of the norm that gradients may differ by. Rounding may move a ReLU or a maximum, here and
# there, to another side.
CLOSE = 5e-3
OURS, FIRST_ORDER, PROTOTYPICAL = 'second order', 'first order', 'prototypical networks'
EXACT: dict[str, Callable[[], meta_gradient.Mode]] = {
  'second order, remat': meta_gradient.remat,
  'second order, mixed': meta_gradient.mixed,
}
APPROXIMATE: dict[str, Callable[[], meta_gradient.Mode]] = {
  FIRST_ORDER: meta_gradient.first_order,
  'truncated to the last step': partial(meta_gradient.truncated, 1),
  'evolution, one antithetic pair': partial(meta_gradient.evolution, pairs=1),
}
IMPLICIT, ONE_DEVICE = 'iMAML, implicit', 'second order, one device'
META_SGD = 'Meta-SGD'


class Plain(nn.Module):
  """Conv4 made of flax's convolution and pooling."""

  @nn.compact
  def __call__(self, x: jax.Array, weight: jax.Array | None = None) -> jax.Array:
    for _ in range(DEPTH):
      x = Norm()(nn.Conv(WIDTH, (3, 3), use_bias=False)(x), weight)
      x = nn.max_pool(nn.relu(x), (2, 2), (2, 2))
    return nn.Dense(WAYS)(x.reshape(len(x), -1))


# Kernel, scale and bias of each block, then kernel and bias of the last layer; rates after them.
Weights = list[np.ndarray]
Value = tuple[float, Weights]  # the mean loss of the tasks, and its gradient


def cases() -> list[Case]:
  """Returns the cases; each is compared with metakit's of the same gradient, or second order.

  Raises:
    AssertionError: if two forms of one step have other losses or gradients.
  """
  episodes, network, plain = _episodes(), conv4(WAYS, WIDTH, DEPTH), from_linen(Plain(), None)
  init = lambda model: model.init(jax.random.key(0), episodes.support.x[0])
  params = init(network)
  inner = optax.sgd(RATE)
  by_mode = lambda mode: maml(network, Descent(inner, STEPS, mode=mode()))
  of_maml = lambda name, mode: _case(name, by_mode(mode), params, episodes)
  second_order = of_maml(OURS, meta_gradient.unroll)
  exact = [of_maml(*each) for each in EXACT.items()]
  approximate = [of_maml(*each) for each in APPROXIMATE.items()]
  with_rates = _of_meta_sgd(network, params, episodes)
  by_distances = _of_prototypes(params, episodes)
  if len(_devices()) > 1:
    exact += [_case(ONE_DEVICE, by_mode(meta_gradient.unroll), params, episodes, one_device=True)]
  implicit = _case(IMPLICIT, imaml(network, Descent(inner, STEPS)), params, episodes)
  same = _with_weights(init(plain), weights_of(params))
  grouped = maml(plain, Descent(inner, STEPS, mode=meta_gradient.unroll()))
  obvious = _case('grouped convolutions', grouped, same, episodes, at_once=TASKS, peer=True)
  others = _of_pytorch(episodes, weights_of(params))
  first = second_order, *approximate, with_rates, by_distances
  expected = {case.name: value for case, value in first}
  for case, value in (*exact, obvious, *others):
    check_value(case.name, value, expected[case.baseline])
  all_cases = second_order, *exact, *approximate, implicit, with_rates, by_distances
  return [case for case, _ in (*all_cases, obvious, *others)]


def _of_meta_sgd(network: Model, params: Any, episodes: Episode) -> tuple[Case, Value]:
  descent = Descent(steps=STEPS, mode=meta_gradient.unroll())
  learner = meta_sgd(network, descent, initial_rate=RATE)
  rates = jax.tree.map(lambda leaf: jnp.full_like(leaf, RATE), params)
  return _case(META_SGD, learner, {'start': params, 'rates': rates}, episodes)


def _of_prototypes(params: Any, episodes: Episode) -> tuple[Case, Value]:
  """Returns prototypical networks with the weights of the network, but its last layer."""
  learner = prototypical(conv4(None, WIDTH, DEPTH), WAYS)
  started = learner.init(jax.random.key(0), jax.tree.map(lambda leaf: leaf[0], episodes))
  started['body']['params'] = {k: params['params'][k] for k in started['body']['params']}
  return _case(PROTOTYPICAL, learner, started, episodes)


def _episodes() -> Episode:
  rng = np.random.default_rng(0)
  images = lambda number: rng.normal(size=(TASKS, number, 28, 28, 1)).astype(np.float32)
  labels = lambda number: np.tile(np.arange(WAYS, dtype=np.int32), (TASKS, number // WAYS))
  draw = lambda number: Examples(images(number), labels(number))
  return jax.tree.map(jnp.asarray, Episode(draw(WAYS), draw(WAYS * QUERIES), {}))


def _of_pytorch(episodes: Episode, weights: Weights) -> list[tuple[Case, Value]]:
  """Returns PyTorch's forms, each compared with ours of the same gradient; none without PyTorch."""
  if not installed('torch'):
    return []
  from experiments.benchmarks import torch_forms

  def baseline(name: str) -> str:
    same = FIRST_ORDER, PROTOTYPICAL, META_SGD
    return next((form for form in same if form in name), OURS)

  packages = [name for name in ('torchopt', 'learn2learn') if installed(name)]
  sizes = torch_forms.Sizes(STEPS, RATE, DEPTH)
  forms = torch_forms.forms_beside(episodes, weights, sizes, packages=packages)
  return [
    (Case(name, call, baseline=baseline(name), peer=True), value) for name, call, value in forms
  ]


def weights_of(params: Any) -> Weights:
  """Lists the weights of Conv4, ours or the plain one, with or without a last layer or rates."""
  if 'rates' in params:
    return weights_of(params['start']) + weights_of(params['rates'])
  modules = params.get('body', params)['params']
  leaves = []
  for i in range(DEPTH):
    convolution = modules.get(f'Convolution_{i}') or modules[f'Conv_{i}']
    norm = modules[f'Norm_{i}']['BatchNorm_0']
    leaves += [convolution['kernel'], norm['scale'], norm['bias']]
  last = modules.get('Dense_0')
  leaves += [last['kernel'], last['bias']] if last else []
  return [np.asarray(leaf) for leaf in leaves]


def _with_weights(params: Any, weights: Weights) -> Any:
  """Returns parameters of the plain network with given weights."""
  modules = dict(params['params'])
  for i in range(DEPTH):
    kernel, scale, bias = weights[3 * i : 3 * i + 3]
    modules[f'Conv_{i}'] = {'kernel': kernel}
    modules[f'Norm_{i}'] = {'BatchNorm_0': {'scale': scale, 'bias': bias}}
  modules['Dense_0'] = dict(zip(('kernel', 'bias'), weights[-2:], strict=True))
  return jax.tree.map(jnp.asarray, {**params, 'params': modules})


def check_value(name: str, actual: Value, expected: Value) -> None:
  """Raises an AssertionError unless two losses and their gradients differ by rounding alone."""
  (loss, gradient), (known, other) = actual, expected
  if not abs(loss - known) < CLOSE * abs(known):
    raise AssertionError(f'{name}: the loss is {loss:.6g}, not {known:.6g}')
  check_gradient(name, gradient, other)


def check_gradient(name: str, actual: Weights, expected: Weights) -> None:
  """Raises an AssertionError unless two gradients differ by rounding alone."""
  for i, (a, b) in enumerate(zip(actual, expected, strict=True)):
    apart = np.linalg.norm(a - b) / np.linalg.norm(b)
    if not apart < CLOSE:
      raise AssertionError(f'{name}: weight {i} has another gradient, by {apart:.2g} of its norm')


def _case(
  name: str,
  learner: MetaLearner,
  params: Any,
  episodes: Episode,
  at_once: int | None = None,
  peer: bool = False,
  one_device: bool = False,
) -> tuple[Case, Value]:
  """Returns a case, and the loss and the gradient that it computes."""
  optimizer = optax.sgd(1.0)
  first = jax.tree.map(lambda a: a[0], episodes)
  state = init_state_for(learner, optimizer, jax.random.key(0), first)
  state = state._replace(params=params)
  devices = _devices()[:1] if peer or one_device else _devices()
  keys = jax.random.split(jax.random.key(1), TASKS)
  step = make_train_step(learner, optimizer, AXIS, tasks_at_once=at_once)
  shared, arguments = _over(devices, step, (state, keys, episodes))
  baseline = '' if name == OURS else OURS
  case = compiled_case(name, shared, arguments, baseline=baseline, peer=peer)
  assert case.call is not None
  after, metrics = case.call()
  gradient = jax.tree.map(jnp.subtract, state.params, jax.device_get(after.params))
  return case, (float(metrics['loss']), weights_of(gradient))


def _devices() -> list[jax.Device]:
  """Returns those that share the tasks: no more than there are tasks."""
  return jax.devices()[:TASKS]


def _over(
  devices: list[jax.Device], step: TrainStep, arguments: tuple[TrainState, Key, Episode]
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
  """Returns a step whose tasks devices share, as in `make_dispatch`, and its arguments there."""
  mesh, same, split = task_mesh(devices), PartitionSpec(), PartitionSpec(AXIS)
  specs = same, split, split
  put = lambda tree, spec: jax.device_put(tree, NamedSharding(mesh, spec))
  options: dict[str, Any] = {'mesh': mesh, 'in_specs': specs, 'out_specs': same}
  return jax.shard_map(step, check_vma=False, **options), tuple(map(put, arguments, specs))


PYTORCH, LOOP = 'PyTorch, learn2learn form', 'PyTorch, torch.func, a loop over tasks'
AIMS = (
  Aim(OURS, FASTER, 'learn2learn, MAML', AT_LEAST, 2),
  Aim(META_SGD, FASTER, 'learn2learn, Meta-SGD', AT_LEAST, 2),
  Aim(OURS, FASTER, PYTORCH, AT_LEAST, 1.6),
  Aim(OURS, FASTER, LOOP, AT_LEAST, 1.6),
  Aim(OURS, FASTER, 'grouped convolutions', AT_LEAST, 15),
  Aim(OURS, LONGER, FIRST_ORDER, AT_MOST, 1.35),
  Aim(OURS, 'compile_seconds', '', AT_MOST, 15),
)
SUITES = {'meta_step': Suite(cases, AIMS)}
