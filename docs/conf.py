"""The site: sphinx-build -W docs build/site. Any warning is an error in .ci/run.

Pages are the Markdown files of the repository, which GitHub shows too. Links between them are
rewritten here: to a page of the site if there is one, otherwise to the name of the file.
"""

import importlib
import inspect
import os
import re
import sys
from pathlib import Path

import jupytext

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))

project, author, html_title = 'metakit', 'the metakit authors', 'metakit'
extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
html_theme = 'furo'
default_role = 'code'
exclude_patterns = ['README.md', 'generated/.*']
myst_enable_extensions = ['attrs_inline']
myst_heading_anchors = 3
autodoc_member_order = 'bysource'
autodoc_preserve_defaults = True
autodoc_typehints = 'none'  # signatures are read in the source; docstrings say shapes
napoleon_use_rtype = napoleon_use_ivar = False
html_show_copyright = html_show_sphinx = False
suppress_warnings = ['myst.header']  # pages for GitHub may begin at a second heading

# Pages of the repository that are pages of the site: file -> page.
PAGES = {
  'experiments/results/README.md': 'generated/results',
  'experiments/results/benchmarks.md': 'generated/speed',
  'experiments/results/growth.md': 'generated/growth',
  'experiments/results/accelerators.md': 'generated/accelerators',
  'experiments/results/streams.md': 'generated/streams',
  'experiments/results/balance.md': 'generated/balance',
  'experiments/results/transfer.md': 'generated/transfer',
  'experiments/results/tricks.md': 'generated/tricks',
  'experiments/results/sweeps.md': 'generated/sweeps',
  'experiments/results/tuning.md': 'generated/tuning',
  'metakit/learners/README.md': 'generated/learners',
  'metakit/heads/README.md': 'generated/heads',
  'launch/README.md': 'generated/launch',
  'metakit/zoo/README.md': 'generated/zoo',
  'CONTRIBUTING.md': 'generated/contributing',
  'CHANGELOG.md': 'generated/changelog',
}
PACKAGES = {
  'metakit': 'everything that `import metakit` reaches by name',
  'metakit.trained': 'trained learners for predictions, and their export',
  'metakit.estimators': 'estimators of scikit-learn',
  'metakit.zoo': 'the trained learners that come with metakit',
  'metakit.episodes': 'samplers',
  'metakit.data': 'tables',
  'metakit.networks': 'networks',
  'metakit.learners': 'learners',
  'metakit.heads': 'heads on features',
  'metakit.losses': 'losses of features',
  'metakit.incremental': 'new classes in sessions',
  'metakit.streams': 'tasks that arrive one after the other',
  'metakit.densities': 'densities that say how sure a prediction is',
  'metakit.meta_gradient': 'modes of differentiation',
  'metakit.evaluation': 'tests and measures',
}
LINK = re.compile(r'(!?)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?( "[^"]*")?\)')


def rewritten(text: str, folder: Path, site: Path) -> str:
  """Returns a page with its links as the site needs them.

  Args:
    text: the page.
    folder: where its file lies in the repository.
    site: where its page lies in docs/.
  """

  def link(match: re.Match[str]) -> str:
    picture, said, target, part, title = match.groups(default='')
    if target.startswith(('http://', 'https://', 'mailto:')):
      return match[0]
    path = (folder / target).resolve()
    if path == ROOT / 'README.md':
      return f'[{said}](/index.md)'
    known = PAGES.get(str(path.relative_to(ROOT)))
    page = DOCS / f'{known}.md' if known else path
    if picture or (page.is_relative_to(DOCS) and page.suffix == '.md'):
      return f'{picture}[{said}]({os.path.relpath(page, site)}{part}{title})'
    return said  # a file of the repository, which the site does not hold

  return LINK.sub(link, text)


def write_generated() -> None:
  """Writes the pages of the repository, and those of the reference, into docs/generated."""
  (DOCS / 'generated').mkdir(exist_ok=True)
  for file, page in PAGES.items():
    path = ROOT / file
    text = rewritten(path.read_text(encoding='utf-8'), path.parent, DOCS / 'generated')
    write(DOCS / f'{page}.md', text)
  for page in sorted((DOCS / 'tutorials').glob('*.md')):
    notebook = jupytext.reads(page.read_text(encoding='utf-8'), 'md')
    write(DOCS / 'generated' / f'{page.stem}.ipynb', jupytext.writes(notebook, 'ipynb'))
  for package, said in PACKAGES.items():
    write(DOCS / 'generated' / f'{package}.md', reference(package, said))


def write(path: Path, text: str) -> None:
  """Writes a page if it changed, so that only changed pages are built again."""
  if not path.exists() or path.read_text(encoding='utf-8') != text:
    path.write_text(text, encoding='utf-8')


def reference(package: str, said: str) -> str:
  """Returns the page of a package: what it offers, from the docstrings."""
  module = importlib.import_module(package)
  entries = []
  for name in module.__all__:
    value = getattr(module, name)
    if inspect.ismodule(value) or (package == 'metakit' and is_of_a_package(value)):
      continue
    if not (inspect.isclass(value) or inspect.isfunction(value)):
      entries.append(f'`{package}.{name}` is of the type `{type(value).__name__}`.\n')
      continue
    kind = 'class' if inspect.isclass(value) else 'function'
    members = ', '.join(methods(value)) if kind == 'class' else ''
    options = f'   :members: {members}\n' if members else ''
    where = f'{value.__module__}.{name}' if kind == 'class' else f'{package}.{name}'
    entries.append(f'```{{eval-rst}}\n.. auto{kind}:: {where}\n{options}```\n')
  return f'# `{package}`\n\nReference: {said}.\n\n' + '\n'.join(entries)


def methods(value: type) -> list[str]:
  """Returns the public methods and properties that a class itself writes down.

  The docstring describes its fields, and what libraries add to it is theirs.
  """
  kinds = property, classmethod, staticmethod
  written = lambda part: inspect.isfunction(part) or isinstance(part, kinds)
  return [name for name, part in vars(value).items() if name[0] != '_' and written(part)]


def is_of_a_package(value: object) -> bool:
  """Tells whether a value has a place on the page of a package of its own."""
  home = getattr(value, '__module__', '')
  return any(home.startswith(f'{package}.') for package in PACKAGES if package != 'metakit')


def as_plain_text(app, what, name, obj, options, lines: list[str]) -> None:
  """Docstrings are plain text: what reStructuredText would take for markup is escaped."""
  code = False
  for number, line in enumerate(lines):
    code = line.lstrip().startswith('>>>') or (code and line.strip() != '')
    if not code:  # an example is shown as it is
      lines[number] = re.sub(r'(?<!`)([*|])(?!`)', r'\\\1', line)


def rewrite(app, page: str, source: list[str]) -> None:
  """Rewrites the links of the pages that lie in docs/ themselves."""
  if not page.startswith('generated/'):
    place = (DOCS / page).parent
    source[0] = rewritten(source[0], place, place)
  if page.startswith('tutorials/'):
    notebook = f'/generated/{Path(page).name}.ipynb'
    source[0] += f'\n---\n\nThis page {{download}}`as a notebook <{notebook}>`.\n'


def setup(app) -> None:
  write_generated()
  app.connect('source-read', rewrite)
  app.connect('autodoc-process-docstring', as_plain_text, priority=100)  # before napoleon
