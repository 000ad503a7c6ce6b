"""Pages of Markdown that are written from stored results, and checked against them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.output.records import read_folder
from metakit.files import write_text


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
  r"""Returns a table of Markdown, without a newline at its end.

  >>> print(markdown_table(['head', 'score'], [['ridge', 'a|b']]))
  | head | score |
  | --- | --- |
  | ridge | a\|b |
  """
  lines = [columns, ['---'] * len(columns), *rows]
  return '\n'.join(f'| {" | ".join(map(_escaped, line))} |' for line in lines)


def _escaped(cell: str) -> str:
  return ' '.join(cell.split()).replace('|', r'\|')


def replace_between(text: str, table: str, name: str) -> str:
  """Returns a page's text with the table between its markers, <!-- name --> and <!-- /name -->.

  Raises:
    ValueError: if the markers are not there once, in order.
  """
  begin, end = f'<!-- {name} -->', f'<!-- /{name} -->'
  if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
    raise ValueError(f'the page needs one line {begin} and, after it, one line {end}')
  before, _, rest = text.partition(begin)
  return f'{before}{begin}\n{table}\n{end}{rest.partition(end)[2]}'


def keep(root: Path, texts: Mapping[Path, str], check: bool) -> list[Path]:
  """Writes the files of the repository at `root` that say something else, or only checks them.

  Args:
    root: the folder of the repository.
    texts: what each file should say, by its path below `root`.
    check: whether to write nothing.

  Returns:
    The files that were written.

  Raises:
    OSError: if a file cannot be read or written.
    ValueError: if a file says something else and `check`, naming all such files.
  """
  stale = [path for path, text in texts.items() if _read(root / path) != text]
  if check and stale:
    names = ', '.join(map(str, stale))
    raise ValueError(f'stale: {names}; run python -m experiments.tables')
  for path in stale:
    write_text(root / path, texts[path])
  return stale


def _read(path: Path) -> str | None:
  return path.read_text(encoding='utf-8') if path.exists() else None


def page_of_records(
  root: Path, results: Path, page: Path, *, head: str, section: Callable[[str, Any], str]
) -> dict[Path, str]:
  """Returns what a page with a section for each record should say; nothing without records.

  Args:
    root: the folder of the repository.
    results: the folder of the records, below `root`.
    page: the page, below `root`.
    head: what it says first.
    section: (name of a record, record) -> Markdown.

  Raises:
    OSError: if a file cannot be read.
    ValueError: if a file does not say what was measured ('row').
  """
  records = read_folder(root / results) if (root / results).is_dir() else {}
  for name, record in records.items():
    if 'row' not in record:
      raise ValueError(f'{results / name}.json has no row; add what was measured')
  sections = (section(name, record) for name, record in records.items())
  return {page: '\n'.join([head, *sections])} if records else {}
