"""CLINC150: 150 intents of 10 domains, each asked for in 150 ways.

Stefan Larson et al., An Evaluation Dataset for Intent Classification and Out-of-Scope Prediction,
EMNLP 2019, arXiv:1909.02027. The files are data_full.json and domains.json of
github.com/clinc/oos-eval, folder data; gzipped or not.
"""

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from metakit.data.encodings import text_encoding
from metakit.data.files import PathLike, check_choice, damaged, find_data
from metakit.data.ngrams import hashed_ngrams
from metakit.data.table import ClassTable, class_table

ORIGIN = 'https://github.com/clinc/oos-eval, folder data'
# Domains in the order of their names. They were chosen so before anything was measured.
DOMAINS = {
  'train': ('auto_and_commute', 'banking', 'credit_cards', 'home', 'kitchen_and_dining', 'meta'),
  'validation': ('small_talk', 'travel'),
  'test': ('utility', 'work'),
}
LARGEST = 64 << 20  # the most bytes of an unpacked file; the real one has 3 million
# The parts of the file split the utterances. They are pooled, since here intents are split.
PARTS = ('train', 'val', 'test')


def clinc150(
  data_dir: PathLike | None = None,
  split: str = 'train',
  features: int = 2048,
  *,
  units: str = 'characters',
) -> ClassTable:
  """Reads the intents of some domains, their utterances as hashed n-grams.

  Args:
    data_dir: the folder of the files, or the folder above it if theirs is called 'clinc150'; None
      stands for the environment variable METAKIT_DATA.
    split: 'train' (90 intents of 6 domains), 'validation' (30 of 2) or 'test' (30 of 2): no domain
      is in two.
    features: size of a vector.
    units: 'characters' (n-grams of 3 to 5) or 'words' (single ones: a bag of words).

  Returns:
    x [intents * 150, features] float32, see metakit.data.ngrams; groups are the domains.

  Raises:
    FileNotFoundError: if a file is missing.
    ValueError: if an argument is unknown, or a file is damaged or lacks an intent.

  >>> table = clinc150('data', split='train')  # doctest: +SKIP
  >>> table.x.shape, table.names[0], table.group_names[:2]  # doctest: +SKIP
  ((13500, 2048), 'current_location', ('auto_and_commute', 'banking'))
  """
  check_choice('split', split, tuple(DOMAINS))
  path = find_data(data_dir, 'clinc150', 'data_full.json', 'data_full.json.gz', origin=ORIGIN)
  domains = find_data(path.parent, 'clinc150', 'domains.json', 'domains.json.gz', origin=ORIGIN)
  said, intents = _read(path), _read(domains)
  if missing_domains := set(DOMAINS[split]) - set(intents):
    raise damaged(domains, f'no domain {min(missing_domains)}')
  names = [(intent, domain) for domain in DOMAINS[split] for intent in intents[domain]]
  number = {intent: i for i, (intent, _) in enumerate(names)}
  rows = [(text, number[i]) for part in PARTS for text, i in said[part] if i in number]
  if missing := set(range(len(names))) - {label for _, label in rows}:
    raise damaged(path, f'no utterance of {names[min(missing)][0]}')
  shortest, longest = (1, 1) if units == 'words' else (3, 5)
  texts = [text for text, _ in rows]
  x = hashed_ngrams(texts, features, units, shortest=shortest, longest=longest)
  groups = [DOMAINS[split].index(domain) for _, domain in names]
  labels = np.array([label for _, label in rows])
  table = class_table(
    x, labels, [intent for intent, _ in names], groups=groups, group_names=DOMAINS[split]
  )
  return table._replace(encoding=text_encoding(features, units, shortest=shortest, longest=longest))


def _read(path: Path) -> Any:
  try:
    with gzip.open(path) if path.suffix == '.gz' else path.open('rb') as file:
      return json.loads(file.read(LARGEST))
  except (ValueError, EOFError, OSError, zlib.error, RecursionError) as error:
    raise damaged(path, error) from error
