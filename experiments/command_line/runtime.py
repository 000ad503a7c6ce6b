"""What a binary does to its process before it starts: memory, errors, exit codes."""

import contextlib
import ctypes
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

from experiments.command_line.flags import GROUPS
from experiments.command_line.help import help_text
from experiments.components.ranges import check_flags
from experiments.output.results import versions
from launch import interrupts
from launch.children import PREEMPTED
from metakit.compiler import keep_programs
from metakit.distributed import abort, check_same, initialize, is_first, leave

# Parameters of glibc's mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
  """Makes glibc keep the memory that XLA frees, where there is glibc; otherwise does nothing.

  XLA on a CPU allocates the temporaries of each call anew. Large ones are mapped, zeroed page by
  page and unmapped every time: a conv4 training step on 360 images takes a tenth less without it.
  One arena for all threads would take another sixth off that step, but add a fourth to those of
  second-order MAML, whose many small products each ask for memory.
  """
  with contextlib.suppress(OSError, AttributeError):
    libc = ctypes.CDLL('libc.so.6')
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


# What a user can mend: wrong flags or data, a missing or full disk, a missing optional package, or
# more than memory holds.
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
}


def as_flags(text: str) -> str:
  """Returns an error of the library with the flags in place of the arguments that they set.

  >>> as_flags('rank=9 is not one of 0 to 7')
  '--process_id=9 is not one of 0 to 7'
  """
  names = '|'.join(FLAG_OF)
  return re.sub(rf'(?<![\w-])({names})=', lambda found: f'--{FLAG_OF[found[1]]}=', text)


@contextlib.contextmanager
def one_line_errors(*kinds: type[Exception]) -> Iterator[None]:
  """Turns the given errors, and a lack of memory, into one line on stderr and exit status 1."""
  try:
    yield
  except (*kinds, MemoryError, jax.errors.JaxRuntimeError) as error:
    logging.debug('stopped by', exc_info=True)  # --verbosity=1 shows where
    line = as_flags(' '.join(str(error).split()))
    line = line or type(error).__name__  # a MemoryError may say nothing
    if isinstance(error, MemoryError) or not isinstance(error, kinds):
      if not isinstance(error, MemoryError) and 'RESOURCE_EXHAUSTED' not in line:
        raise
      line = f'out of memory ({line.removeprefix("RESOURCE_EXHAUSTED: ")[:200]}); use {SMALLER}'
    print(f'error: {line}', file=sys.stderr)
    abort(line)
    sys.exit(1)


LOST = 69  # of a process that has lost another one of its run: EX_UNAVAILABLE of sysexits.h


@contextlib.contextmanager
def end_together() -> Iterator[None]:
  """Ends one of several processes at once where anything else is raised.

  JAX would wait for the others before it lets the process end, and they may be lost, or wait for
  this one. A collective fails when one of them is lost, if the devices notice (CPUs do).
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
  """Ends the process, now, as one that the same command continues."""
  leave()  # all together: who stays behind would be aborted
  os.write(sys.stderr.fileno(), f'told to end: {said}; the same command continues\n'.encode())
  # An exception may be swallowed where a signal strikes (a callback, a destructor); and nothing
  # that a binary does is harmed by a kill.
  os._exit(PREEMPTED)


def end_interrupted() -> NoReturn:
  """Ends the process, now, after Ctrl-C; the others of the run are told at their next barrier."""
  try:
    abort('interrupted', interrupts.INTERRUPTED)
  finally:
    interrupts.end_interrupted()


def join_processes() -> None:
  """Joins the other processes of the run, if there are any; the first one alone prints."""
  if flags.FLAGS.cpu_devices:
    jax.config.update('jax_num_cpu_devices', flags.FLAGS.cpu_devices)
  # Before JAX's own: of several processes, its service is to have the signal.
  signal.signal(signal.SIGTERM, lambda *_: end_preempted('nothing is lost'))
  if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as it is in a shell's background
    signal.signal(signal.SIGINT, lambda *_: end_interrupted())
  given: list[Any] = [flags.FLAGS[name].value for name in PROCESS_FLAGS]
  with one_line_errors(*BAD_INPUT):
    initialize(*given)
    check_same(defining_run(), flags.FLAGS.meeting_seconds)
  if not is_first():
    sys.stdout = open(os.devnull, 'w', encoding='utf-8')  # noqa: SIM115


def defining_run() -> dict[str, Any]:
  """Returns what all processes of a run have in common, by the names that users know it by.

  That is the program, every flag but those of one process or machine, and what else numbers depend
  on; the data, which may lie elsewhere on each machine, is for the binary to compare.
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
PROCESS_FLAGS = 'coordinator', 'num_processes', 'process_id', 'meeting_seconds'


def define_processes() -> None:
  """Defines the flags of a run of several processes, and of several devices that are one CPU."""
  flags.DEFINE_integer(
    'cpu_devices', None, 'JAX devices that a CPU is divided into, for --parallel', lower_bound=1
  )
  flags.DEFINE_string('coordinator', None, 'host:port of process 0, if no launcher tells')
  flags.DEFINE_integer('num_processes', None, 'of the run, all machines together', lower_bound=1)
  flags.DEFINE_integer('process_id', None, 'number of this process', lower_bound=0)
  flags.DEFINE_float('meeting_seconds', 300.0, 'how long to wait for the others', 1.0, 1e6)


def run(main: Callable[[], Any], doc: str) -> None:
  """Runs a binary: parses flags, shows every component in --help, returns exit status 0 or not."""
  define_processes()

  def wrapped(arguments: list[str]) -> None:
    if len(arguments) > 1:
      stray = arguments[1]
      print(f'error: unexpected argument {stray!r}; flags are --name=value', file=sys.stderr)
      sys.exit(1)
    if not flags.FLAGS['verbosity'].present:
      logging.set_verbosity(logging.FATAL)  # Orbax narrates every save, and what it raises too
    keep_freed_memory()
    keep_programs()
    join_processes()
    with end_together():
      main()

  if wants_help():
    show_help(doc)
    return
  sys.modules['__main__'].__doc__ = doc
  app.run(wrapped, flags_parser=_parse)


def wants_help() -> bool:
  """Says whether the command line asks for help of ours; --helpfull and --helpxml are absl's."""
  return any(a in ('--help', '-help', '-h', '--helpshort') for a in sys.argv[1:])


def show_help(doc: str) -> None:
  """Prints the help of a binary; its reader may close early (head), or know ASCII alone."""
  if hasattr(signal, 'SIGPIPE'):
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
  encoding = sys.stdout.encoding or 'ascii'
  print(help_text(doc, flags.FLAGS, GROUPS).encode(encoding, 'replace').decode(encoding))


def _parse(arguments: list[str]) -> list[str]:
  """Parses flags; absl's own handler prints the whole usage text after an error."""
  try:
    rest = flags.FLAGS(arguments)
    check_flags(flags.FLAGS)
    return rest
  except flags.Error as error:
    print(f'error: {" ".join(str(error).split())}; see --help', file=sys.stderr)
    sys.exit(1)
