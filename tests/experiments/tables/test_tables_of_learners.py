"""The page of learners: what it says is what the sources say."""

import json

import pytest

from experiments.tables import learners
from experiments.tables.learners import (
  CHANGES,
  IMAGE_LEARNERS,
  PAGE,
  PUBLISHED,
  costs_of,
  measured,
  meta_learned,
  modes,
  row,
  said,
  steps,
  texts,
)
from experiments.tables.pages import keep
from metakit.components.descent_learners import BY_DESCENT, BY_SIGNATURE

CONV4 = 9 * 64 + 3 * 9 * 64 * 64 + 4 * 2 * 64  # kernels, scales and biases


def test_learners_of_images_have_a_row_and_those_of_sequences_none():
  assert {*BY_DESCENT, 'prototypical'} <= set(IMAGE_LEARNERS)
  assert 'in_context' in BY_SIGNATURE and 'in_context' not in IMAGE_LEARNERS


def test_a_row_says_what_the_docstring_of_the_learner_or_of_its_file_says():
  file, _, _, changed, *_ = row('from_scratch', None, [])
  assert file == '[from_scratch](ordinary_training.py)'
  assert changed == 'the network, from random weights'
  assert row('imaml', None, [])[-2] == '99.5, 96.18' and row('boil', None, [])[-2] == '-, -'
  text = 'A method.\n\nChanges in a task: the bias.\nPublished on a set: 1, 2.\n'
  assert said(text, CHANGES) == 'the bias' and said(text, PUBLISHED) == ''
  with pytest.raises(ValueError, match=r'new\.py lacks a line "Changes in a task'):
    said('A method.', CHANGES, 'metakit/learners/new.py')


def test_numbers_and_steps_are_those_of_the_learner():
  head = 64 * 5 + 5
  assert meta_learned('maml') == f'{CONV4 + head:,}'
  assert meta_learned('anil') == f'body {CONV4:,}, head {head:,}'
  assert meta_learned('meta_sgd') == f'rates {CONV4 + head:,}, start {CONV4 + head:,}'
  assert (steps('maml'), steps('reptile'), steps('fine_tuning')) == ('1, 1', '5, 50', '-, 100')
  assert steps('prototypical') == '-'


def test_scores_are_those_of_the_learner_on_the_data_set():
  score = {'metric': 'accuracy', 'mean': 0.975, 'ci95': 0.001, 'protocol': 'transductive'}
  one = {**score, 'learner': 'maml:inner_steps=1', 'task': 'omniglot:ways=5,shots=1,queries=15'}
  others = (
    {**one, 'learner': 'maml_plus_plus:inner_steps=1'},
    {**one, 'task': 'omniglot:ways=20,shots=1,queries=15'},
    {**one, 'training_task': 'glyphs:ways=5'},
    {**one, 'status': 'unmeasured'},
  )
  assert measured('maml', others) == '-'
  first_order = {**one, 'learner': 'maml:inner_steps=1,mode=first_order'}
  text = '97.50 ± 0.10% transductive'
  assert measured('maml', (*others, one, first_order)) == f'{text}<br>{text}, first order'


def test_costs_are_relative_and_what_was_not_measured_says_so():
  assert costs_of({'ratio': [0.25, 0.2, 0.3], 'temporary_mib': 12.34}) == ['4.00', '12.3 MiB']
  assert costs_of({'temporary_mib': 1.0}) == ['1', '1.0 MiB']
  assert costs_of(None) == ['unmeasured', 'unmeasured']


def test_modes_are_compared_by_the_number_of_steps():
  """Memory and time beside each other; what did not fit has no time."""
  given = [('unroll', 1, 10.04, [2.0]), ('unroll', 32, 4000.0, None), ('mixed', 1, 9.0, [30.0])]
  rows = [
    {'name': f'{mode}, {steps} steps', 'temporary_mib': memory, 'milliseconds': time}
    for mode, steps, memory, time in given
  ]
  text = modes({'rows': rows, 'device': 'cpu', 'command': 'python -m x'})
  assert '| mode | 1 | 32 |' in text
  assert '| unroll | 10 MiB, 2 ms | 4,000 MiB, not run |' in text
  assert '| mixed | 9 MiB, 30 ms | - |' in text


def test_a_stale_page_is_found_and_written_anew(tmp_path, monkeypatch):
  monkeypatch.setattr(learners, 'IMAGE_LEARNERS', ('maml',))
  for folder in ('experiments/results/benchmarks', 'metakit/learners'):
    (tmp_path / folder).mkdir(parents=True)
  with pytest.raises(OSError, match=r'learners\.json'):
    keep(tmp_path, texts(tmp_path), check=True)
  record = {'rows': [{'name': 'maml', 'temporary_mib': 2.0}], 'device': 'cpu'}
  (tmp_path / 'experiments/results/benchmarks/learners.json').write_text(json.dumps(record))
  engine = {'rows': [], 'device': 'cpu', 'command': 'python'}
  (tmp_path / 'experiments/results/benchmarks/memory.json').write_text(json.dumps(engine))
  with pytest.raises(ValueError, match=r'stale: metakit/learners/README.md; run'):
    keep(tmp_path, texts(tmp_path), check=True)
  keep(tmp_path, texts(tmp_path), check=False)
  assert '[maml](maml.py)' in (tmp_path / PAGE).read_text()
  keep(tmp_path, texts(tmp_path), check=True)
