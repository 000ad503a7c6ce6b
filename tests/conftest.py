"""Every test sees eight CPU devices, and every warning is an error (pyproject.toml).

Tests compile much and compute little, so programs are compiled without optimisation, which takes a
fourth of the time. Binaries that tests start, and any XLA_FLAGS that say how many devices there
are, keep the compiler that users have; .ci/run runs what is marked `compiler` with it once more.
"""

import os
import signal
from pathlib import Path

# experiments/ and launch/ are a clone's: programs that tests start elsewhere find them so.
ROOT, BEFORE = str(Path(__file__).parents[1]), os.environ.get('PYTHONPATH')
os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, (ROOT, BEFORE)))

os.environ.setdefault('JAX_PLATFORMS', 'cpu')  # read when JAX is imported

# Tests compile the same programs in several processes, and those that they start do.
ROOT = Path(__file__).parents[1]
for name, value in {
  'JAX_COMPILATION_CACHE_DIR': str(ROOT / '.pytest_cache' / 'jax'),
  'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
  'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '0',
  'TF_CPP_MIN_LOG_LEVEL': '3',  # jaxlib 0.10.0 complains when it reads a program of its own
}.items():
  os.environ.setdefault(name, value)

import jax
import pytest

DEVICES = '--xla_force_host_platform_device_count'
# Of a program LLVM makes 32 pieces for as many threads. A piece costs more than a small program.
FAST = ['--xla_backend_optimization_level=0', '--xla_cpu_parallel_codegen_split_count=1']
if jax.__version_info__ < (0, 11):  # an unknown flag aborts the process
  FAST.append('--xla_cpu_use_fusion_emitters=false')

if DEVICES not in os.environ.get('XLA_FLAGS', ''):  # read when a device is first asked for
  os.environ['XLA_FLAGS'] = ' '.join([os.environ.get('XLA_FLAGS', ''), f'{DEVICES}=8', *FAST])

import metakit  # noqa: F401  (adds to XLA_FLAGS too)
from tests.budgets import Budgets

jax.config.update('jax_numpy_rank_promotion', 'allow')

# A shell starts what runs in the background, and nohup anything, with signals ignored, and so would
# be the programs that tests start and send signals to.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
  if signal.getsignal(number) == signal.SIG_IGN:
    signal.signal(number, usual)

DATA = Path(os.environ.get('METAKIT_DATA') or Path(__file__).parents[2] / 'shared' / 'data')


def pytest_addoption(parser):
  parser.addoption(
    '--write-budgets', action='store_true', help='measure and write tests/budgets.txt'
  )


def pytest_configure(config):
  config.pluginmanager.register(Budgets(config))


@pytest.fixture(scope='session')
def data_dir() -> Path:
  """The folder of real data; the test is skipped where there is none."""
  if not DATA.is_dir():
    pytest.skip(f'no real data at {DATA}; set METAKIT_DATA to its folder')
  return DATA
