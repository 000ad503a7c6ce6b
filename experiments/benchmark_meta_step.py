"""A meta-gradient step of MAML, beside the obvious JAX implementation and the forms of PyTorch.

Conv4 with 64 filters, images of 28x28, 5-way 1-shot, 15 queries a class, 5 inner steps, 4 tasks,
float32. The obvious implementation is flax's convolution under vmap: with a kernel for each task it
becomes a grouped convolution. PyTorch is timed where it is installed.
"""

import importlib.util
from collections.abc import Callable

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


def cases() -> list[Case]:
  """Returns the cases; each is compared with metakit's second order."""
  rng = np.random.default_rng(0)
  images = lambda number: rng.normal(size=(TASKS, number, 28, 28, 1)).astype(np.float32)
  labels = lambda number: np.tile(np.arange(WAYS, dtype=np.int32), (TASKS, number // WAYS))
  draw = lambda number: Examples(images(number), labels(number))
  episodes = jax.tree.map(jnp.asarray, Episode(draw(WAYS), draw(WAYS * QUERIES), {}))
  ours = conv4(WAYS, WIDTH, DEPTH)
  made = [_case(name, ours, mode(), episodes, None) for name, mode in MODES.items()]
  plain = from_linen(Plain(), None)
  made.append(_case('grouped convolutions', plain, meta_gradient.unroll(), episodes, TASKS))
  if importlib.util.find_spec('torch') is not None:
    from experiments import benchmark_torch

    sizes = benchmark_torch.Sizes(STEPS, RATE, WIDTH, DEPTH)
    made += benchmark_torch.cases(episodes, sizes, OURS)
  return made


def _case(
  name: str, model: Model, mode: meta_gradient.Mode, episodes: Episode, at_once: int | None
) -> Case:
  learner = maml(model, optax.sgd(RATE), STEPS, mode=mode)
  optimizer = optax.sgd(1.0)
  state = init_state(
    learner, optimizer, jax.random.key(0), lambda key: jax.tree.map(lambda a: a[0], episodes)
  )
  step = make_train_step(learner, optimizer, tasks_at_once=at_once)
  keys = jax.random.split(jax.random.key(1), TASKS)
  return compiled_case(name, step, (state, keys, episodes), baseline='' if name == OURS else OURS)
