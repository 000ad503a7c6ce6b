"""A lack of memory is one line, found before anything is made where sizes tell."""

import jax
import jax.numpy as jnp
import pytest

from experiments.command_line.runtime import BAD_INPUT, one_line_errors
from experiments.runs import setup as setups
from experiments.runs.setup import check_fits, check_training_memory, make_setup
from metakit.train import TrainState
from tests.experiments.runs.test_setup import parsed


def floats(number):
  return jax.ShapeDtypeStruct((number,), jnp.float32)


def raise_memory_error():
  raise MemoryError('Unable to allocate 7.28 TiB for an array with shape (1000000000000,)')


@pytest.mark.parametrize('make', [lambda: jnp.zeros(10**14, jnp.int8), raise_memory_error])
def test_too_little_memory_is_one_line(make, capsys):
  with pytest.raises(SystemExit) as end, one_line_errors(*BAD_INPUT):
    make()
  assert end.value.code == 1
  said = capsys.readouterr().err
  assert said.startswith('error: out of memory (') and len(said.splitlines()) == 1
  assert 'use a smaller network' in said


def test_what_else_goes_wrong_on_a_device_keeps_its_traceback():
  with pytest.raises(jax.errors.JaxRuntimeError), one_line_errors(*BAD_INPUT):
    raise jax.errors.JaxRuntimeError('INTERNAL: a bug')


def test_a_test_episode_larger_than_the_memory_is_refused(monkeypatch):
  monkeypatch.setattr(setups, 'device_bytes', lambda: 2.0**30)
  learner = ['--learner=in_context', '--network=transformer:width=8,depth=1']
  given = parsed(['--task=dense:shots=2', '--test_task=dense:shots=100000000', *learner])
  with pytest.raises(ValueError, match=r'an episode of dense:.* takes .* GiB and there are 1\.0'):
    check_fits(make_setup(given, '', budget_gib=1))


def test_a_training_larger_than_the_memory_is_refused(monkeypatch):
  monkeypatch.setattr(setups, 'device_bytes', lambda: 2.0**20)
  setup = make_setup(
    parsed(['--task=sinusoid:shots=100,queries=100', '--learner=maml', '--network=mlp']), '', 1
  )
  state = lambda number: TrainState(floats(1), floats(number), floats(number))
  check_training_memory(setup, state(1000), 100)
  with pytest.raises(ValueError, match=r'1,000 episodes of sinusoid:.*use fewer --tasks_per_step'):
    check_training_memory(setup, state(1000), 1000)
  with pytest.raises(ValueError, match=r'training maml takes .*use a smaller mlp'):
    check_training_memory(setup, state(100_000), 100)
