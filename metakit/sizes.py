"""Sizes are checked before anything is allocated: a line, rather than a process that is killed."""

import contextlib
import math
import os
from pathlib import Path
from typing import Any

import jax

# What a control group (a container, a batch job) may use, by version; 'max' for all.
LIMITS = Path('/sys/fs/cgroup/memory.max'), Path('/sys/fs/cgroup/memory/memory.limit_in_bytes')
FREE = Path('/proc/meminfo')


def machine_bytes() -> float:
  """Returns the memory of this machine or, if that is less, of the process's control group."""
  known = [math.inf]
  with contextlib.suppress(AttributeError, ValueError, OSError):  # not on every system
    known.append(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES'))
  for path in LIMITS:
    with contextlib.suppress(OSError, ValueError):
      known.append(int(path.read_text()))
  return min(known)


def memory_left() -> float:
  """Returns the memory that is free on this machine, or that its control group may use if less."""
  free = math.inf
  with contextlib.suppress(OSError, KeyError, ValueError, IndexError):
    lines = (line.split() for line in FREE.read_text().splitlines())
    kib = {words[0]: int(words[1]) for words in lines}
    free = 1024 * (kib['MemAvailable:'] + kib['SwapFree:'])
  return min(free, machine_bytes())


def device_bytes() -> float:
  """Returns the memory of one JAX device of this process; that of the machine if it is a CPU."""
  device = jax.local_devices()[0]
  stats = None if device.platform == 'cpu' else device.memory_stats()
  return (stats or {}).get('bytes_limit') or machine_bytes()


def tree_bytes(tree: Any) -> int:
  """Returns the size of arrays, or of their shapes."""
  size = lambda leaf: math.prod(leaf.shape) * leaf.dtype.itemsize
  return sum(size(leaf) for leaf in jax.tree.leaves(tree))


def check_memory(what: str, size: float, remedy: str, limit: float | None = None) -> None:
  """Checks that something has room at all.

  Args:
    what: it is, for the message.
    size: in bytes.
    remedy: what to do if it has not.
    limit: bytes there are, free or not; by default those of the machine.

  Raises:
    ValueError: if it is larger.
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
