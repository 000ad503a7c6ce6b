"""What the launchers share: a command line, and the one function that starts other programs."""

import math
import re
import secrets
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from absl import app, flags

from launch.children import ENDING, children

TOKEN = 'TOKEN'  # what a dry run shows in place of the token of a run


class Refused(Exception):
  """The launcher does not start. The message says why in one line, and what to do."""


class Interrupted(BaseException):
  """A signal tells the launcher to end."""

  def __init__(self, number: int):
    super().__init__(number)
    self.signal = signal.Signals(number)


class Called(NamedTuple):
  """The exit status of a program and, if they were captured, its two outputs."""

  returncode: int
  stdout: str
  stderr: str


def define_dry_run() -> None:
  """Defines --dry_run."""
  flags.DEFINE_bool('dry_run', False, 'print what would be done, and do nothing')


def call(argv: Sequence[str], *, capture: bool = False, **options: Any) -> Called:
  """Runs a program to its end. Launchers start programs only by this function.

  Args:
    argv: the program and its arguments.
    capture: True returns what the program prints; False shows it.
    **options: `input`, a text, and the options of subprocess.Popen.

  Raises:
    Refused: if there is no such program.
    Interrupted: if a signal tells this process to end; the program has ended then.
  """
  text = options.pop('input', None)
  pipe = subprocess.PIPE if capture else None
  options |= {'stdin': None if text is None else subprocess.PIPE, 'stdout': pipe, 'stderr': pipe}
  try:
    with children() as programs:
      process = programs.start(list(argv), text=True, errors='replace', **options)
      out, error = process.communicate(text)
  except FileNotFoundError:
    raise Refused(f'{argv[0]} is not installed; install it, or look at --dry_run') from None
  if programs.signals:
    raise Interrupted(programs.signals[0])
  return Called(process.returncode, out or '', error or '')


def show(argv: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
  """Returns a command as it would be typed."""
  variables = [f'{name}={shlex.quote(value)}' for name, value in (environment or {}).items()]
  return ' '.join([*variables, shlex.join(argv)])


def check_text(flag: str, value: str) -> str:
  """Returns a value that is to be written into a file or a command.

  Raises:
    Refused: if it has an end of line, or another character that is not printed.
  """
  if not value.isprintable():
    raise Refused(f'{flag}={value!r} has characters that are not printed; leave them out')
  return value


def check_name(flag: str, name: str, most: int = 63) -> str:
  """Returns the name of a machine or job: a label of RFC 1123 that begins with a letter (RFC 1035).

  Args:
    flag: the flag that gives the name.
    name: the name.
    most: how many characters it may have.

  Raises:
    Refused: if it is not such a name.
  """
  if not re.fullmatch('[a-z]([-a-z0-9]*[a-z0-9])?', name) or len(name) > most:
    raise Refused(
      f'{flag}={name!r} is not a valid name; use at most {most} characters of a to z, 0 to 9 '
      'and -, beginning with a letter and not ending with -'
    )
  return name


def check_match(flag: str, value: str | None, pattern: str, *, example: str) -> str | None:
  """Returns a value of a known form, or None.

  Raises:
    Refused: if it has another form.
  """
  if value is not None and not re.fullmatch(pattern, value):
    raise Refused(f'{flag}={value!r} has another form than is needed; it looks like {example}')
  return value


def new_token() -> str:
  """Returns a token for a run, by which its processes know each other (METAKIT_TOKEN)."""
  return TOKEN if flags.FLAGS.dry_run else secrets.token_hex(16)


def run(main: Callable[[list[str]], int], doc: str) -> None:
  """Runs a launcher: main gets the command after `--`, and returns the exit status."""

  def wrapped(arguments: list[str]) -> None:
    for number in ENDING:
      if signal.getsignal(number) is not signal.SIG_IGN:
        signal.signal(number, _interrupt)
    try:
      if len(arguments) < 2:
        raise Refused('no command; give one after --, such as -- python -m experiments.train')
      sys.exit(main(arguments[1:]))
    except Refused as refused:
      print(f'error: {refused}', file=sys.stderr)
      sys.exit(1)
    except Interrupted as interrupted:
      print(f'ended by {interrupted.signal.name}', file=sys.stderr)
      sys.exit(128 + interrupted.signal)

  sys.modules['__main__'].__doc__ = doc
  app.run(wrapped, flags_parser=_parse)


def _interrupt(number: int, frame: Any) -> None:
  del frame
  raise Interrupted(number)


def _check_finite(values: flags.FlagValues) -> None:
  """Raises flags.IllegalFlagValueError for NaN and infinity, which the bounds of absl let pass.

  metakit has this check too; but its import loads JAX, and a launcher starts at once.
  """
  for flag in map(values.__getitem__, values):
    if isinstance(flag.value, float) and not math.isfinite(flag.value):
      raise flags.IllegalFlagValueError(f'--{flag.name}={flag.value} is not finite; use a number')


def _parse(arguments: list[str]) -> list[str]:
  try:
    rest = flags.FLAGS(arguments)
    _check_finite(flags.FLAGS)
    return rest
  except flags.Error as error:
    print(f'error: {" ".join(str(error).split())}; see --help', file=sys.stderr)
    sys.exit(1)
