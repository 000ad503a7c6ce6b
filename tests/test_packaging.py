"""What is installed: metakit alone, with what it imports; the rest is a clone's, and its extras."""

import ast
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))
# Packages whose modules have another name.
DISTRIBUTIONS = {
  'PIL': 'pillow',
  'absl': 'absl-py',
  'orbax': 'orbax-checkpoint',
  'sklearn': 'scikit-learn',
  'tensorflow_datasets': 'tensorflow-datasets',
  'yaml': 'pyyaml',
}
OPTIONAL = {
  'flatbuffers': 'export',
  'pandas': 'tables',
  'scikit-learn': 'sklearn',
}  # and their extras, which are named if they are missing
CLONE = {'experiments', 'launch', 'metakit'}


def imported(folder):
  """The distributions that a folder's files import, within functions too."""
  names = set()
  for path in (ROOT / folder).rglob('*.py'):
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
      if isinstance(node, ast.Import):
        names |= {alias.name.partition('.')[0] for alias in node.names}
      elif isinstance(node, ast.ImportFrom) and not node.level:
        names.add(node.module.partition('.')[0])
  return {DISTRIBUTIONS.get(name, name) for name in names - CLONE - sys.stdlib_module_names}


def names_of(requirements):
  return {re.match(r'[\w.-]+', each)[0] for each in requirements}


EXTRAS = {
  name: names_of(each) for name, each in PROJECT['project']['optional-dependencies'].items()
}
CORE = names_of(PROJECT['project']['dependencies'])


def test_core_dependencies_are_what_metakit_imports():
  assert imported('metakit') - OPTIONAL.keys() == CORE
  assert all(name in EXTRAS[extra] for name, extra in OPTIONAL.items())


def test_commands_import_what_their_extra_names():
  needed = (imported('experiments') | imported('launch')) - CORE
  assert needed - EXTRAS['bench'] - {'libtpu'} == EXTRAS['experiments']  # libtpu is of jax[tpu]


def test_metakit_alone_is_installed_with_its_types():
  tools = PROJECT['tool']['setuptools']
  assert tools['packages']['find']['include'] == ['metakit*']
  assert (
    tools['package-data'] == {'metakit': ['py.typed', '*.pyi', 'zoo/*.safetensors']}
    and (ROOT / 'metakit/py.typed').exists()
  )
