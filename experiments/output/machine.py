"""What a result was measured on: the device, and the versions of packages."""

import contextlib
import importlib.metadata
import os
import platform
from collections import Counter
from pathlib import Path

import jax

_PACKAGES = {'orbax': 'orbax-checkpoint'}  # distributions whose names differ from their packages
_REPORTED = ('jax', 'jaxlib', 'flax', 'optax', 'numpy', 'orbax', 'metakit')


def describe_device() -> str:
  """Returns the kind and number of JAX devices of all processes: 'NVIDIA H100 80GB HBM3 x1'.

  On a CPU the number is that of the cores this process may use, since JAX sees one device (or as
  many as XLA_FLAGS pretends there are): 'cpu x2 (AMD EPYC)'.
  """
  devices = jax.devices()
  if devices[0].platform == 'cpu':
    model = _cpu_model()
    return f'cpu x{_cores()}' + (f' ({model})' if model else '')
  kinds = Counter(device.device_kind for device in devices)
  return ' + '.join(f'{kind} x{count}' for kind, count in kinds.items())


def _cores() -> int:
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def _cpu_model() -> str:
  with contextlib.suppress(OSError):
    for line in Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines():
      if line.startswith('model name'):
        return line.partition(':')[2].strip()
  return platform.processor()


def versions() -> dict[str, str | None]:
  """Returns the versions of Python and of the packages that determine a result; None if absent."""

  def version(name: str) -> str | None:
    try:
      return importlib.metadata.version(_PACKAGES.get(name, name))
    except importlib.metadata.PackageNotFoundError:
      return None

  return {'python': platform.python_version()} | {name: version(name) for name in _REPORTED}
