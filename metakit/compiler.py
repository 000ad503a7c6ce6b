"""A defect of XLA that metakit avoids: wrong sums over matrix products.

On CPUs, jaxlib 0.10.2 to 0.12.0 (at least) can fuse a matrix product and a sum over it
into one call of YNNPACK. If one operand is a broadcast, that call reads memory that nobody wrote.
For example, `jax.jit(lambda x: (x @ jnp.ones((20, 1140))).sum())` of a [12, 20] array gives 1e29,
and another number in another process, without an error. 0.10.2 is also wrong for products of more
than 32,768 rows. A loss or its gradient may be wrong; the Bayes predictor of sparse functions was
NaN.
"""

import contextlib
import os
import warnings
from collections.abc import MutableMapping
from pathlib import Path

import jax
from jax._src.xla_bridge import backends_are_initialized  # there is no public way

FUSIONS = '--xla_cpu_experimental_ynn_fusion_type'


def turn_off_wrong_fusions(
  environment: MutableMapping[str, str] = os.environ, late: bool = False
) -> None:
  """Adds a flag to XLA_FLAGS, so that YNNPACK does not fuse sums.

  XLA reads XLA_FLAGS when JAX is first asked for a device. If that has happened, or if the flags
  are in a file, this function can only warn (RuntimeWarning) that sums may be wrong.

  It does nothing in two cases. One is that XLA_FLAGS already says something about these fusions.
  The other is a version of JAX that may not know the flag, since an unknown flag aborts the
  process.

  Args:
    environment: the variables of the process.
    late: whether a CPU has computed already; see used_a_cpu.
  """
  flags = environment.get('XLA_FLAGS', '').strip()
  in_a_file = flags and not flags.startswith('-')
  if FUSIONS in (_content(flags) if in_a_file else flags) or jax.__version_info__ >= (0, 13):
    return
  if in_a_file:
    _warn(f'is not in the file that XLA_FLAGS names ({flags}); add {FUSIONS}=-reduce to it')
    return
  # If this is too late for this process, it still helps its child processes.
  environment['XLA_FLAGS'] = f'{flags} {FUSIONS}=-reduce'.lstrip()
  if late:
    _warn(
      'comes too late: JAX was used before metakit was imported; import metakit before the first '
      f'JAX operation, or start with XLA_FLAGS={FUSIONS}=-reduce'
    )


def used_a_cpu() -> bool:
  """Says whether JAX has its devices already and computes on a CPU. It asks for no device."""
  return backends_are_initialized() and jax.default_backend() == 'cpu'


def _content(file: str) -> str:
  with contextlib.suppress(OSError, UnicodeDecodeError):
    return Path(file).read_text(encoding='utf-8')
  return ''


def _warn(what: str) -> None:
  text = 'sums over matrix products may be wrong on this CPU, for the flag against it ' + what
  warnings.warn(text, RuntimeWarning, stacklevel=4)  # at the import of metakit
