import contextlib
import json
import os
import re
import resource

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.output import machine, results
from experiments.output import text as text_of
from experiments.output.results import read_results, result_record, write_results
from metakit import Estimate, files


def record(**changes):
  arguments = {
    'metric': 'accuracy',
    'estimate': Estimate(0.984, 0.0013, 10_000),
    'seed': 0,
    'protocol': 'inductive',
    'task': 'omniglot:ways=5,shots=1,queries=15',
    'learner': 'prototypical:distance=squared_euclidean',
    'network': 'conv4:width=64',
    'optimizer': 'adam:learning_rate=0.001',
    'steps': 5000,
    'train_seconds': 2460.5,
    'command': 'python -m experiments.train --task=omniglot',
  }
  return result_record(**(arguments | changes))


@contextlib.contextmanager
def files_limited_to(size):
  """A real failure in the middle of a write: the system refuses bytes from `size` on."""
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_is_written_is_read(tmp_path):
  write_results(tmp_path / 'results.json', record(published=0.988))
  read = read_results(tmp_path / 'results.json')
  assert read == record(published=0.988)
  assert read['mean'] == 0.984 and read['ci95'] == 0.0013 and read['episodes'] == 10_000


def test_a_record_has_every_promised_key():
  promised = 'metric mean ci95 episodes seed protocol task learner network steps train_seconds'
  assert {*promised.split(), 'device', 'versions', 'command'} <= record().keys()


def test_the_same_run_gives_the_same_file(tmp_path):
  write_results(tmp_path / 'a.json', record())
  write_results(tmp_path / 'b.json', record())
  assert (tmp_path / 'a.json').read_bytes() == (tmp_path / 'b.json').read_bytes()


def test_a_failure_in_the_middle_leaves_the_former_file_and_nothing_else(tmp_path):
  path = tmp_path / 'results.json'
  write_results(path, record(seed=1))
  with (
    files_limited_to(100),
    pytest.raises(OSError, match=re.escape(f'cannot write {path}')) as error,
  ):
    write_results(path, record(seed=2))
  assert len(str(error.value).splitlines()) == 1
  assert read_results(path)['seed'] == 1
  assert os.listdir(tmp_path) == ['results.json']


def test_a_failure_before_there_is_a_file_leaves_none(tmp_path):
  with files_limited_to(100), pytest.raises(OSError):
    write_results(tmp_path / 'results.json', record())
  assert os.listdir(tmp_path) == []


def test_an_interruption_before_the_rename_leaves_the_former_file(tmp_path, monkeypatch):
  path = tmp_path / 'results.json'
  write_results(path, record(seed=1))

  def interrupt(*paths):
    raise KeyboardInterrupt

  monkeypatch.setattr(files.os, 'replace', interrupt)
  with pytest.raises(KeyboardInterrupt):
    write_results(path, record(seed=2))
  assert read_results(path)['seed'] == 1 and os.listdir(tmp_path) == ['results.json']


def test_a_path_that_cannot_be_is_named(tmp_path):
  (tmp_path / 'file').write_text('')
  path = tmp_path / 'file' / 'results.json'
  with pytest.raises(NotADirectoryError, match=re.escape(str(path))):
    write_results(path, record())


def test_not_a_number_is_null_and_arrays_are_numbers(tmp_path):
  more = {'curve': [np.float32(0.5), float('inf')], 'steps': np.int64(7), 'loss': jnp.float32(2)}
  write_results(tmp_path / 'r.json', record(estimate=Estimate(float('nan'), 0.0, 1)) | more)
  text = (tmp_path / 'r.json').read_text()
  read = json.loads(text, parse_constant=lambda name: pytest.fail(f'{name} is not JSON'))
  assert read['mean'] is None and read['curve'] == [0.5, None]
  assert read['steps'] == 7 and read['loss'] == 2.0


@pytest.mark.parametrize('name', results.DESCRIPTION + results.MEASUREMENT)
def test_a_record_that_lacks_a_key_is_refused_by_name(tmp_path, name):
  broken = record()
  del broken[name]
  write_results(tmp_path / 'r.json', broken)
  with pytest.raises(ValueError, match=f'r.json lacks {name};'):
    read_results(tmp_path / 'r.json')


def test_an_unmeasured_record_needs_only_its_description(tmp_path):
  planned = {name: 'x' for name in results.DESCRIPTION} | {'status': 'unmeasured'}
  write_results(tmp_path / 'r.json', planned)
  assert read_results(tmp_path / 'r.json') == planned


@pytest.mark.parametrize(
  ('text', 'message'),
  [('{"metric": ', 'is not JSON'), ('[1]', 'holds a list'), ('', 'is not JSON')],
)
def test_a_file_that_is_no_record_is_refused(tmp_path, text, message):
  (tmp_path / 'r.json').write_text(text)
  with pytest.raises(ValueError, match=f'r.json {message}'):
    read_results(tmp_path / 'r.json')


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'status': 'planned'}, "status='planned' is not one of measured, unmeasured"),
    ({'mean': '0.98'}, "mean='0.98' is not a number"),
    ({'published': 98.8}, r'published=98.8 is not a fraction; write 98.8% as 0.988'),
  ],
)
def test_impossible_values_are_refused(tmp_path, change, message):
  write_results(tmp_path / 'r.json', record() | change)
  with pytest.raises(ValueError, match=message):
    read_results(tmp_path / 'r.json')


def test_a_key_cannot_be_given_twice():
  with pytest.raises(ValueError, match='device'):
    record(device='my laptop')


class Device:
  def __init__(self, platform, kind):
    self.platform, self.device_kind = platform, kind


def test_devices_are_named_and_counted(monkeypatch):
  gpus = [Device('gpu', 'NVIDIA H100')] * 4
  monkeypatch.setattr(jax, 'devices', lambda: gpus)
  assert machine.describe_device() == 'NVIDIA H100 x4'


def test_a_cpu_is_counted_in_cores_not_in_pretended_devices(monkeypatch):
  monkeypatch.setattr(jax, 'devices', lambda: [Device('cpu', 'cpu')] * 8)
  monkeypatch.setattr(machine, '_cores', lambda: 2)
  monkeypatch.setattr(machine, '_cpu_model', lambda: 'AMD EPYC')
  assert machine.describe_device() == 'cpu x2 (AMD EPYC)'


def test_versions_are_those_of_the_packages_in_use():
  found = machine.versions()
  assert found['jax'] == jax.__version__ and found['numpy'] == np.__version__
  assert {'python', 'jaxlib', 'flax', 'optax', 'orbax', 'metakit'} <= found.keys()


@pytest.mark.parametrize(
  ('arguments', 'text'),
  [
    (('accuracy', 0.98424, 0.00131), '98.42 ± 0.13%'),
    (('accuracy', 0.5, None), '50.00%'),
    (('loss', 0.61234, 0.0213), '0.612 ± 0.021'),
    (('loss', 0.00012345, 0.0000012), '0.0001234 ± 0.0000012'),
    (('loss', 1234.5, 67.8), '1234 ± 68'),
    (('loss', 0.61234, 0.0), '0.6123'),
    (('loss', float('nan'), 0.1), 'not finite'),
  ],
)
def test_an_estimate_shows_the_digits_its_interval_warrants(arguments, text):
  assert text_of.format_estimate(*arguments) == text
