"""Keeps a defect of XLA out of every process that imports metakit.

On CPUs, jaxlib 0.10.2 to 0.12.0 at least fuse a matrix product and a reduction of it into one call
of YNNPACK, which reads memory that nobody wrote where the other operand is a broadcast:
`jax.jit(lambda x: (x @ jnp.ones((20, 1140))).sum())` of a [12, 20] array gives 1e29, another number
in another process, and no error. (0.10.2 is also wrong for products of more than 32,768 rows.)
The Bayes predictor of sparse functions was NaN by it; a loss or its gradient may be wrong.
"""

import os
from collections.abc import MutableMapping

import jax

FUSIONS = '--xla_cpu_experimental_ynn_fusion_type'


def turn_off_wrong_fusions(environment: MutableMapping[str, str] = os.environ) -> None:
  """Adds to XLA_FLAGS that reductions are not fused by YNNPACK.

  XLA reads them when JAX is first asked for a device; afterwards this changes nothing. Left alone
  are flags that say something about these fusions already, flags in a file, and versions of JAX
  that are not known to take the flag: an unknown one aborts the process.

  Args:
    environment: the variables of the process.
  """
  flags = environment.get('XLA_FLAGS', '').strip()
  in_a_file = flags and not flags.startswith('-')
  if FUSIONS not in flags and not in_a_file and jax.__version_info__ < (0, 13):
    environment['XLA_FLAGS'] = f'{flags} {FUSIONS}=-reduce'.lstrip()
