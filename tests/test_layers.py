"""Imports run down: from commands to rooms, from rooms to the library, never in a circle."""

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Lowest first. A file may import what stands on lines above its own, and other files of its own
# room; of two names on one line neither may import the other.
LAYERS = [
  'launch.interrupts launch.guard',
  'launch.children launch',
  'metakit.platforms metakit.program_cache metakit.fusion metakit.freed_memory',
  'metakit.types metakit.inputs metakit.compiler metakit.sizes metakit.estimates metakit.onset',
  'metakit.costs metakit.linear_algebra metakit.cluster metakit.minibatches metakit.gathering',
  'metakit.absent metakit.divergence metakit.keys metakit.roles metakit.meeting metakit.traffic',
  'metakit.distributed metakit.meta_gradient metakit.batch_statistics metakit.networks.linear',
  'metakit.files metakit.checkpoint metakit.objectives metakit.networks.pooling',
  'metakit.builder metakit.lock metakit.difficulty metakit.transfer',
  'metakit.networks.normalisation',
  'metakit.linen_parts metakit.nnx_parts',
  'metakit.models',
  'metakit.networks metakit.data',
  'metakit.sources',
  'metakit.retrieval',
  'metakit.episodes metakit.devices metakit.heads metakit.fingerprint metakit.densities',
  'metakit.losses metakit.balance',
  'metakit.learners',
  'metakit.components metakit.incremental',
  'metakit.train',
  'metakit.dispatch metakit.interruptions',
  'metakit.training metakit.workdir metakit.streams',
  'metakit.evaluation',
  'metakit.evaluation.in_context metakit.evaluation.sessions metakit.tasks',
  'metakit.zoo',
  'metakit.trained',
  'metakit.estimators',
  'metakit',
  'experiments',
  'experiments.components',
  'experiments.output experiments.command_line.checks',
  'experiments.command_line launch.common',
  'experiments.runs launch.local_pod launch.tpu_vm launch.slurm launch.gke',
  'experiments.benchmarks launch.preflight',
  'experiments.tables launch.accelerators',
]


def name_of(path):
  parts = path.relative_to(ROOT).with_suffix('').parts
  return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


FILES = {
  name_of(path): path
  for package in ('metakit', 'experiments', 'launch')
  for path in (ROOT / package).rglob('*.py')
}


def imports_of(name):
  """The modules of ours that a file imports, within functions too."""
  found = set()
  for node in ast.walk(ast.parse(FILES[name].read_text(encoding='utf-8'))):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      inside = {f'{node.module}.{alias.name}' for alias in node.names}
      found |= {each if each in FILES else node.module for each in inside}
  return found & FILES.keys() - {name}


@functools.cache
def imports():
  return {name: imports_of(name) for name in FILES}


PLACE = {room: place for place, line in enumerate(LAYERS) for room in line.split()}


def room_of(name):
  """The longest name in LAYERS that a module is of. A whole package is a place for its __init__."""
  parts = name.split('.')
  rooms = [name, *('.'.join(parts[:n]) for n in range(len(parts) - 1, 1, -1))]
  return next((room for room in rooms if room in PLACE), None)


def is_command(name):
  return name.startswith('experiments.') and name.count('.') == 1 and room_of(name) is None


def test_every_module_has_a_place():
  """A new file of the library, or a new room, is named in LAYERS."""
  assert not [name for name in FILES if room_of(name) is None and not is_command(name)]
  assert {room for line in LAYERS for room in line.split()} <= FILES.keys()


def test_no_import_runs_up():
  ups = {
    (name, imported)
    for name, them in imports().items()
    for imported in them
    if not is_command(name) and not is_command(imported) and runs_up(name, imported)
  }
  assert not ups


def runs_up(name, imported):
  here, there = room_of(name), room_of(imported)
  return here != there and PLACE[there] >= PLACE[here]


def test_no_command_is_imported():
  """A command is flags and one call; what others need of it is in a room."""
  commands = {name for name in FILES if is_command(name)}
  assert 'experiments.train' in commands and 'experiments.runs' not in commands
  assert not {name: them & commands for name, them in imports().items() if them & commands}


def test_no_imports_form_a_circle():
  left = dict(imports())
  while done := [name for name, them in left.items() if not them & left.keys()]:
    for name in done:
      del left[name]
  assert not left


def uses_absl(name):
  nodes = list(ast.walk(ast.parse(FILES[name].read_text(encoding='utf-8'))))
  modules = [node.module or '' for node in nodes if isinstance(node, ast.ImportFrom)]
  modules += [a.name for node in nodes if isinstance(node, ast.Import) for a in node.names]
  return any(module.partition('.')[0] == 'absl' for module in modules)


def test_flags_are_read_in_commands_alone():
  """Rooms and the library get values. (What launch/ holds are commands.)"""
  may = lambda name: (
    is_command(name)
    or name == 'experiments.tables.__main__'
    or name.startswith(('experiments.command_line.', 'launch.'))
  )
  readers = {name for name in FILES if uses_absl(name)}
  assert 'experiments.compare_heads' in readers
  assert not {name for name in readers if not may(name)}


@pytest.mark.parametrize('name', sorted(name for name in FILES if is_command(name)))
def test_a_command_is_thin(name):
  """Its flags may be many, its functions none."""
  body = ast.parse(FILES[name].read_text(encoding='utf-8')).body
  assert not [node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
