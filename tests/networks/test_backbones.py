"""Every backbone: shapes, parameter counts, and gradients that a compiler may silently spoil."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metakit.components.learners import NETWORK_SUPPLIED, NETWORKS
from metakit.components.specs import build, parse
from metakit.learners.descent import Descent
from metakit.learners.maml import maml
from metakit.models import Model
from metakit.networks.conv4 import conv4
from metakit.networks.mlp import mlp
from metakit.networks.normalisation import NORMS
from metakit.networks.recurrent import recurrent
from metakit.networks.resnet12 import resnet12
from metakit.networks.transformer import transformer
from metakit.types import Episode, Examples
from tests.learners.judged import operation_by_operation

KEY = jax.random.key(0)
IMAGES, VECTORS = (8, 8, 1), (5,)


def causal(model):
  """A sequence model as a model of x alone."""
  nothing = np.zeros(0, np.int32)
  apply = lambda params, x, weight=None: model.apply(params, x, x[:0], nothing).outputs
  return Model(model.init, apply)


# Batch norm may be computed with the convolution and the pooling; other ways to normalise are not.
HALVED = dict.fromkeys(NORMS, ('pool',)) | {'batch': ('pool', 'stride'), 'layer': ('stride',)}
# name: (() -> Model, input shape of an example). A new backbone joins by adding a row.
BACKBONES = {
  f'conv4:{downsample},{norm}': (
    functools.partial(conv4, None, 16, 2, downsample=downsample, norm=norm),
    IMAGES,
  )
  for norm, ways in HALVED.items()
  for downsample in ways
} | {
  'mlp': (lambda: mlp(3, width=8), VECTORS),
  'resnet12': (lambda: resnet12(width=16), IMAGES),
  'recurrent': (lambda: causal(recurrent(3, width=8)), VECTORS),
  'transformer': (lambda: causal(transformer(3, width=8, depth=1, heads=2)), VECTORS),
}


def tasks(name, num_tasks=2, examples=6):
  """A model, and for each task its own parameters, inputs and wanted outputs."""
  make, shape = BACKBONES[name]
  model, rng = make(), np.random.default_rng(0)
  x = rng.normal(size=(num_tasks, examples, *shape)).astype(np.float32)
  shapes = jax.eval_shape(model.init, KEY, x[0])
  draw = lambda leaf: rng.normal(size=(num_tasks, *leaf.shape)).astype(leaf.dtype)
  scale = lambda leaf: max(1, int(np.prod(leaf.shape[:-1]))) ** -0.5
  params = jax.tree.map(lambda leaf: scale(leaf) * draw(leaf) + (leaf.ndim == 1), shapes)
  target = draw(jax.eval_shape(model.apply, shapes, x[0]))
  return model, params, x, target


def assert_close(ours, theirs, tolerance):
  """Equal up to `tolerance` of each array's largest entry, or of 1% of the largest of all."""
  leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(theirs)]
  floor = 1e-2 * max(np.abs(leaf).max() for leaf in leaves)
  for a, b in zip(jax.tree.leaves(ours), leaves, strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(floor, np.abs(b).max()))


def assert_tasks_together_have_their_gradients(name, one_by_one):
  """Compares gradients under jit and vmap with those that `one_by_one` makes of a loss."""
  model, *batch = tasks(name)

  def loss(params, x, target):
    return jnp.square(model.apply(params, x) - target).mean()

  grad = jax.value_and_grad(loss)
  together, one = jax.jit(jax.vmap(grad))(*batch), one_by_one(grad)
  for task in range(2):
    alone = one(*jax.tree.map(lambda leaf: jnp.asarray(leaf[task]), batch))  # noqa: B023
    assert_close(jax.tree.map(lambda leaf: leaf[task], together), alone, 1e-4)  # noqa: B023


def without_jit(grad):
  def one(*given):
    with operation_by_operation():
      return grad(*given)

  return one


def test_vmapped_gradients_are_those_of_one_task():
  assert_tasks_together_have_their_gradients('conv4:pool,batch', jax.jit)


# Slow, since hundreds of programs are compiled; tests/learners/test_laws.py asks the same of
# learners with an mlp.
OPTIMISED = ('conv4:pool,batch', 'mlp')


@pytest.mark.slow
@pytest.mark.parametrize(
  'name',
  [pytest.param(name, marks=[pytest.mark.compiler] * (name in OPTIMISED)) for name in BACKBONES],
)
def test_jitted_vmapped_gradients_are_those_of_a_plain_loop(name, monkeypatch):
  """Per-task weights under vmap and jit once gave right outputs and wrong gradients, silently."""
  resnet12_file = importlib.import_module('metakit.networks.resnet12')
  monkeypatch.setattr(resnet12_file, 'WIDTHS', (1.0, 1.0))  # two blocks of the four, for speed
  assert_tasks_together_have_their_gradients(name, without_jit)


def count(model, *shape):
  params = jax.eval_shape(model.init, KEY, np.zeros(shape, np.uint8))['params']
  return sum(leaf.size for leaf in jax.tree.leaves(params))


def test_parameter_counts_are_the_known_ones():
  first, other, norm = 3 * 3 * 1 * 64, 3 * 3 * 64 * 64, 2 * 64
  assert count(conv4(), 1, 28, 28, 1) == first + 3 * other + 4 * norm == 111_680
  assert count(conv4(norm='none'), 1, 28, 28, 1) == first + 3 * other + 4 * 64
  assert count(conv4(5), 1, 28, 28, 1) == 111_680 + (1 * 1 * 64 + 1) * 5
  assert count(conv4(), 1, 84, 84, 3) == 112_832
  assert count(resnet12(), 1, 84, 84, 3) == 12_424_320  # Lee et al. 2019's code
  each = 3 * 64 + 4 * 64 * 2 + 27 * 64 + 2 * 9 * 64 * 64  # shortcut, norms, three convolutions
  for old, new in ((64, 128), (128, 256), (256, 512)):
    each += old * new + 4 * new * 2 + 9 * old * new + 2 * 9 * new * new
  assert count(resnet12(width='64-128-256-512'), 1, 32, 32, 3) == each
  wide = 27 * 96 + 9 * (96 * 192 + 192 * 384 + 384 * 512) + 2 * (96 + 192 + 384 + 512)
  assert count(conv4(width='96-192-384-512'), 1, 32, 32, 3) == wide
  assert count(mlp(1), 1, 1) == (1 + 1) * 40 + (40 + 1) * 40 + (40 + 1) * 1


def features(model, *shape, dtype=np.uint8):
  key, x = KEY, jax.ShapeDtypeStruct(shape, dtype)
  return jax.eval_shape(lambda x: model.apply(model.init(key, x), x), x)


def test_shapes():
  assert features(conv4(), 2, 28, 28, 1).shape == (2, 64)  # 28 -> 14 -> 7 -> 3 -> 1
  assert features(conv4(), 2, 84, 84, 3).shape == (2, 5 * 5 * 64)
  assert features(conv4(width='96-192-384-512'), 2, 32, 32, 3).shape == (2, 2 * 2 * 512)
  assert features(conv4(width=[96, 192], depth=2), 2, 8, 8, 3).shape == (2, 2 * 2 * 192)
  assert features(resnet12(width='64-128-256-512', drop=0.1), 2, 32, 32, 3).shape == (2, 512)
  assert features(conv4(downsample='stride'), 2, 28, 28, 1).shape == (2, 64)
  assert features(conv4(5, width=3, depth=2), 2, 9, 12, 2).shape == (2, 5)
  assert features(resnet12(), 2, 84, 84, 3).shape == (2, 640)
  assert features(resnet12(7, width=2, norm='layer'), 2, 17, 16, 1).shape == (2, 7)
  assert features(mlp(None, width=6), 2, 4, 4, 1).shape == (2, 6)
  assert features(mlp(None, depth=0), 2, 4, 4, 1).shape == (2, 16)
  assert features(conv4(), 2, 28, 28, 1).dtype == jnp.float32


def test_a_spec_names_the_width_of_each_block():
  made = parse('network', NETWORKS, 'conv4:width=8-16,depth=2', supplied=NETWORK_SUPPLIED)
  assert features(build(made, num_outputs=None), 2, 8, 8, 3).shape == (2, 2 * 2 * 16)


def test_uint8_is_float_over_255_and_other_integers_are_floats():
  model = conv4(2, width=4, depth=1)
  x = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 1), np.uint8)
  rng, shapes = np.random.default_rng(1), jax.eval_shape(model.init, KEY, x)
  params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype), shapes)
  apply = jax.jit(model.apply)
  outputs = lambda x: np.asarray(apply(params, x))
  np.testing.assert_allclose(outputs(x), outputs((x / 255).astype(np.float32)), atol=1e-5)
  np.testing.assert_array_equal(outputs(x.astype(np.int32)), outputs(x.astype(np.float32)))
  assert np.abs(outputs(x.astype(np.int32))).max() > 1e-3


@pytest.mark.parametrize('dtype', [np.uint8, np.int32, np.int8, np.bool_])
@pytest.mark.parametrize('make', [lambda: mlp(2, 4), lambda: resnet12(2, 2)])
def test_no_network_computes_in_integers(make, dtype):
  assert features(make(), 2, 16, 16, 1, dtype=dtype).dtype == jnp.float32


@pytest.mark.compiler
@pytest.mark.slow
def test_meta_gradients_survive_the_compiler():
  """Two steps of MAML, for which a max-pool written as a `max` gives a gradient 68% off.

  These sizes provoke that fault (jax 0.10.2, CPU); smaller ones do not.
  """
  learner = maml(conv4(5, width=16, depth=3), Descent(optax.sgd(0.4), 2))
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 2, 5, 28, 28, 1)).astype(np.float32)  # [parts, tasks, examples, ...]
  y = np.tile(np.arange(5), (2, 2, 1))
  episodes = Episode(*(Examples(*part) for part in zip(x, y, strict=True)))
  params = jax.jit(learner.init)(KEY, jax.tree.map(lambda a: a[0], episodes))
  grad = jax.grad(lambda p, e: learner.loss(KEY, p, e)[0])
  together = jax.jit(jax.vmap(grad, (None, 0)))(params, episodes)
  with operation_by_operation():
    alone = grad(params, jax.tree.map(lambda a: jnp.asarray(a[0]), episodes))
  assert_close(jax.tree.map(lambda a: a[0], together), alone, 1e-3)


@pytest.mark.parametrize(
  ('make', 'said'),
  [
    (lambda: conv4(norm='instance'), "norm='instance'.*batch, group, layer, none"),
    (lambda: conv4(downsample='max'), "downsample='max'.*'pool' or 'stride'"),
    (lambda: conv4(width=0), 'width=0'),
    (lambda: conv4(depth=0), 'depth=0'),
    (lambda: conv4(width='64-'), "width=64- must.*'64-160-320-640'"),
    (lambda: conv4(width='64-64', depth=3), 'width=64-64 is of 2 blocks.* has 3'),
    (lambda: resnet12(norm='instance'), "norm='instance'"),
    (lambda: resnet12(width=0), 'width=0'),
    (lambda: resnet12(width=(64, -1, 64, 64)), 'must be positive'),
    (lambda: resnet12(drop=1.0), r'drop=1\.0'),
    (lambda: resnet12(block=0), 'block=0'),
    (lambda: mlp(width=0), 'width=0'),
    (lambda: mlp(depth=-1), 'depth=-1'),
    (lambda: transformer(2, width=0), 'width=0'),
    (lambda: transformer(2, depth=0), 'depth=0'),
    (lambda: transformer(0), 'num_outputs=0'),
    (lambda: transformer(2, hidden=0), 'hidden=0'),
    (lambda: transformer(2, width=10, heads=4), 'heads=4 does not divide width=10'),
    (lambda: features(conv4(), 2, 8, 8, 1), '1x1 positions.*larger images'),
    (lambda: features(resnet12(width=2), 2, 8, 8, 1), '1x1 positions.*larger images'),
  ],
)
def test_what_cannot_work_is_refused_by_name(make, said):
  with pytest.raises(ValueError, match=said):
    make()


def test_residual_blocks_are_their_formula():
  """Three convolutions beside one of a single pixel, leaky ReLU of slope 0.1 and 2x2 pooling."""
  model, rng = resnet12(width=2, norm='none'), np.random.default_rng(0)
  x = rng.normal(size=(1, 16, 16, 1)).astype(np.float32)
  shapes = jax.eval_shape(model.init, KEY, x)
  params = jax.tree.map(lambda leaf: 0.5 * rng.normal(size=leaf.shape).astype(np.float32), shapes)
  dimensions = {'dimension_numbers': ('NHWC', 'HWIO', 'NHWC')}
  conv = lambda y, kernel: jax.lax.conv_general_dilated(y, kernel, (1, 1), 'SAME', **dimensions)

  def block(y, shortcut, first, second, third):
    leaky = lambda y: jnp.where(y > 0, y, 0.1 * y)
    inner = leaky(conv(leaky(conv(y, first)), second))
    y = leaky(conv(inner, third) + conv(y, shortcut))
    return jnp.max(jnp.stack([y[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]), 0)

  @jax.jit
  def both(params, x):
    kernels = [params['params'][f'Convolution_{i}']['kernel'] for i in range(16)]
    y = functools.reduce(lambda y, i: block(y, *kernels[i : i + 4]), range(0, 16, 4), x)
    return model.apply(params, x), y.mean((1, 2))

  ours, formula = both(params, x)
  np.testing.assert_allclose(ours, formula, rtol=1e-4, atol=1e-4 * np.abs(formula).max())
