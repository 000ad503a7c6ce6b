"""The list of faults fits the code: each has its place, once, and tests that are there."""

import ast
import functools
from pathlib import Path

import pytest

from tests.faults import AREAS
from tests.faults.fault import in_checkout
from tests.faults.planting import MARKS

REPOSITORY = Path(__file__).parents[2]


@functools.cache
def functions_of(file):
  """Returns the names of the functions in a file of tests; none if it is not there."""
  path = REPOSITORY / in_checkout(file)
  tree = ast.parse(path.read_text(encoding='utf-8') if path.is_file() else '')
  return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize('area', AREAS)
def test_every_fault_has_its_place_and_its_tests(area):
  """Whoever moves the code of a fault, or renames its test, moves the fault: AREA.py."""
  assert AREAS[area]
  for fault in AREAS[area]:
    path = REPOSITORY / fault.file
    found = path.read_text(encoding='utf-8').count(fault.old) if path.is_file() else 'no file, so 0'
    assert found == 1, f'{fault.name}: {fault.file} holds {found} times {fault.old!r}'
    assert fault.new != fault.old and fault.tier in MARKS and fault.tests, fault.name
    for test in fault.tests.split():
      file, _, name = test.partition('::')
      assert name.partition('[')[0].rpartition('.')[2] in functions_of(file), (
        f'{fault.name}: there is no {test}'
      )


def test_no_two_faults_have_one_name():
  names = [fault.name for faults in AREAS.values() for fault in faults]
  assert len(set(names)) == len(names)
