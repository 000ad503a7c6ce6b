"""Memory that XLA frees is not asked of the system again."""

import platform
import resource
import subprocess
import sys

import pytest

from tests.experiments.commands import whole_environment

PROGRAM = """
import resource
import sys
import jax
import jax.numpy as jnp
from metakit.freed_memory import keep_freed_memory
if 'keep' in sys.argv:
  keep_freed_memory()
large = jax.jit(lambda x: jnp.outer(x, x) @ jnp.ones((x.size, 8)))  # temporaries of 64 MiB
x = jnp.ones(4096)
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
asked = []
for _ in range(8):  # in some of the first, blocks find their places
  before = faults()
  large(x).block_until_ready()
  asked.append(faults() - before)
print(sorted(asked)[4])
"""


def pages(*arguments: str) -> int:
  run = [sys.executable, '-c', PROGRAM, *arguments]
  ended = subprocess.run(
    run, check=True, capture_output=True, text=True, env=whole_environment()
  )  # with one device
  return int(ended.stdout)


@pytest.mark.slow  # two processes
@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='glibc is told to keep memory')
def test_later_calls_ask_for_no_new_pages():
  assert pages('keep') < 100 < 64 * 2**20 // resource.getpagesize() // 2 < pages()
