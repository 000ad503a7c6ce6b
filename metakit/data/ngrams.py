"""Text as vectors without a vocabulary: n-grams, hashed.

Kilian Weinberger, Anirban Dasgupta, John Langford, Alex Smola, Josh Attenberg, Feature Hashing for
Large Scale Multitask Learning, ICML 2009, arXiv:0902.2206; Armand Joulin, Edouard Grave, Piotr
Bojanowski, Tomas Mikolov, Bag of Tricks for Efficient Text Classification, EACL 2017,
arXiv:1607.01759 (hashed n-grams).
"""

import zlib
from collections.abc import Iterator, Sequence

import numpy as np

from metakit.data.files import check_choice, check_memory

UNITS = ('characters', 'words')


def hashed_ngrams(
  texts: Sequence[str],
  features: int = 2048,
  units: str = 'characters',
  *,
  shortest: int = 3,
  longest: int = 5,
) -> np.ndarray:
  """Returns unit-length vectors [texts, features] float32 of the square roots of n-gram counts.

  An n-gram is counted at the CRC-32 of its UTF-8 bytes modulo `features`, the same on any machine.

  Args:
    texts: any strings; case is ignored, and runs of white space count as one space.
    features: size of a vector; n-grams that collide are counted together.
    units: 'characters' (n-grams do not cross from word to word; each word is framed by spaces) or
      'words'.
    shortest: units of an n-gram, at least.
    longest: at most.

  Raises:
    ValueError: for an unknown unit, sizes that make no sense, or vectors that memory does not hold.

  >>> hashed_ngrams(['one two two two'], 4, 'words', shortest=1, longest=1).tolist()
  [[0.0, 0.5, 0.8660253882408142, 0.0]]
  """
  check_choice('units', units, UNITS)
  if features < 1 or not 1 <= shortest <= longest:
    raise ValueError(
      f'features={features} must be positive, and 1 <= shortest={shortest} <= longest={longest}'
    )
  check_memory(f'{len(texts):,} texts of {features:,} features', 4 * len(texts) * features)
  counts = np.zeros((len(texts), features), np.float32)
  for row, text in zip(counts, texts, strict=True):
    for ngram in _ngrams(text.lower().split(), units, shortest, longest):
      row[zlib.crc32(ngram.encode()) % features] += 1
  length = np.sqrt(counts.sum(1, keepdims=True))  # of the square roots
  return np.sqrt(counts) / np.maximum(length, 1)


def _ngrams(words: list[str], units: str, shortest: int, longest: int) -> Iterator[str]:
  pieces = [words] if units == 'words' else [list(f' {word} ') for word in words]
  joiner = ' ' if units == 'words' else ''
  for piece in pieces:
    for size in range(shortest, longest + 1):
      for start in range(len(piece) - size + 1):
        yield joiner.join(piece[start : start + size])
