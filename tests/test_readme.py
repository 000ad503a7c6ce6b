"""The README's example prints what the README says, and its commands are those that exist."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from experiments import results_table

README = Path(__file__).parents[1] / 'README.md'


def blocks(language: str) -> list[str]:
  return re.findall(rf'```{language}\n(.*?)```', README.read_text(), re.DOTALL)


def test_the_example_prints_what_the_readme_says():
  (code,), (said,) = blocks('python'), blocks('text')
  assert len(code.strip().splitlines()) <= 22
  printed = io.StringIO()
  with contextlib.redirect_stdout(printed):
    exec(compile(code, str(README), 'exec'), {})
  # Rounding differs between machines, and grows in training.
  numbers = lambda text: [float(n) for n in re.findall(r'\d+\.\d+', text)]
  assert numbers(printed.getvalue()) == pytest.approx(numbers(said), abs=0.05)
  words = lambda text: re.sub(r'\d+\.\d+', '#', text)
  assert words(printed.getvalue()) == words(said)


def test_the_two_commands_stand_alone_on_their_lines():
  assert [block.strip() for block in blocks('sh')] == [
    'pip install -e . && python -m experiments.train',
    "pip install -e '.[test]' && pytest",
  ]


def test_the_results_table_is_what_the_files_say():
  results_table.run(README.parent, check=True)
