"""Intents by domain, and text as hashed n-grams."""

import gzip
import json
import shutil
import sys
import tracemalloc
import zlib
from collections import Counter

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer

from metakit.data.clinc150 import DOMAINS, clinc150
from metakit.data.ngrams import hashed_ngrams
from tests.data.real import real_data

TEXTS = ['Move  100 dollars from my savings to my checking', 'is it cold?', 'ÜBER naïve']


@pytest.mark.parametrize(
  ('units', 'analyzer', 'sizes'),
  [('characters', 'char_wb', (3, 5)), ('characters', 'char_wb', (2, 2)), ('words', 'word', (1, 2))],
)
def test_ngrams_are_those_of_scikit_learn(units, analyzer, sizes):
  """Counted at their hashes; words are what is between spaces."""
  words = {'token_pattern': r'\S+'} if units == 'words' else {}
  vectorizer = CountVectorizer(analyzer=analyzer, ngram_range=sizes, **words)
  counts = vectorizer.fit_transform(TEXTS).toarray()
  expected = np.zeros((3, 512))
  for name, column in vectorizer.vocabulary_.items():
    expected[:, zlib.crc32(name.encode()) % 512] += counts[:, column]
  expected = np.sqrt(expected / expected.sum(1, keepdims=True))
  found = hashed_ngrams(TEXTS, 512, units, shortest=sizes[0], longest=sizes[1])
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_an_empty_text_is_zero_and_lengths_are_one():
  found = hashed_ngrams(['', *TEXTS], 64)
  np.testing.assert_allclose(np.linalg.norm(found, axis=1), [0, 1, 1, 1], rtol=1e-6)
  assert found.dtype == np.float32


@pytest.mark.parametrize('sizes', [(0, 3, 5), (8, 0, 2), (8, 3, 2)])
def test_sizes_make_sense(sizes):
  features, shortest, longest = sizes
  with pytest.raises(ValueError, match=f'features={features} must be positive, and 1 <= shortest='):
    hashed_ngrams(TEXTS, features, 'words', shortest=shortest, longest=longest)


def test_every_intent_is_in_one_split_with_all_its_utterances():
  folder = real_data('clinc150')
  tables = {split: clinc150(folder, split, 32, units='words') for split in DOMAINS}
  assert [len(table.names) for table in tables.values()] == [90, 30, 30]
  names = [name for table in tables.values() for name in table.names]
  assert len(set(names)) == 150
  domains = json.loads((folder / 'domains.json').read_text())
  for split, table in tables.items():
    assert (table.counts == 150).all()
    assert table.group_names == DOMAINS[split]
    for name, group in zip(table.names, table.groups, strict=True):
      assert name in domains[table.group_names[group]]


def test_rows_are_the_utterances_of_their_intent():
  folder = real_data('clinc150')
  table = clinc150(folder, 'test', 4096)
  said = json.loads(gzip.decompress((folder / 'data_full.json.gz').read_bytes()))
  place = table.names.index('time')
  own = [text for part in ('train', 'val', 'test') for text, i in said[part] if i == 'time']
  rows = table.x[table.starts[place] : table.starts[place] + 150]
  np.testing.assert_array_equal(rows, hashed_ngrams(own, 4096))


def test_what_is_missing_or_damaged_is_named(tmp_path):
  folder = real_data('clinc150')
  shutil.copy(folder / 'data_full.json.gz', tmp_path)
  with pytest.raises(FileNotFoundError, match=r'clinc150: no domains\.json or'):
    clinc150(tmp_path)
  shutil.copy(folder / 'domains.json', tmp_path)
  whole = json.loads(gzip.decompress((tmp_path / 'data_full.json.gz').read_bytes()))
  less = {part: [row for row in rows if row[1] != 'routing'] for part, rows in whole.items()}
  (tmp_path / 'data_full.json').write_text(json.dumps(less))  # is taken before the .gz
  with pytest.raises(ValueError, match=r'data_full\.json: no utterance of routing'):
    clinc150(tmp_path)
  (tmp_path / 'data_full.json').unlink()
  path = tmp_path / 'data_full.json.gz'
  path.write_bytes(path.read_bytes()[:5000])
  with pytest.raises(ValueError, match=r'data_full\.json\.gz: .*get or make the file again'):
    clinc150(tmp_path)
  with pytest.raises(FileNotFoundError, match=r'clinc150: no data_full\.json or'):
    clinc150(tmp_path / '..')
  with pytest.raises(ValueError, match="split='dev' is unknown"):
    clinc150(folder, 'dev')


def test_no_file_unpacks_without_end(tmp_path, monkeypatch):
  monkeypatch.setattr(sys.modules[clinc150.__module__], 'LARGEST', 1000)
  (tmp_path / 'data_full.json.gz').write_bytes(gzip.compress(b' ' * 20_000_000))
  (tmp_path / 'domains.json').write_text('{}')
  tracemalloc.start()
  with pytest.raises(ValueError, match=r'data_full\.json\.gz: .*get or make the file again'):
    clinc150(tmp_path)
  most = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert most < 1_000_000


def test_vectors_that_no_memory_holds_are_refused():
  with pytest.raises(ValueError, match=r'3 texts of 1,000,000,000,000 features: needs .* GiB'):
    hashed_ngrams(TEXTS, 10**12)


def test_no_domain_is_in_two_splits():
  domains = Counter(domain for split in DOMAINS.values() for domain in split)
  assert len(domains) == 10 and set(domains.values()) == {1}
