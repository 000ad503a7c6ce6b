"""A meta-gradient step of MAML, beside the obvious JAX implementation and the forms of PyTorch.

Conv4 with 64 filters, images of 28x28, 5-way 1-shot, 15 queries a class, 5 inner steps, 4 tasks,
float32. The obvious implementation is flax's convolution under vmap: with a kernel for each task it
becomes a grouped convolution. PyTorch is timed where it is installed.
"""

import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from experiments.timing import Case, compiled_case
from metakit import meta_gradient
from metakit.learners.maml import maml
from metakit.models import Model, from_linen
from metakit.networks.conv4 import conv4
from metakit.networks.normalisation import Norm
from metakit.train import init_state, make_train_step
from metakit.types import Episode, Examples

WAYS, QUERIES, TASKS, STEPS, RATE, WIDTH, DEPTH = 5, 15, 4, 5, 0.4, 64, 4
CLOSE = 1e-3  # of the largest entry
OURS = 'second order'
MODES: dict[str, Callable[[], meta_gradient.Mode]] = {
  OURS: meta_gradient.unroll,
  'second order, mixed': meta_gradient.mixed,
  'first order': meta_gradient.first_order,
}


class Plain(nn.Module):
  """Conv4 of flax's own convolution and pooling."""

  @nn.compact
  def __call__(self, x: jax.Array, weight: jax.Array | None = None) -> jax.Array:
    for _ in range(DEPTH):
      x = Norm()(nn.Conv(WIDTH, (3, 3), use_bias=False)(x), weight)
      x = nn.max_pool(nn.relu(x), (2, 2), (2, 2))
    return nn.Dense(WAYS)(x.reshape(len(x), -1))


Weights = list[np.ndarray]  # of each block kernel, scale and bias, then kernel and bias


def cases() -> list[Case]:
  """Returns the cases; each is compared with metakit's second order.

  Raises:
    AssertionError: if a form computes another gradient than metakit.
  """
  rng = np.random.default_rng(0)
  images = lambda number: rng.normal(size=(TASKS, number, 28, 28, 1)).astype(np.float32)
  labels = lambda number: np.tile(np.arange(WAYS, dtype=np.int32), (TASKS, number // WAYS))
  draw = lambda number: Examples(images(number), labels(number))
  episodes = jax.tree.map(jnp.asarray, Episode(draw(WAYS), draw(WAYS * QUERIES), {}))
  ours, plain = conv4(WAYS, WIDTH, DEPTH), from_linen(Plain(), None)
  params = ours.init(jax.random.key(0), episodes.support.x[0])
  made = [_case(name, ours, mode(), params, episodes, None) for name, mode in MODES.items()]
  expected = {name: gradient for name, (_, gradient) in zip(MODES, made, strict=True)}
  check_gradient('second order, mixed', made[1][1], expected[OURS])
  same = _with_weights(plain.init(jax.random.key(0), episodes.support.x[0]), weights_of(params))
  made.append(
    _case('grouped convolutions', plain, meta_gradient.unroll(), same, episodes, TASKS, peer=True)
  )
  check_gradient('grouped convolutions', made[-1][1], expected[OURS])
  found = [case for case, _ in made]
  if importlib.util.find_spec('torch') is not None:
    from experiments import benchmark_torch

    sizes = benchmark_torch.Sizes(STEPS, RATE, DEPTH)
    others = benchmark_torch.cases(episodes, weights_of(params), sizes, OURS)
    for case, gradient in others:
      of_first_order = 'first order' in case.name
      check_gradient(case.name, gradient, expected['first order' if of_first_order else OURS])
    found += [case for case, _ in others]
  return found


def weights_of(params: Any) -> Weights:
  """Lists the weights of Conv4, ours or the plain one."""
  own = params['params']
  leaves = []
  for i in range(DEPTH):
    convolution = own.get(f'Convolution_{i}') or own[f'Conv_{i}']
    norm = own[f'Norm_{i}']['BatchNorm_0']
    leaves += [convolution['kernel'], norm['scale'], norm['bias']]
  last = own['Dense_0']
  return [np.asarray(leaf) for leaf in (*leaves, last['kernel'], last['bias'])]


def _with_weights(params: Any, weights: Weights) -> Any:
  """Returns parameters of the plain network with given weights."""
  own = dict(params['params'])
  for i in range(DEPTH):
    kernel, scale, bias = weights[3 * i : 3 * i + 3]
    own[f'Conv_{i}'] = {'kernel': kernel}
    own[f'Norm_{i}'] = {'BatchNorm_0': {'scale': scale, 'bias': bias}}
  own['Dense_0'] = dict(zip(('kernel', 'bias'), weights[-2:], strict=True))
  return jax.tree.map(jnp.asarray, {**params, 'params': own})


def check_gradient(name: str, found: Weights, expected: Weights) -> None:
  """Raises an AssertionError unless two gradients differ by rounding alone."""
  for i, (a, b) in enumerate(zip(found, expected, strict=True)):
    limit = CLOSE * np.abs(b).max()
    np.testing.assert_allclose(a, b, rtol=0, atol=limit, err_msg=f'{name}, weight {i}')


def _case(
  name: str,
  model: Model,
  mode: meta_gradient.Mode,
  params: Any,
  episodes: Episode,
  at_once: int | None,
  peer: bool = False,
) -> tuple[Case, Weights]:
  """Returns a case, and the gradient that it computes."""
  learner, optimizer = maml(model, optax.sgd(RATE), STEPS, mode=mode), optax.sgd(1.0)
  first = lambda key: jax.tree.map(lambda a: a[0], episodes)
  state = init_state(learner, optimizer, jax.random.key(0), first)
  state = state._replace(params=params)
  step = make_train_step(learner, optimizer, tasks_at_once=at_once)
  keys = jax.random.split(jax.random.key(1), TASKS)
  baseline = '' if name == OURS else OURS
  case = compiled_case(name, step, (state, keys, episodes), baseline=baseline, peer=peer)
  assert case.call is not None
  after, _ = case.call()
  gradient = jax.tree.map(jnp.subtract, state.params, after.params)
  return case, weights_of(gradient)
