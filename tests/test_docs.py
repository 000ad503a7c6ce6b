"""Pages for people: links lead to what exists, and the README stays short."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
ROOMS = ('experiments', 'launch', 'metakit')
PAGES = [*ROOT.glob('*.md'), *(ROOT / 'docs').glob('*.md'), *(ROOT / 'docs/tutorials').glob('*.md')]
PAGES.remove(ROOT / 'docs/index.md')  # of the site, whose builder checks its links
PAGES += [page for room in ROOMS for page in (ROOT / room).rglob('README.md')]
LINK = re.compile(r'\]\(([^)#\s]+)[^)]*\)')


def links(page: Path) -> list[str]:
  """Returns the targets of a page's links and pictures that are not on the web."""
  targets = LINK.findall(page.read_text(encoding='utf-8'))
  return [target for target in targets if not target.startswith(('http://', 'https://'))]


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_that_exist(page):
  missing = [target for target in links(page) if not (page.parent / target).exists()]
  assert not missing


def test_a_link_to_nothing_is_seen(tmp_path):
  page = tmp_path / 'page.md'
  page.write_text('[a](there.md) ![b](picture.png "title") [c](https://x.y) [d](e.md#part) [f](#g)')
  assert links(page) == ['there.md', 'picture.png', 'e.md']


# A dotted name of the library: no file (.metakit.lock, metakit.sbatch), nor part of a path.
DOTTED = re.compile(r'(?<![\w./])metakit(?!\.sbatch)(?:\.[A-Za-z_]\w*)+(?!\w*/)')


def missing_names(text: str) -> list[str]:
  """Returns the dotted names in a text that are neither attributes of metakit nor modules."""
  names = sorted(set(DOTTED.findall(text)))
  program = f"""if True:
    import functools, importlib, metakit
    for name in {names}:
      try:
        functools.reduce(getattr, name.split('.')[1:], metakit)
      except AttributeError:
        try:
          importlib.import_module(name)
        except ImportError:
          print(name)
  """
  command = [sys.executable, '-c', program]
  return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_every_name_of_the_library_on_a_page_can_be_reached():
  """Modules that a function of the same name hides cannot, as metakit.learners.maml.maml."""
  pages = '\n'.join(page.read_text(encoding='utf-8') for page in PAGES)
  assert len(DOTTED.findall(pages)) > 20
  assert not missing_names(pages)
  known = 'metakit.evaluate, metakit.evaluation.judge_gain, .metakit.lock, metakit/metakit.py'
  wrong = 'metakit.evaluate.judge_gain and metakit.learners.maml.maml'
  assert missing_names(f'{known}, {wrong}') == sorted(wrong.split(' and '))


def test_the_version_is_the_same_everywhere():
  version = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['version']
  assert yaml.safe_load((ROOT / 'CITATION.cff').read_text())['version'] == version
  assert f'\n## {version} (' in (ROOT / 'CHANGELOG.md').read_text()


def test_the_citation_has_what_its_format_requires():
  """Citation File Format 1.2.0: required keys, and authors that are persons or entities."""
  citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
  assert {'cff-version', 'message', 'title', 'authors'} <= set(citation)
  assert citation['cff-version'] == '1.2.0' and citation['type'] in ('software', 'dataset')
  names = {'name', 'family-names', 'given-names'}
  assert all(author.keys() & names for author in citation['authors'])
  assert re.fullmatch(r'\d{4}-\d\d-\d\d', citation['date-released'])
