"""Memory that XLA frees on a CPU, and needs again in the next call."""

import ctypes

import jax

# Parameters of glibc's mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
  """Makes glibc keep the memory that XLA frees on a CPU. Call it before JAX finds its devices.

  XLA allocates temporaries anew in each call. The system maps large ones, fills them with zeros
  page by page, and unmaps them again. glibc keeps large blocks in the arena of the main thread
  alone. So programs run on that thread, and a call returns when its program has ended; this has no
  effect where a CPU is divided into several devices. A training step of a transformer then takes
  30% less processor time, and second-order MAML on conv4 13% less time. One arena for all threads
  would do as much for the transformer. But the many small products of MAML each ask for memory, and
  a step would take 4% more.

  The process keeps the most memory that it ever needed.

  Returns:
    Whether there is a glibc to be told. Without it nothing happens.

  >>> import platform
  >>> keep_freed_memory() == (platform.libc_ver()[0] == 'glibc')
  True
  """
  try:
    libc = ctypes.CDLL('libc.so.6')
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
  except (OSError, AttributeError):
    return False
  jax.config.update('jax_cpu_enable_async_dispatch', False)
  return True
