"""Everything that has a file has its name in the package, and its row in a table of tests.

The command line and the pages read names, signatures and docstrings. A test fails naming what lacks
something, and where. CONTRIBUTING.md has the checklists.
"""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

from experiments.benchmarks.suites.learners import IMAGE_LEARNERS
from experiments.components.sequence_tasks import FUNCTION_CLASSES
from experiments.components.table_tasks import SAMPLERS as SAMPLERS_OF_SPECS
from experiments.components.tasks import TASKS as TASKS_OF_SPECS
from metakit import data, episodes, heads, learners, losses, networks
from metakit.components.head_learners import HEADS as HEADS_OF_SPECS
from metakit.components.learners import LEARNERS as LEARNERS_OF_SPECS
from metakit.components.learners import NETWORKS as NETWORKS_OF_SPECS
from metakit.data.table import ClassTable
from metakit.models import Model, SequenceModel
from metakit.sources import EpisodeSource
from metakit.types import MetaLearner
from tests.episodes.test_laws import SAMPLERS
from tests.learners.rows import LEARNERS
from tests.networks.test_backbones import BACKBONES

ROOT = Path(__file__).parents[1]
TESTS = ROOT / 'tests'

# What has no row of its own somewhere, and what stands for it.
LAWS_ELSEWHERE = {
  'bayes': 'learners/test_bayes.py',
  'bayes_categorical': 'learners/test_bayes.py',
  'bayes_density': 'learners/test_bayes_density.py',
  'minimum_linf': 'learners/test_minimum_linf.py',
  'embedded': 'every head is one',
}
NOT_OF_SPECS = {
  'bayes': 'tasks name it as their reference',
  'bayes_categorical': 'tasks name it as their reference',
  'bayes_density': 'tasks name it as their reference where densities are predicted',
  'minimum_linf': 'a reference of sign vectors',
  'embedded': 'it makes a head a learner',
  'normalised': 'every head has an argument for it',
  'prototypes': 'its name is prototypical there',
}
# Samplers that tasks of other names are of, or that change other samplers.
IN_TASKS = {
  'augment': 'shift=, degrees=, stretch=, mirror=',
  'class_incremental': 'compare_sessions',
  'domain_episodes': 'one_domain, with labels by the names of classes',
  'functions': 'a task for each class of functions',
  'made_domains': 'domains',
  'limited': 'mixed_processes:tasks=',
  'mixture': 'mixed_processes; which tables to mix takes Python',
  'relabel': 'not on the command line: few_shot numbers classes at random already',
  'shorten': 'curriculum_steps=',
  'spurious': 'spurious',
  'switch': 'biased_steps=',
  'turned_classes': 'rotations=',
  'vary_shots': 'fewest_shots=',
  'table_regression': 'arrays, rows, series and table, where targets are numbers',
}


def in_package(package, *returned):
  """Returns the public functions in the modules of a package that return one of some types."""
  found = {}
  for module in pkgutil.iter_modules(package.__path__):
    made = vars(importlib.import_module(f'{package.__name__}.{module.name}'))
    for name, each in made.items():
      own = inspect.isfunction(each) and each.__module__ == f'{package.__name__}.{module.name}'
      if own and name[0] != '_' and inspect.signature(each).return_annotation in returned:
        found[name] = module.name
  return found


SAMPLER_NAMES = in_package(episodes, EpisodeSource)
# A source is a module whose function, of the same name or with _table, returns a table.
SOURCES = {
  name
  for name, module in in_package(data, ClassTable).items()
  if name.removesuffix('_table') == module
}


def lacking(names, rows):
  """Returns the names without a row; rows are called 'name' or 'name:variant'."""
  return sorted(set(names) - {row.partition(':')[0] for row in rows})


def words(path):
  """Returns what stands in backticks, or is a link in a table, in a file of the docs."""
  text = (ROOT / path).read_text(encoding='utf-8')
  return set(re.findall(r'[`\[](\w+)[`\]]', text))


@pytest.mark.parametrize(
  ('package', 'returned'),
  [(learners, [MetaLearner]), (heads, [MetaLearner]), (networks, [Model, SequenceModel])],
  ids=['learners', 'heads', 'networks'],
)
def test_what_has_a_file_is_public(package, returned):
  """A file NAME.py with a function NAME. Helpers are in files of other names."""
  own = [name for name, file in in_package(package, *returned).items() if name == file]
  assert len(own) > 3 and not lacking(own, package.__all__), f'{package.__name__}/__init__.py'


def test_every_learner_and_head_obeys_the_laws():
  assert not lacking(learners.__all__, [*LEARNERS, *LAWS_ELSEWHERE]), 'tests/learners/rows.py'
  assert not lacking(heads.__all__, LEARNERS), 'HEADS of tests/learners/rows.py'
  for place in LAWS_ELSEWHERE.values():
    assert (TESTS / place).exists() or not place.endswith('.py'), place


def test_every_learner_and_head_is_on_the_command_line():
  known = [*LEARNERS_OF_SPECS, *HEADS_OF_SPECS, *NOT_OF_SPECS]
  assert not lacking([*learners.__all__, *heads.__all__], known), (
    'an argument has no usual value: OTHERWISE in metakit/components/descent_learners.py'
  )


def test_every_sampler_obeys_the_laws():
  assert {'few_shot', 'sinusoid', 'categorical', 'relabel'} <= set(SAMPLER_NAMES)
  assert not lacking(SAMPLER_NAMES, SAMPLERS), 'SAMPLERS of tests/episodes/test_laws.py'


def test_every_sampler_is_public_and_on_the_command_line():
  beside = {'functions', 'categorical'}  # their modules hold more that is public
  assert not lacking(SAMPLER_NAMES.keys() - beside, episodes.__all__), (
    'metakit/episodes/__init__.py'
  )
  known = [*SAMPLERS_OF_SPECS, *TASKS_OF_SPECS, *IN_TASKS]
  assert not lacking(SAMPLER_NAMES, known), 'SAMPLERS of table_tasks.py, or TASKS of tasks.py'
  assert set(FUNCTION_CLASSES) <= set(TASKS_OF_SPECS)


def test_every_data_source_is_public_tested_and_a_task():
  assert {'arrays', 'folder', 'glyphs', 'tfds_table'} <= SOURCES
  assert not lacking(SOURCES, data.__all__), 'metakit/data/__init__.py'
  for name in SOURCES:
    file = TESTS / 'data' / f'test_{name.removesuffix("_table")}.py'
    assert file.exists(), f'{name} has no {file}'
  known = [name.removesuffix('_table') for name in SOURCES]
  assert not lacking(known, TASKS_OF_SPECS), (
    'its name is not that of its file, or it returns no ClassTable; see data_sources.py'
  )


def test_every_network_is_tested_and_on_the_command_line():
  assert not lacking(networks.__all__, BACKBONES), 'BACKBONES of tests/networks/test_backbones.py'
  assert not lacking(networks.__all__, NETWORKS_OF_SPECS)


PAGES = {
  'docs/library.md': [*learners.__all__, *SAMPLER_NAMES, *SOURCES, *networks.__all__],
  'metakit/learners/README.md': IMAGE_LEARNERS,
  'metakit/heads/README.md': [*heads.__all__],
}


@pytest.mark.parametrize('page', PAGES)
def test_pages_were_written_anew(page):
  """By `python -m experiments.tables`, which checks all that they say."""
  assert not sorted(set(PAGES[page]) - words(page)), 'run python -m experiments.tables'


def test_no_exception_is_for_what_is_not_there():
  made = {*learners.__all__, *heads.__all__, *losses.__all__}
  assert made >= {*LAWS_ELSEWHERE, *NOT_OF_SPECS} and set(SAMPLER_NAMES) >= set(IN_TASKS)
