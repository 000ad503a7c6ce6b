"""How texts and rows of a table became numbers: values that a trained learner is stored with."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from metakit.data.ngrams import hashed_ngrams


def text_encoding(
  features: int = 2048, units: str = 'characters', *, shortest: int = 3, longest: int = 5
) -> dict[str, Any]:
  """Returns the encoding of texts by hashed n-grams; see metakit.data.ngrams.hashed_ngrams."""
  return {
    'kind': 'texts',
    'features': features,
    'units': units,
    'shortest': shortest,
    'longest': longest,
  }


def encode(encoding: Mapping[str, Any], x: Any) -> np.ndarray:
  """Returns texts as vectors [examples, features] float32.

  Args:
    encoding: what `text_encoding` returned.
    x: a sequence of strings.

  Raises:
    ValueError: for an unknown encoding, or if x are no texts.
  """
  if encoding['kind'] != 'texts':
    raise ValueError(f'the encoding {encoding["kind"]!r} is unknown to this version')
  texts = [x] if isinstance(x, str) else list(x)
  for number, text in enumerate(texts):
    if not isinstance(text, str):
      raise ValueError(
        f'example {number} of x is {type(text).__name__}, and this learner was trained on texts; '
        'give a list of strings'
      )
  if isinstance(x, str):
    raise ValueError('x is one text; give a list of texts, [text] for instance')
  sizes = {name: value for name, value in encoding.items() if name not in ('kind', 'units')}
  return hashed_ngrams(texts, sizes.pop('features'), encoding['units'], **sizes)
