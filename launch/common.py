"""What the launchers share: a command line, and the one function that starts other programs."""

import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import app, flags

from experiments.ranges import check_flags

PREEMPTED = 75  # exit status of a run that the same command continues


class Refused(Exception):
  """The launcher will not start; the message says why, in one line, with the remedy."""


def define_dry_run() -> None:
  """Defines --dry_run."""
  flags.DEFINE_bool('dry_run', False, 'print what would be done, and do nothing')


def call(argv: Sequence[str], **options: Any) -> subprocess.CompletedProcess:
  """Runs a program and returns what became of it. Launchers start programs by this alone.

  Raises:
    Refused: if there is no such program.
  """
  try:
    return subprocess.run(list(argv), text=True, check=False, **options)
  except FileNotFoundError:
    raise Refused(f'{argv[0]} is not installed; install it, or look at --dry_run') from None


def show(argv: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
  """Returns a command as it would be typed."""
  given = [f'{name}={shlex.quote(value)}' for name, value in (environment or {}).items()]
  return ' '.join([*given, shlex.join(argv)])


def run(main: Callable[[list[str]], int], doc: str) -> None:
  """Runs a launcher: main gets the command after `--`, and returns the exit status."""

  def wrapped(arguments: list[str]) -> None:
    try:
      if len(arguments) < 2:
        raise Refused('no command; give one after --, such as -- python -m experiments.train')
      sys.exit(main(arguments[1:]))
    except Refused as refused:
      print(f'error: {refused}', file=sys.stderr)
      sys.exit(1)

  sys.modules['__main__'].__doc__ = doc
  app.run(wrapped, flags_parser=_parse)


def _parse(arguments: list[str]) -> list[str]:
  try:
    rest = flags.FLAGS(arguments)
    check_flags(flags.FLAGS)
    return rest
  except flags.Error as error:
    print(f'error: {" ".join(str(error).split())}; see --help', file=sys.stderr)
    sys.exit(1)
