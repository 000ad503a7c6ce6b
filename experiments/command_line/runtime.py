"""How a command runs in its process: memory, errors in one line, exit codes, other processes."""

import contextlib
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import jax
from absl import app, flags, logging

from experiments.command_line.checks import check_flags
from experiments.command_line.flags import GROUPS
from experiments.command_line.help import help_text
from experiments.output.machine import versions
from launch import interrupts
from launch.children import PREEMPTED
from metakit.distributed import abort, check_same, initialize, is_first, leave
from metakit.freed_memory import keep_freed_memory
from metakit.program_cache import keep_programs

# Errors that a user can mend: wrong flags or data, a missing or full disk, a missing optional
# package, or too little memory.
BAD_INPUT = (ValueError, OSError, ImportError, MemoryError)


SMALLER = 'a smaller network, fewer or smaller examples, --tasks_at_once=1, or fewer tasks'


# Arguments of the library, as its errors write them (rank=3), and the flags that set them.
FLAG_OF = {
  'coordinator': 'coordinator',
  'processes': 'num_processes',
  'rank': 'process_id',
  'data_dir': 'data_dir',
  'parallel': 'parallel',
  'part': 'split',
  'workdir': 'workdir',
}


def as_flags(text: str) -> str:
  """Returns an error of the library with the flags in place of the arguments that they set.

  >>> as_flags('rank=9 is not one of 0 to 7')
  '--process_id=9 is not one of 0 to 7'
  """
  names = '|'.join(FLAG_OF)
  return re.sub(rf'(?<![\w-])({names})=', lambda match: f'--{FLAG_OF[match[1]]}=', text)


@contextlib.contextmanager
def one_line_errors(*kinds: type[Exception]) -> Iterator[None]:
  """Turns the given errors, and a lack of memory, into one line on stderr and exit status 1."""
  try:
    yield
  except (*kinds, MemoryError, jax.errors.JaxRuntimeError) as error:
    logging.debug('stopped by', exc_info=True)  # --verbosity=1 shows where the error was raised
    line = as_flags(' '.join(str(error).split()))
    line = line or type(error).__name__  # a MemoryError may have no text
    if isinstance(error, MemoryError) or not isinstance(error, kinds):
      if not isinstance(error, MemoryError) and 'RESOURCE_EXHAUSTED' not in line:
        raise
      line = f'out of memory ({line.removeprefix("RESOURCE_EXHAUSTED: ")[:200]}); use {SMALLER}'
    print(f'error: {line}', file=sys.stderr)
    abort(line)
    sys.exit(1)


LOST = 69  # exit status of a process that lost another one of its run: EX_UNAVAILABLE of sysexits.h


@contextlib.contextmanager
def end_together() -> Iterator[None]:
  """Ends a process of several at once, if the block raises any other error.

  JAX would wait for the other processes before this one ends. But they may be lost, or wait for
  this one. When a process is lost, a collective fails if the devices notice it, as CPUs do.
  """
  try:
    yield
  except Exception as error:
    if not jax.distributed.is_initialized():
      raise
    if not isinstance(error, jax.errors.JaxRuntimeError):
      traceback.print_exc()
      abort(f'{type(error).__name__}: {" ".join(str(error).split())}')
    reason = ' '.join(str(error).split())[:200]
    line = f'another process is lost, or the devices fail ({reason}); the same command continues'
    logging.debug('stopped by', exc_info=True)
    print(f'error: {line}', file=sys.stderr)
    abort(line, LOST)


def end_preempted(said: str) -> NoReturn:
  """Ends the process at once, with the status that says that the same command continues the run."""
  leave()  # all processes leave together, since one that stays behind would be aborted
  os.write(sys.stderr.fileno(), f'told to end: {said}; the same command continues\n'.encode())
  # An exception would not do: the code that a signal interrupts (a callback, a destructor) may
  # swallow it. To end at once harms nothing, as a kill does not.
  os._exit(PREEMPTED)


def end_interrupted() -> NoReturn:
  """Ends the process at once after Ctrl-C. The other processes learn it at their next barrier."""
  try:
    abort('interrupted', interrupts.INTERRUPTED)
  finally:
    interrupts.end_interrupted()


def join_processes() -> None:
  """Joins the other processes of the run, if there are any. Then only the first one prints."""
  if flags.FLAGS.cpu_devices:
    jax.config.update('jax_num_cpu_devices', flags.FLAGS.cpu_devices)
  # This handler comes first, since with several processes JAX's service must have the signal.
  signal.signal(signal.SIGTERM, lambda *_: end_preempted('nothing is lost'))
  if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # a shell's background ignores it
    signal.signal(signal.SIGINT, lambda *_: end_interrupted())
  with one_line_errors(*BAD_INPUT):
    initialize(
      flags.FLAGS.coordinator,
      flags.FLAGS.num_processes,
      flags.FLAGS.process_id,
      seconds=flags.FLAGS.meeting_seconds,
    )
    check_same(defining_run(), flags.FLAGS.meeting_seconds)
  if not is_first():
    sys.stdout = open(os.devnull, 'w', encoding='utf-8')  # noqa: SIM115


def defining_run() -> dict[str, Any]:
  """Returns what must be the same in all processes of a run, by the names that users know.

  That is the program, every flag except those of one process or machine, and all else that numbers
  depend on. Data may lie in another place on each machine, so the command compares it.
  """
  same: dict[str, Any] = {'program': Path(sys.argv[0]).stem}
  for module, defined in flags.FLAGS.flags_by_module_dict().items():
    if module == sys.argv[0] or module.partition('.')[0] in ('experiments', 'launch'):
      same |= {f'--{flag.name}': flag.value for flag in defined if flag.name not in LOCAL_FLAGS}
  same |= {name: getattr(jax.config, name) for name in JAX_SETTINGS}
  known = versions()
  return same | {name: known[name] for name in ('metakit', 'jax', 'jaxlib')}


JAX_SETTINGS = (
  *('jax_enable_x64', 'jax_default_prng_impl', 'jax_threefry_partitionable'),
  *('jax_default_matmul_precision', 'jax_numpy_dtype_promotion'),
)
LOCAL_FLAGS = 'coordinator', 'process_id', 'meeting_seconds', 'cpu_devices', 'workdir', 'data_dir'


def define_processes() -> None:
  """Defines the flags for several processes, and for several devices of one CPU."""
  flags.DEFINE_integer(
    'cpu_devices', None, 'JAX devices that a CPU is divided into, for --parallel', lower_bound=1
  )
  flags.DEFINE_string('coordinator', None, 'host:port of process 0, if no launcher sets it')
  flags.DEFINE_integer(
    'num_processes', None, 'processes of the run, on all machines together', lower_bound=1
  )
  flags.DEFINE_integer('process_id', None, 'number of this process', lower_bound=0)
  flags.DEFINE_float('meeting_seconds', 300.0, 'seconds to wait for the other processes', 1.0, 1e6)


def run(main: Callable[..., Any], doc: str, *, takes: str = '') -> None:
  """Runs a binary: parses flags, shows every component in --help, returns exit status 0 or not.

  Args:
    main: what to do; it gets the argument, if one is given.
    doc: the first part of --help.
    takes: what the one argument without a flag is; '' if there is none.
  """
  define_processes()

  def wrapped(arguments: list[str]) -> None:
    most = 1 if takes else 0
    if len(arguments) > 1 + most:
      stray = arguments[1 + most]
      print(f'error: unexpected argument {stray!r}; flags are --name=value', file=sys.stderr)
      sys.exit(1)
    if not flags.FLAGS['verbosity'].present:
      logging.set_verbosity(logging.FATAL)  # Orbax logs every save, and also every error it raises
    keep_freed_memory()
    keep_programs()
    join_processes()
    with end_together():
      main(*arguments[1:])

  if wants_help():
    show_help(doc)
    return
  sys.modules['__main__'].__doc__ = doc
  app.run(wrapped, flags_parser=_parse)


def wants_help() -> bool:
  """Says whether the command line has --help or the like; absl answers --helpfull and --helpxml."""
  return any(a in ('--help', '-help', '-h', '--helpshort') for a in sys.argv[1:])


def show_help(doc: str) -> None:
  """Prints the help of a command. Its reader may close early (head), or take only ASCII."""
  if hasattr(signal, 'SIGPIPE'):
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
  encoding = sys.stdout.encoding or 'ascii'
  print(help_text(doc, flags.FLAGS, GROUPS).encode(encoding, 'replace').decode(encoding))


def check_named(values: flags.FlagValues) -> None:
  """Raises flags.IllegalFlagValueError for an empty spec, as a shell's unset variable gives."""
  for name in GROUPS['Components (see below)']:
    given = values[name].value if name in values and values[name].present else None
    if '' in (given if isinstance(given, list) else [given]):
      raise flags.IllegalFlagValueError(
        f'--{name}= is empty; give a {name.removeprefix("test_")}, or leave the flag out'
      )


def _parse(arguments: list[str]) -> list[str]:
  """Parses flags; absl's own handler prints the whole usage text after an error."""
  try:
    rest = flags.FLAGS(arguments)
    check_flags(flags.FLAGS)
    check_named(flags.FLAGS)
    return rest
  except flags.Error as error:
    print(f'error: {" ".join(str(error).split())}; see --help', file=sys.stderr)
    sys.exit(1)
