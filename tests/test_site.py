"""The site: its pages are in its lists, and every block of code on them runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.experiments.commands import environment
from tests.test_readme import words

ROOT = Path(__file__).parents[1]
DOCS = ROOT / 'docs'
PAGES = [DOCS / 'start.md', DOCS / 'own_data.md', *sorted((DOCS / 'tutorials').glob('*.md'))]
BLOCK = re.compile(r'^```(python|sh|text)\n(.*?)^```', re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r'\d+\.\d+')


def blocks(page):
  """Returns (language, code, what it prints or None) of the blocks of a page."""
  found = BLOCK.findall(page.read_text(encoding='utf-8'))
  following = [*found[1:], ('', '')][: len(found)]
  said = [code if kind == 'text' else None for kind, code in following]
  return [(*each, text) for each, text in zip(found, said, strict=True) if each[0] != 'text']


def test_every_page_is_in_a_list():
  index = (DOCS / 'index.md').read_text(encoding='utf-8')
  listed = set(re.findall(r'^[\w./]+$', index, re.MULTILINE))
  pages = {str(p.relative_to(DOCS).with_suffix('')) for p in DOCS.rglob('*.md')}
  assert {page for page in pages if not page.startswith(('generated/', 'index'))} <= listed


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_code_of_a_page_is_python(page):
  for kind, code, _ in blocks(page):
    if kind == 'python':
      compile(code, str(page), 'exec')


PROGRAM = """
import sys
code = {code!r}
for number, (block, said) in enumerate(code):
  print(f'== {{number}}', flush=True)
  exec(compile(block, f'{page}, block {{number}}', 'exec'), globals())
"""


@pytest.mark.slow
@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_prints_what_the_page_says(page, tmp_path, data_dir):
  """In an empty folder. With optimised programs test_readme.py and test_binaries.py run some."""
  (tmp_path / 'images').mkdir()
  variables = environment(PYTHONPATH=str(ROOT), METAKIT_DATA=str(data_dir), MPLBACKEND='agg')
  everything = {'cwd': tmp_path, 'env': variables, 'capture_output': True, 'text': True}
  python, shell = [], []
  for kind, code, said in blocks(page):
    (python if kind == 'python' else shell).append((code, said))
  # Commands of a page that has both come last: they read what the code wrote.
  if python:
    program = PROGRAM.format(code=python, page=page.name)
    done = subprocess.run([sys.executable, '-c', program], **everything)
    assert done.returncode == 0, done.stderr
    printed = re.split(r'^== \d+\n', done.stdout, flags=re.MULTILINE)[1:]
    for (_, said), text in zip(python, printed, strict=True):
      if said is not None:
        check(text, said)
  for code, said in shell:
    path = f'{Path(sys.executable).parent}{os.pathsep}{variables["PATH"]}'
    everything['env'] = variables | {'PATH': path}
    done = subprocess.run(['bash', '-ec', code], **everything)
    assert done.returncode == 0, done.stderr
    if said is not None:
      check(done.stdout, said)


def check(printed, said):
  """Rounding differs between machines, and grows in training."""
  assert words(printed) == words(said)
  numbers = lambda text: [float(n) for n in NUMBER.findall(text)]
  assert numbers(printed) == pytest.approx(numbers(said), abs=0.1)
