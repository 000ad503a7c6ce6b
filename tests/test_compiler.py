"""Numbers that XLA gets wrong on CPUs unless metakit turns some of its fusions off."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metakit.compiler import FUSIONS, turn_off_wrong_fusions
from metakit.platforms import compiling_for, target_platform
from metakit.program_cache import keep_programs

# What the other operand of the product is broadcast from, and what is done with the product.
PRODUCTS = {
  'zeros': lambda x: (x @ jnp.zeros((20, 1140))).sum(),
  'ones': lambda x: (x @ jnp.ones((20, 1140))).sum(1),
  'a column': lambda x: jnp.square(x @ jnp.broadcast_to(x[0][:, None], (20, 1140))).mean(),
  'largest': lambda x: (x @ jnp.ones((20, 1140))).max(),
}


@pytest.mark.compiler
@pytest.mark.parametrize('name', PRODUCTS)
def test_a_reduced_product_is_that_without_jit(name):
  x = jax.random.normal(jax.random.key(0), (12, 20))
  for _ in range(3):  # what nobody wrote is not always what these leave behind
    sizes = [times * size for times in range(1, 6) for size in (12, 13_680, 22_800)]
    jax.block_until_ready([jnp.full((size,), 3e30) + 1 for size in sizes])
    given = jax.jit(PRODUCTS[name])(x)
    np.testing.assert_allclose(given, PRODUCTS[name](x), rtol=1e-4, atol=1e-3)


@pytest.mark.compiler
def test_products_of_many_rows_are_right_to_the_last_one():
  rows = jnp.stack([jnp.arange(40_000.0), jnp.zeros(40_000), jnp.zeros(40_000)], 1)
  squares = jax.jit(jax.vmap(lambda row: jnp.square(jnp.eye(3) @ row).sum()))(rows)
  np.testing.assert_allclose(squares, rows[:, 0] ** 2, rtol=1e-6)


def test_flags_of_the_user_stay():
  for flags, wanted in {
    '': f'{FUSIONS}=-reduce',
    '--xla_a=1': f'--xla_a=1 {FUSIONS}=-reduce',
    f'{FUSIONS}=dot': f'{FUSIONS}=dot',
  }.items():
    environment = {'XLA_FLAGS': flags}
    turn_off_wrong_fusions(environment)
    assert environment == {'XLA_FLAGS': wanted}
  environment = {}
  turn_off_wrong_fusions(environment)
  assert environment == {'XLA_FLAGS': f'{FUSIONS}=-reduce'}


def test_flags_that_come_too_late_or_cannot_be_added_are_a_warning(tmp_path):
  with pytest.warns(
    RuntimeWarning, match='too late.*import metakit before the first JAX operation'
  ):
    turn_off_wrong_fusions({}, late=True)
  turn_off_wrong_fusions({'XLA_FLAGS': f'{FUSIONS}=-reduce'}, late=True)  # it was on in time
  file = tmp_path / 'flags'
  file.write_text(f'{FUSIONS}=-reduce')
  turn_off_wrong_fusions({'XLA_FLAGS': str(file)})
  environment = {'XLA_FLAGS': '/a/file/of/flags'}
  with pytest.warns(RuntimeWarning, match='/a/file/of/flags.*add --xla_cpu'):
    turn_off_wrong_fusions(environment)
  assert environment == {'XLA_FLAGS': '/a/file/of/flags'}


def test_importing_metakit_after_a_jax_operation_warns():
  program = 'import jax; jax.devices(); import metakit'
  own = {name: value for name, value in os.environ.items() if name != 'XLA_FLAGS'}
  ended = subprocess.run([sys.executable, '-c', program], env=own, capture_output=True, text=True)
  assert ended.returncode == 0
  assert '<string>:1: RuntimeWarning: sums over matrix products may be wrong' in ended.stderr


@pytest.fixture
def no_cache():
  """These tests have a folder of programs themselves."""
  names = 'jax_compilation_cache_dir', 'jax_persistent_cache_min_compile_time_secs'
  before = {name: getattr(jax.config, name) for name in names}
  jax.config.update('jax_compilation_cache_dir', None)
  yield
  for name, value in before.items():
    jax.config.update(name, value)


def test_programs_are_kept_where_the_user_has_a_cache(tmp_path, no_cache):
  keep_programs({'HOME': str(tmp_path)})
  folder = next((tmp_path / '.cache' / 'metakit').iterdir())
  assert jax.config.jax_compilation_cache_dir == str(folder)
  assert jax.config.jax_persistent_cache_min_compile_time_secs == 0
  keep_programs({'HOME': str(tmp_path), 'XDG_CACHE_HOME': str(tmp_path / 'xdg')})
  assert not (tmp_path / 'xdg').exists()  # it has been chosen
  jax.config.update('jax_compilation_cache_dir', None)
  keep_programs({'HOME': str(tmp_path), 'XDG_CACHE_HOME': str(tmp_path / 'xdg')})
  assert jax.config.jax_compilation_cache_dir.startswith(str(tmp_path / 'xdg' / 'metakit'))


def test_nothing_is_kept_where_the_user_says_so_or_cannot_write(tmp_path, no_cache):
  keep_programs({'HOME': str(tmp_path), 'JAX_COMPILATION_CACHE_DIR': '/elsewhere'})
  (tmp_path / 'file').touch()
  keep_programs({'HOME': str(tmp_path / 'file')})
  assert jax.config.jax_compilation_cache_dir is None
  assert [each.name for each in tmp_path.iterdir()] == ['file']


def test_a_platform_can_be_compiled_for_that_is_not_there():
  assert target_platform() == 'cpu'
  with compiling_for('tpu'):
    assert target_platform() == 'tpu'
  assert target_platform() == 'cpu'
