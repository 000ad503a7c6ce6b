"""Pages of Markdown that are written from the files of results, and checked against them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from experiments.output.results import write_text


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


def keep_page(root: Path, page: Path, text: str, check: bool, binary: str) -> None:
  """Writes a page of the repository at `root`, or only checks that it says `text`.

  Raises:
    OSError: if it cannot be read or written.
    ValueError: if it says something else and `check`, naming the binary that writes it.
  """
  path = root / page
  if not check:
    write_text(path, text)
  elif not path.exists() or path.read_text(encoding='utf-8') != text:
    raise ValueError(f'{page} is stale; run python -m experiments.{binary}')
