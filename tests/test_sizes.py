"""What cannot fit is refused in one line, before anything is allocated."""

import jax
import jax.numpy as jnp
import pytest

from metakit import sizes
from metakit.data.glyphs import glyphs
from metakit.episodes.categorical import categorical_tasks
from metakit.episodes.functions import (
  decision_trees,
  dense,
  fourier,
  gaussian_mixture,
  haar,
  monomials,
  sparse,
)


@pytest.mark.parametrize(
  'make',
  [
    lambda: glyphs(drawings=10**9),
    lambda: categorical_tasks(10**9, 10**3),
    lambda: dense(10**13),
    lambda: fourier(10**13),
    lambda: gaussian_mixture(10**13),
    lambda: monomials(10**6),
    lambda: haar(100),
    lambda: decision_trees(depth=100),
  ],
)
def test_absurd_sizes_are_refused(make):
  with pytest.raises(ValueError, match=r'GiB and there are|there are 2\^'):
    make()


def test_a_prior_too_large_to_count_is_none():
  assert sparse(10**9, 5 * 10**8).priors is None
  assert sparse(10**5, 10**5 - 1).priors is None


def test_a_control_group_may_have_less_than_the_machine(tmp_path, monkeypatch):
  limit, none = tmp_path / 'memory.max', tmp_path / 'not there'
  limit.write_text('1048576\n')
  monkeypatch.setattr(sizes, 'LIMITS', (limit, none))
  assert sizes.machine_bytes() == 2**20
  sizes.check_memory('a table', 2**20, 'use less')
  with pytest.raises(ValueError, match=r'a table takes 0\.0 GiB and there are 0\.0; use less'):
    sizes.check_memory('a table', 2**20 + 1, 'use less')
  limit.write_text('max\n')
  assert sizes.machine_bytes() > 2**20


def test_shapes_are_counted_without_arrays():
  tree = {
    'a': jax.ShapeDtypeStruct((10**6, 10**6, 10**9), jnp.float32),
    'b': jnp.zeros(3, jnp.int8),
  }
  assert sizes.tree_bytes(tree) == 4 * 10**21 + 3
