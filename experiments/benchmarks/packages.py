r"""The packages that suites compare with, where they are installed.

`pip install -e '.[bench]'` installs PyTorch, TorchOpt and scikit-learn. Two need more care:

- EasyFSL: `pip install --no-deps easyfsl`. Its heads need PyTorch alone.
- learn2learn: its last release (0.2.0) has a data module in C that no longer builds, so pip cannot
  install it. Its algorithms are plain Python, and need PyTorch alone. Two folders of the release's
  source archive are enough:

      tar xzf learn2learn-0.2.0.tar.gz --strip-components=1 \
        -C "$(python -c 'import site; print(site.getsitepackages()[0])')" \
        learn2learn-0.2.0/learn2learn learn2learn-0.2.0/learn2learn.egg-info

Both packages import at their top what needs further packages (torchvision, gym). `without_packages`
imports a module of theirs alone, from the released file.
"""

import functools
import importlib
import importlib.metadata
import importlib.util
import sys
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

BENCH = "pip install -e '.[bench]'"
# What is imported: the distribution that has it, and how one gets it.
PACKAGES = {
  'torch': ('torch', BENCH),
  'torchopt': ('torchopt', BENCH),
  'sklearn': ('scikit-learn', BENCH),
  'easyfsl': ('easyfsl', f'{BENCH} && pip install --no-deps easyfsl'),
  'learn2learn': ('learn2learn', f'{BENCH}, and see experiments/benchmarks/packages.py'),
}


@functools.cache  # one line a package
def installed(name: str) -> bool:
  """Returns whether a package is there, and says how one gets it if it is not."""
  if importlib.util.find_spec(name) is not None:
    return True
  distribution, remedy = PACKAGES[name]
  said = f'{distribution} is not installed, so its cases are left out; {remedy}'
  print(f'note: {said}', file=sys.stderr, flush=True)
  return False


def versions_of_peers() -> dict[str, str]:
  """Returns the versions of what is compared with, where it is installed."""
  there = {name: each for name, (each, _) in PACKAGES.items() if importlib.util.find_spec(name)}
  return {name: importlib.metadata.version(each) for name, each in there.items()}


def without_packages(name: str) -> Any:
  """Imports a module, but not the __init__ of the packages that it is in.

  Raises:
    ImportError: if it is not there, or needs what is not.

  >>> without_packages('json.decoder').JSONDecoder().decode('[1]')
  [1]
  """
  parts, path = name.split('.'), None
  for number in range(1, len(parts)):
    package = '.'.join(parts[:number])
    if package not in sys.modules:
      spec = PathFinder.find_spec(package, path)
      if spec is None:
        raise ModuleNotFoundError(f'no package {package}')
      empty: Any = ModuleType(package)
      empty.__path__ = list(spec.submodule_search_locations or ())
      sys.modules[package] = empty
    path = sys.modules[package].__path__
  return importlib.import_module(name)
