"""How a Linen module is called as a pure network: its random numbers, its roles, its faults."""

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import errors
from flax import linen as nn

from metakit import roles
from metakit.inputs import shape_of
from metakit.types import Key, Params

OWN = 'params', 'statistics'  # collections of parameters, and of metakit.networks.normalisation
# Arguments of a module that say whether it is being trained, and their value if it is.
TRAINING = {'train': True, 'training': True, 'is_training': True, 'deterministic': False}


def run(
  module: nn.Module, params: Params, inputs: Sequence[Any], *, key: Key | None, **options: Any
) -> Any:
  """Applies a module that may draw: from `key`, as in training, or not at all where it is None.

  Collections beside OWN are constants (frozen statistics): they have no gradient.

  Raises:
    ValueError: if a module draws without a key, or changes a constant.
  """
  held = {
    name: tree if name in OWN else jax.lax.stop_gradient(tree) for name, tree in params.items()
  }
  with _drawing(key is not None), _answered(module):
    return module.apply(held, *inputs, rngs=key, **flags(module, key is not None), **options)


def begin(module: nn.Module, key: Key, inputs: Sequence[Any]) -> Params:
  """Returns the variables of a module.

  Raises:
    ValueError: if there are variables that a call changes, or integers among the constants.
  """
  with _drawing(False):
    variables = module.init(key, *inputs, **flags(module, False))
  others = sorted(set(variables) - set(OWN))
  if not others:
    return variables
  for leaf in jax.tree.leaves([variables[name] for name in others]):
    if not jnp.issubdtype(leaf.dtype, jnp.inexact):
      raise ValueError(
        f'{type(module).__name__} keeps {leaf.dtype} in the variables {others}, which nothing can '
        'be differentiated in; make it an attribute of the module'
      )
  for draws in (None, key):
    jax.eval_shape(lambda params, k=draws: run(module, params, inputs, key=k), variables)
  return variables


def flags(module: nn.Module, training: bool) -> dict[str, Any]:
  """Returns the arguments by which a module is told whether it is being trained."""
  known = inspect.signature(type(module).__call__).parameters
  return {name: value == training for name, value in TRAINING.items() if name in known}


@contextlib.contextmanager
def _drawing(training: bool) -> Iterator[None]:
  """Dropout that its module does not decide about: on in training and off otherwise."""

  def intercept(next_call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext):
    if not isinstance(context.module, nn.Dropout) or context.method_name != '__call__':
      return next_call(*args, **kwargs)
    if not training:
      return args[0] if args else kwargs['inputs']
    said = context.module.deterministic, kwargs.get('deterministic'), *args[1:2]
    undecided = all(value is None for value in said)
    return next_call(*args, **kwargs, **({'deterministic': False} if undecided else {}))

  with nn.intercept_methods(intercept):
    yield


@contextlib.contextmanager
def _answered(module: nn.Module) -> Iterator[None]:
  name = type(module).__name__
  try:
    yield
  except errors.InvalidRngError as error:
    raise ValueError(
      f'{name} draws random numbers where it is asked rather than trained; draw in nn.Dropout, or '
      f'only if an argument of its __call__ ({", ".join(TRAINING)}) says so'
    ) from error
  except errors.ModifyScopeVariableError as error:
    kept = str(error).split('collection "')[-1].split('"')[0]
    raise ValueError(
      f'{name} keeps the variables [{kept!r}], which a pure Model cannot update; use '
      "metakit.networks.normalisation, a norm without state ('group', 'layer'), or frozen ones "
      '(nn.BatchNorm(use_running_average=True))'
    ) from error


@contextlib.contextmanager
def fitting(module: nn.Module, params: Params, inputs: Sequence[Any]) -> Iterator[None]:
  """Answers inputs of other sizes than those that a module was initialised with.

  Raises:
    ValueError: naming the first array that does not fit.
  """
  try:
    yield
  except errors.ScopeParamShapeError as error:
    with _drawing(False):
      make = lambda: module.init(jax.random.key(0), *inputs, **flags(module, False))
      wanted = jax.eval_shape(make)
    leaves = (jax.tree_util.tree_leaves_with_path(tree['params']) for tree in (wanted, params))
    pairs = [(path, new.shape, old.shape) for (path, new), (_, old) in zip(*leaves, strict=True)]
    where, new, old = next(pair for pair in pairs if pair[1] != pair[2])
    raise ValueError(
      f'{type(module).__name__} does not fit inputs of shape {shape_of(inputs[0])}: its '
      f'{jax.tree_util.keystr(where, simple=True, separator="/")} is {old}, and these need {new}; '
      'give inputs of the sizes that it was initialised and trained with'
    ) from error


def roles_of(
  module: nn.Module, norms: Sequence[type[nn.Module]], params: Params, *, inputs: Sequence[Any]
) -> Any:
  """Returns a tree like params of metakit.roles, by the classes of the module's modules.

  Args:
    module: any.
    norms: further classes of normalisation layers.
    params: its variables.
    inputs: inputs of a call, which shows the modules.
  """
  known = (*_normalisations(), *norms)
  norm_paths = set()

  def watch(next_call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext):
    if isinstance(context.module, known):
      norm_paths.add(('params', *context.module.path))
    return next_call(*args, **kwargs)

  with nn.intercept_methods(watch):
    jax.eval_shape(lambda params: run(module, params, inputs, key=None), params)
  return roles.assign(params, norm_paths, lambda path: path[0] != 'params')


def _normalisations() -> tuple[type[nn.Module], ...]:
  from metakit.networks.normalisation import BatchNorm  # which imports modules of this package

  return BatchNorm, nn.BatchNorm, nn.GroupNorm, nn.InstanceNorm, nn.LayerNorm, nn.RMSNorm
