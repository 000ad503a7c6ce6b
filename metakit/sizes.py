"""Checks of sizes before anything is allocated: an error in place of a killed process."""

import contextlib
import math
import os
from pathlib import Path
from typing import Any

import jax

# Files that say how much memory a control group (a container, a batch job) may use, for versions 2
# and 1; 'max' means all.
LIMITS = Path('/sys/fs/cgroup/memory.max'), Path('/sys/fs/cgroup/memory/memory.limit_in_bytes')
FREE = Path('/proc/meminfo')


def machine_bytes() -> float:
  """Returns the memory of this machine, or of the control group of the process if that is less."""
  known = [math.inf]
  with contextlib.suppress(AttributeError, ValueError, OSError):  # not on every system
    known.append(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES'))
  for path in LIMITS:
    with contextlib.suppress(OSError, ValueError):
      known.append(int(path.read_text()))
  return min(known)


def memory_left() -> float:
  """Returns the free memory of this machine, or what its control group may use if that is less."""
  free = math.inf
  with contextlib.suppress(OSError, KeyError, ValueError, IndexError):
    lines = (line.split() for line in FREE.read_text().splitlines())
    kib = {words[0]: int(words[1]) for words in lines}
    free = 1024 * (kib['MemAvailable:'] + kib['SwapFree:'])
  return min(free, machine_bytes())


def device_bytes() -> float:
  """Returns the memory of one JAX device of this process; for a CPU, that of the machine."""
  device = jax.local_devices()[0]
  stats = None if device.platform == 'cpu' else device.memory_stats()
  return (stats or {}).get('bytes_limit') or machine_bytes()


def tree_bytes(tree: Any) -> int:
  """Returns the bytes of a tree of arrays, or of their shapes and types."""
  size = lambda leaf: math.prod(leaf.shape) * leaf.dtype.itemsize
  return sum(size(leaf) for leaf in jax.tree.leaves(tree))


def check_memory(what: str, size: float, remedy: str, *, limit: float | None = None) -> None:
  """Checks that something fits into memory at all.

  Args:
    what: names it, for the message.
    size: in bytes.
    remedy: what to do if it does not fit.
    limit: bytes of memory, free or not; by default those of the machine.

  Raises:
    ValueError: if it does not fit.
  """
  limit = machine_bytes() if limit is None else limit
  if size > limit:
    raise ValueError(
      f'{what} takes {size / 2**30:,.1f} GiB and there are {limit / 2**30:,.1f}; {remedy}'
    )


def check_positive(**sizes: float) -> None:
  """Raises ValueError, naming the argument, unless all sizes are positive and finite."""
  for name, value in sizes.items():
    if not (value > 0 and math.isfinite(value)):
      raise ValueError(f'{name}={value} is not positive; use {name}>=1')
