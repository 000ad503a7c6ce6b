"""Trained learners as programs that run without metakit, by jax.export.

metakit.export('mine.safetensors', metakit.load('runs/mine'), ways=5)

docs/serve_exported.py runs such a file. It needs jax, flatbuffers, safetensors and NumPy alone.

The file is of the safetensors format. Any program that reads this format finds in it

- the parameters, by their names, under 'params/';
- 'adapt' and 'predict', two programs of jax.export as bytes:
  adapt(arrays, x, y, weight) -> state, where `arrays` are the parameters by their names in the file
  and `state` is a list of arrays, and predict(state, x) -> outputs;
- a header 'metakit_export', JSON: the fields of Exported, and the card of the learner.

Both programs check the types and shapes of what they are given.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from jax import export as jax_export

from metakit.compiler import FUSIONS
from metakit.densities.density import by_number
from metakit.files import write_bytes
from metakit.keys import fixed_key, learner_key
from metakit.trained.stored import ENDING, named_leaves
from metakit.trained.trained import Trained
from metakit.types import Density, Examples, MetaLearner

FORMAT = 1
HEADER = 'metakit_export'
PARAMS = 'params/'
PLATFORMS = 'cpu', 'cuda', 'tpu'
KNOWN = *PLATFORMS, 'rocm'
MANY = 'any number'  # of examples
State = list[jax.Array]


class Exported(NamedTuple):
  """What the header of an exported learner says.

  Attributes:
    format: version of the format of the file.
    jax: version of JAX that wrote the programs; later ones read them for six months at least.
    platforms: that the programs run on.
    xla_flags: XLA_FLAGS to set before JAX is imported. metakit sets it against a defect of XLA on
      CPUs (metakit/compiler.py).
    x: shape of an example. A picture is height, width and channels.
    dtype: type of the numbers of x; 'uint8' for pictures.
    y: shape of a label, () for the number of a class, from 0, or the shape of a target.
    y_dtype: 'int32', or 'float32' in a regression.
    outputs: how many outputs there are for a query: the logits of the classes, or the numbers of a
      target (the means, if the learner predicts densities).
    support: rows of the support set, or 'any number'. Rows of weight 0 do not count; with them a
      smaller support fills a fixed number, and fewer numbers are compiled.
    queries: rows of x that `predict` takes, or 'any number'.
    together: whether the prediction of a query depends on the others.
    classifies: whether outputs are logits.
    encoding: how numbers were made of texts, rows of a table or targets, see Inputs; None if they
      were numbers to begin with.
    card: what else is known of the learner.
  """

  format: int
  jax: str
  platforms: tuple[str, ...]
  xla_flags: str
  x: tuple[int, ...]
  dtype: str
  y: tuple[int, ...]
  y_dtype: str
  outputs: int
  support: int | str
  queries: int | str
  together: bool
  classifies: bool
  encoding: Mapping[str, Any] | None
  card: Mapping[str, Any]


def export(
  path: str | Path,
  trained: Trained,
  *,
  ways: int | None = None,
  support: int | None = None,
  queries: int | None = None,
  platforms: Sequence[str] = PLATFORMS,
  seed: int = 0,
) -> Exported:
  """Writes `adapt` and `predict` of a trained learner as programs that run without metakit.

  Encodings (of texts, rows of a table, targets) and what metakit.trained.inputs does to pictures
  are not part of it: the programs take numbers of the shape and type that the header says. All
  learners and heads of metakit take any number of examples, except for descents on minibatches
  (`inner_batch`, the head `baseline`) and transformers with learned positions.
  Those compute with the size of the support when they are compiled, and need `support`.

  Args:
    path: the file; its ending is .safetensors.
    trained: the learner.
    ways: classes of a task; as many as in training by default.
    support: rows of the support set; any number by default.
    queries: rows of a call of `predict`; any number by default.
    platforms: that the programs are for: cpu, cuda, tpu, rocm. This needs none of the devices.
    seed: for learners that draw at random.

  Returns:
    The header.

  Raises:
    ValueError: in one line, for another ending, a number of classes that the learner does not
      take, or programs that these numbers or platforms do not allow.
    OSError: if the file cannot be written; an existing one is then unchanged.
    ImportError: without flatbuffers, pip install 'metakit[export]'.

  >>> import metakit, tempfile
  >>> with tempfile.TemporaryDirectory() as folder:
  ...   trained = metakit.load('sinusoid-maml')
  ...   about = export(f'{folder}/it.safetensors', trained, platforms=['cpu'])
  >>> about.x, about.y, about.outputs, about.support
  ((1,), (1,), 1, 'any number')
  """
  path = Path(path).expanduser()
  if path.suffix != ENDING:
    raise ValueError(f'{path} does not end in {ENDING}; name it so')
  if unknown := set(platforms) - set(KNOWN):
    raise ValueError(f'platforms={unknown.pop()} is unknown; use {", ".join(KNOWN)}')
  _check_flatbuffers()
  if ways is not None and not trained.classifies:
    raise ValueError(f'ways={ways}, and this learner predicts numbers; leave it out')
  outputs = ways or trained.outputs
  learner = trained.learner_of(outputs)
  named = named_leaves(trained.params)
  arrays = {f'{PARAMS}{name}': np.asarray(leaf, order='C') for name, leaf in named}
  about = Exported(
    format=FORMAT,
    jax=jax.__version__,
    platforms=tuple(platforms),
    xla_flags=f'{FUSIONS}=-reduce',
    x=trained.inputs.shape,
    dtype=trained.inputs.dtype,
    y=() if trained.classifies else (outputs,),
    y_dtype='int32' if trained.classifies else 'float32',
    outputs=outputs,
    support=support or MANY,
    queries=queries or MANY,
    together=learner.queries_seen,
    classifies=trained.classifies,
    encoding=trained.inputs.encoding,
    card=trained.card,
  )
  functions = _functions(learner, trained.params, outputs, seed=seed, density=trained.density)
  programs = _programs(functions, arrays, about)
  stored = {name: np.frombuffer(each.serialize(), np.uint8) for name, each in programs.items()}
  text = json.dumps(about._asdict(), indent=2)
  write_bytes(path, safetensors.numpy.save({**arrays, **stored}, {HEADER: text}))
  return about


def _check_flatbuffers() -> None:
  try:
    import flatbuffers  # noqa: F401  (JAX writes programs with it)
  except ModuleNotFoundError as error:
    raise ImportError("export needs flatbuffers; pip install 'metakit[export]'") from error


class _Functions(NamedTuple):
  """Functions of flat lists of arrays: (arrays, x, y, weight) -> state, (state, x) -> outputs."""

  adapt: Callable[..., State]
  predict: Callable[..., jax.Array]


def _functions(
  learner: MetaLearner, params: Any, outputs: int, *, seed: int, density: Density | None
) -> _Functions:
  structure, key = jax.tree.structure(params), learner_key(fixed_key(seed), 0)
  names = [f'{PARAMS}{name}' for name, _ in named_leaves(params)]
  of_state: list[Any] = []  # the structure of the state, known when `adapt` was traced

  def adapt(arrays: Mapping[str, Any], x: Any, y: Any, weight: Any) -> State:
    params = jax.tree.unflatten(structure, [arrays[name] for name in names])
    leaves, of_state[:] = _flat(learner.adapt(key, params, Examples(x, y, weight)))
    return leaves

  def predict(state: State, x: Any) -> jax.Array:
    predicted = learner.predict(jax.tree.unflatten(of_state[0], state), x)
    if density is not None:
      predicted = density.mean(by_number(predicted, density.size))
    return predicted[:, :outputs]

  return _Functions(adapt, predict)


def _flat(state: Any) -> tuple[State, list[Any]]:
  leaves, structure = jax.tree.flatten(state)
  return [jnp.asarray(leaf) for leaf in leaves], [structure]


def _programs(
  functions: _Functions, arrays: Mapping[str, np.ndarray], about: Exported
) -> dict[str, jax_export.Exported]:
  scope = jax_export.SymbolicScope()
  rows = lambda name, number: (
    jax_export.symbolic_shape(name, scope=scope)[0] if number == MANY else number
  )
  support, queries = rows('support', about.support), rows('queries', about.queries)
  x = lambda rows: jax.ShapeDtypeStruct((rows, *about.x), about.dtype)
  labels = jax.ShapeDtypeStruct((support, *about.y), about.y_dtype)
  weight = jax.ShapeDtypeStruct((support,), 'float32')
  adapt = _exported(
    functions.adapt, (dict(arrays), x(support), labels, weight), about, fixed='support'
  )
  state = [jax.ShapeDtypeStruct(each.shape, each.dtype) for each in adapt.out_avals]
  fixed = 'queries' if about.queries == MANY else 'support'
  predict = _exported(functions.predict, (state, x(queries)), about, fixed=fixed)
  return {'adapt': adapt, 'predict': predict}


def _exported(
  function: Callable[..., Any], arguments: tuple[Any, ...], about: Exported, *, fixed: str
) -> jax_export.Exported:
  """Exports a function; `fixed` is the argument of `export` that helps if this fails."""
  try:
    return jax_export.export(jax.jit(function), platforms=about.platforms)(*arguments)
  except Exception as error:  # of whatever part of JAX does not know sizes that are not known
    reason = f'{type(error).__name__}: {error}'.partition('\n')[0]
    whom = (
      f'{function.__name__} of this learner cannot be exported for {", ".join(about.platforms)}'
    )
    if getattr(about, fixed) == MANY:
      raise ValueError(
        f'{whom} and any number of examples ({reason}); give {fixed}=, the largest '
        'number that is needed, or fewer platforms'
      ) from error
    raise ValueError(f'{whom} ({reason}); give fewer platforms') from error
