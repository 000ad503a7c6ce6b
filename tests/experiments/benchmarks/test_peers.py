"""What suites compare with: packages that may be missing, and processes of their own."""

import functools
import math
import os
import sys

import numpy as np
import pytest

from experiments.benchmarks import packages
from experiments.benchmarks.elsewhere import arrays, elsewhere


def test_a_missing_package_is_said_once_with_its_remedy(monkeypatch, capsys):
  monkeypatch.setitem(packages.PACKAGES, 'no_such_package', ('no-such', 'pip install no-such'))
  packages.installed.cache_clear()
  assert packages.installed('json')
  assert not packages.installed('no_such_package') and not packages.installed('no_such_package')
  said = 'note: no-such is not installed, so its cases are left out; pip install no-such\n'
  assert capsys.readouterr().err == said
  assert 'no_such_package' not in packages.versions_of_peers()


def test_a_module_is_imported_without_what_its_packages_import(monkeypatch, tmp_path):
  inner = tmp_path / 'made_up' / 'inner'
  inner.mkdir(parents=True)
  for folder in (inner.parent, inner):
    (folder / '__init__.py').write_text('import what_is_missing\n')
  (inner.parent / 'other.py').write_text('VALUE = 3\n')
  (inner / 'base.py').write_text('VALUE = 4\n')
  module = 'from made_up.other import VALUE as one\nfrom .base import VALUE as two\n'
  (inner / 'module.py').write_text(module)
  monkeypatch.syspath_prepend(tmp_path)
  for _ in range(2):  # the second time its packages are there
    found = packages.without_packages('made_up.inner.module')
    assert (found.one, found.two) == (3, 4)
  assert packages.without_packages('made_up.inner.base').VALUE == 4
  with pytest.raises(ModuleNotFoundError, match=r'no package made_up\.outer'):
    packages.without_packages('made_up.outer.module')
  for name in [name for name in sys.modules if name.startswith('made_up')]:
    del sys.modules[name]


def test_calls_run_in_a_process_of_their_own():
  """What makes the calls is dict, which another process has without an import."""
  roots = {'root': functools.partial(math.sqrt, 2.0), 'of less': functools.partial(math.sqrt, -1)}
  calls = elsewhere(dict, {'process': os.getpid, **roots})
  assert list(calls) == ['process', 'root', 'of less']
  assert calls['process'](show=True) not in (os.getpid(), None)
  assert calls['root'](show=True) == 2**0.5 and calls['root']() is None
  with pytest.raises(RuntimeError, match='the process of builtins has failed, see above'):
    calls['of less']()
  with pytest.raises(RuntimeError, match='has failed'):  # and it is gone
    calls['root']()


def test_what_is_computed_elsewhere_comes_back_as_arrays():
  value = arrays({'a': (1.0, [np.float32(2)]), 'b': np.arange(3)})
  assert value['a'][1][0].dtype == np.float32 and value['a'][0] == 1.0
  np.testing.assert_array_equal(value['b'], [0, 1, 2])
