"""Trained learners as files: .safetensors with what makes the learner again in its header.

The header of such a file holds a text under the key 'metakit': JSON of the parts of the learner,
its inputs, and its card. Any program that reads safetensors reads the arrays, named by their place
in the parameters, such as 'body/conv_0/kernel'.
"""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from metakit import zoo
from metakit.checkpoint import checkpoints
from metakit.evaluation import calibrate
from metakit.files import write_bytes
from metakit.keys import roots
from metakit.trained.inputs import Inputs
from metakit.trained.made_of import MadeOf, is_calibrated, shapes_of_params
from metakit.trained.trained import Trained
from metakit.types import MetaLearner, Sampler
from metakit.workdir import CHECKPOINTS
from metakit.zoo import ENDING, HEADER

FORMAT = 1  # a file of a later format is refused
NAME = f'trained{ENDING}'  # in a workdir, at the end of its training
PARTS = 'learner.json'  # in a workdir, from its first checkpoint on: the header alone


def save(path: str | Path, trained: Trained, *, half: bool = False) -> None:
  """Writes a trained learner to a .safetensors file.

  Args:
    path: the file; its ending is .safetensors.
    trained: the learner. One of a user's own, without `made_of`, is loaded with `learner`.
    half: stores parameters of float32 as float16, in half of the space. They are float32 again once
      they are loaded.

  Raises:
    ValueError: for another ending, or with `half` if a parameter is too large for float16.
    OSError: if it cannot be written; an existing file is then unchanged.

  >>> import tempfile
  >>> with tempfile.TemporaryDirectory() as folder:
  ...   save(f'{folder}/mine.safetensors', load('sinusoid-maml'))
  ...   load(f'{folder}/mine.safetensors').inputs.shape
  (1,)
  """
  path = Path(path).expanduser()
  if path.suffix != ENDING:
    raise ValueError(f'{path} does not end in {ENDING}; name it so')
  arrays = {name: np.asarray(leaf, order='C') for name, leaf in named_leaves(trained.params)}
  if half:
    arrays = {name: _halved(name, array) for name, array in arrays.items()}
  write_bytes(path, safetensors.numpy.save(arrays, {HEADER: header_of(trained)}))


def _halved(name: str, array: np.ndarray) -> np.ndarray:
  if array.dtype != np.float32:
    return array
  if not (np.abs(array) <= np.finfo(np.float16).max).all():
    raise ValueError(f'parameter {name} is too large for float16; use half=False')
  return array.astype(np.float16)


def header_of(trained: Trained) -> str:
  """Returns all that is stored of a trained learner but its parameters, as JSON."""
  parts = trained.made_of
  return json.dumps(
    {
      'format': FORMAT,
      'made_of': parts and {k: v for k, v in parts._asdict().items() if k != 'borders' or v},
      'inputs': trained.inputs._asdict(),
      'outputs': trained.outputs,
      'classifies': trained.classifies,
      'card': dict(trained.card),
    },
    indent=2,
  )


def load(
  where: str | Path,
  *,
  learner: Callable[[int], MetaLearner] | None = None,
  source: Sampler | None = None,
) -> Trained:
  """Loads a trained learner.

  Args:
    where: a workdir; one of its checkpoints, such as runs/mine/checkpoints/500; a .safetensors
      file; or a name of metakit.zoo.names().
    learner: for a learner of one's own, which a file cannot describe: the number of classes (or of
      the numbers of a target) -> the MetaLearner.
    source: training episodes, for a checkpoint of a learner that is calibrated on them: one with
      batch statistics, say. The end of a training needs none.

  Raises:
    ValueError: in one line, if there is nothing of these, the file is damaged or of a later
      version, or it holds parameters of another learner.

  >>> trained = load('sinusoid-maml')
  >>> x = np.linspace(-5, 5, 10)[:, None]
  >>> fitted = trained.adapt(x, 2 * np.sin(x))  # ten points of a curve
  >>> [f'{y:.0f}' for y in fitted.predict([[-np.pi / 2], [np.pi / 2]])[:, 0]]  # its extremes
  ['-2', '2']
  """
  path = Path(where).expanduser()
  if str(where) in zoo.names() and not path.exists():
    return _of_file(zoo.path_of(str(where)), learner)
  if path.is_file():
    return _of_file(path, learner)
  if path.is_dir() and path.parent.name == CHECKPOINTS and path.name.isdecimal():
    return _of_checkpoint(path.parent.parent, learner, source, step=int(path.name))
  if (path / NAME).is_file():
    return _of_file(path / NAME, learner)
  if (path / CHECKPOINTS).is_dir():
    return _of_checkpoint(path, learner, source)
  raise ValueError(
    f'{where} is no workdir of a training, checkpoint or {ENDING} file, and no name of the zoo; '
    f'known names: {", ".join(zoo.names()) or "none"}'
  )


def _of_file(path: Path, learner: Callable[[int], MetaLearner] | None) -> Trained:
  with _damaged(path), safetensors.safe_open(path, 'numpy') as file:
    header = (file.metadata() or {}).get(HEADER)
    arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
  if header is None:
    raise ValueError(f'{path} was not written by metakit: its header has no {HEADER!r}')
  return _trained(path, _read_header(path, header), arrays, learner)


def _of_checkpoint(
  workdir: Path,
  learner: Callable[[int], MetaLearner] | None,
  source: Sampler | None,
  *,
  step: int | None = None,
) -> Trained:
  """Loads the newest checkpoint of a workdir, or that of a step."""
  if not (workdir / PARTS).is_file():
    raise ValueError(
      f'{workdir} has no {NAME}: its training is of an earlier version, or has no checkpoint yet; '
      f'python -m experiments.evaluate --workdir={workdir} writes it'
    )
  header = _read_header(workdir / PARTS, (workdir / PARTS).read_text(encoding='utf-8'))
  arrays = _arrays_of(workdir / CHECKPOINTS, step)
  trained = _trained(workdir, header, arrays, learner)
  known = trained.learner, trained.inputs, trained.outputs
  if not is_calibrated(*known, classifies=trained.classifies):
    return trained
  if source is None:
    raise ValueError(
      f'a checkpoint of {workdir} is not calibrated on training episodes, as its learner has to '
      'be; give source=, a sampler of them, or load the workdir after its training has ended'
    )
  root = roots(header['card'].get('seed', 0)).calibration
  params = calibrate(trained.learner, trained.params, source, root=root)
  return dataclasses.replace(trained, params=jax.device_get(params), _programs={})


def _arrays_of(folder: Path, step: int | None) -> dict[str, np.ndarray]:
  """Returns the parameters in a folder of checkpoints, by name."""
  steps = sorted(int(path.stem) for path in folder.glob('*.json') if path.stem.isdecimal())
  if not steps or (step is not None and step not in steps):
    raise ValueError(f'{folder} has no checkpoint{f" {step}" if step else ""}; there are {steps}')
  with checkpoints(folder, set_aside=False) as saved:
    restored = saved.restore(None, step=step)
  if restored is None:
    raise ValueError(f'{folder} has no checkpoint that can be read')
  leaves = dict(named_leaves(restored[1]['params']))
  return {name: np.asarray(leaf) for name, leaf in leaves.items()}


def named_leaves(tree: Any) -> list[tuple[str, Any]]:
  """Returns the leaves of a tree with their names, such as 'body/conv_0/kernel'."""
  name_of = lambda path: jax.tree_util.keystr(path, simple=True, separator='/')
  return [(name_of(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def _read_header(path: Path, text: str) -> dict[str, Any]:
  with _damaged(path):
    header = dict(json.loads(text))
    version = int(header['format'])
    if version <= FORMAT:
      given = header['inputs']
      header['inputs'] = Inputs(**{**given, 'shape': tuple(given['shape'])})
      header['made_of'] = header['made_of'] and _parts(header['made_of'])
      return header
  raise ValueError(
    f'{path} is of format {version}, and this version reads {FORMAT}; update metakit'
  )


def _parts(stored: Mapping[str, Any]) -> MadeOf:
  borders = stored.get('borders')
  return MadeOf(**{**stored, 'borders': borders and tuple(borders)})


def _trained(
  path: Path,
  header: Mapping[str, Any],
  arrays: Mapping[str, np.ndarray],
  learner: Callable[[int], MetaLearner] | None,
) -> Trained:
  parts = header['made_of']
  if learner is None and parts is None:
    raise ValueError(
      f"{path} holds a learner of one's own; give it: load({str(path)!r}, learner=make)"
    )
  make = learner or parts.make
  inputs, outputs, classifies = (header[name] for name in ('inputs', 'outputs', 'classifies'))
  shapes = shapes_of_params(make(outputs), inputs, outputs, classifies=classifies)
  params = _like(path, shapes, arrays)
  return Trained(make, params, inputs, outputs, classifies, parts, header['card'])


def _like(path: Path, shapes: Any, arrays: Mapping[str, np.ndarray]) -> Any:
  """Returns named arrays in the structure of `shapes`.

  Raises:
    ValueError: naming the first array that is missing, of another shape, or too many.
  """
  needed, arrays = named_leaves(shapes), dict(arrays)
  for name, shape in needed:
    there = arrays.get(name)
    if there is not None and (there.dtype, shape.dtype) == (np.float16, np.float32):
      there = arrays[name] = there.astype(shape.dtype)  # see `half` of `save`
    wanted = f'{shape.dtype}{tuple(shape.shape)}'
    said = 'is missing' if there is None else f'is {there.dtype}{there.shape}'
    if said != f'is {wanted}':
      raise ValueError(f'{path}: the array {name} {said}, and the learner needs {wanted}')
  if more := sorted(set(arrays) - {name for name, _ in needed}):
    raise ValueError(f'{path}: the learner has no parameter {more[0]}')
  return jax.tree.unflatten(jax.tree.structure(shapes), [arrays[name] for name, _ in needed])


@contextlib.contextmanager
def _damaged(path: Path):
  try:
    yield
  except FileNotFoundError:
    raise ValueError(f'{path}: there is no such file') from None
  except Exception as error:
    reason = ' '.join(f'{type(error).__name__}: {error}'.split())[:200]
    raise ValueError(f'{path} is damaged ({reason}); get it from a copy') from error
