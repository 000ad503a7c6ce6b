"""The tables of docs/library.md: a row for each function, as its docstring says."""

import pytest

from experiments.tables.library import PAGE, listing, public, sources_of_episodes, texts
from experiments.tables.pages import keep
from metakit import learners
from metakit.episodes.functions import functions
from metakit.heads import tim
from metakit.networks import mlp
from tests.experiments.commands import REPOSITORY


def test_a_row_is_a_link_to_the_file_and_the_first_sentence():
  lines = listing(iter([tim, mlp])).splitlines()
  assert lines[2].startswith('| [`mlp`](../metakit/networks/mlp.py) | A perceptron; the default')
  assert lines[3].startswith('| [`tim`](../metakit/heads/tim.py) | ')


def test_every_source_of_episodes_is_found_once_and_learners_are_those_that_are_public():
  found = list(sources_of_episodes())
  assert functions in found and len(found) == len(set(found))
  assert [make.__name__ for make in public(learners)] == learners.__all__


def test_a_name_without_a_row_makes_the_page_stale(tmp_path, monkeypatch):
  page = tmp_path / PAGE
  page.parent.mkdir()
  page.write_text((REPOSITORY / PAGE).read_text())
  keep(tmp_path, texts(tmp_path), check=True)
  names = [name for name in learners.__all__ if name != 'anil']
  monkeypatch.setattr(learners, '__all__', names)
  with pytest.raises(ValueError, match=r'stale: docs/library.md; run'):
    keep(tmp_path, texts(tmp_path), check=True)
