"""The README's example prints what the README says, and its commands are those that exist."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / 'README.md'


def blocks(language: str) -> list[str]:
  return re.findall(rf'```{language}\n(.*?)```', README.read_text(), re.DOTALL)


def words(text: str) -> str:
  return re.sub(r'\d+\.\d+', '#', text)


SMALLER = {
  'alphabets=10': 'alphabets=1',
  'width=16': 'width=8, depth=2',
  '(100, state)': '(2, state)',
  'episodes=200': 'episodes=4',
}


def test_a_smaller_example_prints_the_words_of_the_readme(capsys):
  (code,), (said,) = blocks('python'), blocks('text')
  for usual, small in SMALLER.items():
    assert usual in code
    code = code.replace(usual, small)
  exec(code, {})
  assert words(capsys.readouterr().out) == words(said)


@pytest.mark.slow
def test_the_example_prints_what_the_readme_says():
  (code,), (said,) = blocks('python'), blocks('text')
  assert len(code.strip().splitlines()) <= 22
  # As users run it: with the compiler's optimisation, which tests do without.
  environment = {name: value for name, value in os.environ.items() if name != 'XLA_FLAGS'}
  command = [sys.executable, '-W', 'error', '-c', code]
  done = subprocess.run(command, env=environment, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  # Rounding differs between machines, and grows in training.
  numbers = lambda text: [float(n) for n in re.findall(r'\d+\.\d+', text)]
  assert numbers(done.stdout) == pytest.approx(numbers(said), abs=0.05)
  assert words(done.stdout) == words(said)


def test_the_two_commands_stand_alone_on_their_lines():
  assert [block.strip() for block in blocks('sh')] == [
    "pip install -e '.[experiments]' && python -m experiments.train",
    "pip install -e '.[test]' && pytest",
  ]


def test_it_is_short():
  assert len(README.read_text().splitlines()) <= 150
