"""The page of predictions: the examples that were learned from, and what was said of each query."""

import base64
import io
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from PIL import Image

from experiments.output.page import escaped, escaped_cell, page, section, table
from experiments.output.predictions import Predictions, judged

MOST_CLASSES, MOST_OF_A_CLASS, MOST_QUERIES = 50, 6, 200  # that are shown; the text counts the rest
PIXELS = 112  # of the longer side of a picture
DRAWING = 64  # pixels; smaller pictures are kept as they are
LONGEST = 300  # characters of a text


class Example(NamedTuple):
  """An example that is shown.

  Attributes:
    name: its name.
    content: a picture, a text, or None where the name says enough.
  """

  name: str
  content: Image.Image | str | None = None


class Shown(NamedTuple):
  """What a page of predictions shows.

  Attributes:
    learner: its name.
    facts: further facts, by name.
    support: class -> the examples of it that are shown; empty in a regression.
    sizes: class -> how many there are.
    queries: the first queries.
    predictions: of all queries.
    command: what to type to get this page.
  """

  learner: str
  facts: Mapping[str, Any]
  support: Mapping[str, Sequence[Example]]
  sizes: Mapping[str, int]
  queries: Sequence[Example]
  predictions: Predictions
  command: str


def render(shown: Shown) -> str:
  """Returns the page as HTML that needs no other file and no script; all text is escaped."""
  title = f'Predictions by {shown.learner}'
  count = f'{len(shown.predictions.names):,} queries'
  result, _, known = (judged(shown.predictions) or count).partition(': ')
  facts = ''.join(
    f'<div><dt>{escaped(name)}</dt><dd>{escaped_cell(value)}</dd></div>'
    for name, value in shown.facts.items()
  )
  header = (
    f'<header><h1>{escaped(title)}</h1><p class="result small">{escaped(result)}</p>'
    f'<p>{escaped(known)}</p><dl>{facts}</dl></header>'
  )
  words = f'<pre><code>{escaped(shown.command)}</code></pre>'
  parts = [
    section('Queries', _queries(shown)),
    section('By class', _by_class(shown)),
    section('Learned from', _support(shown)),
    section('Run it again', words),
  ]
  return page(title, f'{header}\n{"".join(parts)}')


def _queries(shown: Shown) -> str:
  count, here = len(shown.predictions.names), len(shown.queries)
  note = f'The first {here:,} of {count:,}.' if here < count else ''
  if shown.predictions.classifies:
    note += ' Each query with what was predicted and its probability'
    note += '; ✗ where another class is right.' if shown.predictions.truth else '.'
  body = _gallery(shown) if _is_pictures(shown.queries) else _rows(shown)
  return f'<p class="note">{note.strip()}</p>{body}'


def _is_pictures(examples: Sequence[Example]) -> bool:
  return any(isinstance(each.content, Image.Image) for each in examples)


def _gallery(shown: Shown) -> str:
  items = ''
  for example, said, kind in zip(shown.queries, _said(shown), _kinds(shown), strict=False):
    below = f'<span>{escaped(said)}</span><small>{escaped(example.name)}</small>'
    items += f'<li class="{kind}">{_figure(example)}{below}</li>'
  return f'<ul class="photos">{items}</ul>'


def _rows(shown: Shown) -> str:
  heads = ('query', *(['text'] if _has_texts(shown) else []), 'predicted')
  texts = ([_text(each)] if _has_texts(shown) else [] for each in shown.queries)
  rows = zip(shown.queries, texts, _said(shown), strict=False)
  named = ((_cut(each.name), *text, said) for each, text, said in rows)
  return table(heads, named, 'Predictions')


def _has_texts(shown: Shown) -> bool:
  return any(each.content and each.content != each.name for each in shown.queries)


def _text(example: Example) -> str:
  return _cut(str(example.content))


def _cut(text: str) -> str:
  return text if len(text) <= LONGEST else f'{text[:LONGEST]}...'


def _said(shown: Shown) -> list[str]:
  """Says in words what was predicted of each query."""
  predictions = shown.predictions
  if not predictions.classifies:
    lines = [', '.join(f'{number:.4g}' for number in row) for row in predictions.outputs]
    if predictions.truth is None:
      return lines
    real = (', '.join(f'{number:.4g}' for number in row) for row in predictions.truth)
    return [f'{line} (is {each})' for line, each in zip(lines, real, strict=True)]
  truth = predictions.truth or itertools.repeat('')
  rows = zip(
    predictions.classes, predictions.outputs.max(1), predictions.right, truth, strict=False
  )
  signs = {True: '✓ ', False: '✗ ', None: ''}
  return [
    f'{signs[right]}{said} {100 * share:.0f}%' + (f', is {real}' if right is False else '')
    for said, share, right, real in rows
  ]


def _kinds(shown: Shown) -> list[str]:
  if not shown.predictions.classifies:
    return ['unknown'] * len(shown.queries)
  return [{True: 'right', False: 'wrong', None: 'unknown'}[r] for r in shown.predictions.right]


def _by_class(shown: Shown) -> str:
  predictions = shown.predictions
  if not predictions.classifies:
    return ''
  heads = ['class', 'learned from', 'predicted']
  counts = Counter(predictions.classes)
  rows: list[list[Any]] = [[name, f'{size:,}', counts[name]] for name, size in shown.sizes.items()]
  if predictions.truth:
    heads += ['queries of it', 'of these right']
    pairs = list(zip(predictions.truth, predictions.right, strict=True))
    for row in rows:
      mine = [right for real, right in pairs if real == row[0]]
      row += [len(mine), sum(map(bool, mine))]
  return table(heads, rows, 'Classes')


def _support(shown: Shown) -> str:
  rows = ''
  for name, examples in itertools.islice(shown.support.items(), MOST_CLASSES):
    items = ''.join(f'<li>{_figure(each) or escaped(_text(each))}</li>' for each in examples)
    more = shown.sizes[name] - len(examples)
    rest = f'<p class="note">and {more:,} more</p>' if more else ''
    kind = 'photos' if _is_pictures(examples) else 'texts'
    rows += f'<h3>{escaped(name)}</h3><ul class="{kind}">{items}</ul>{rest}'
  left = len(shown.support) - MOST_CLASSES
  return rows + (f'<p class="note">and {left:,} more classes</p>' if left > 0 else '')


def _figure(example: Example) -> str:
  """Returns the picture of an example, or ''."""
  if not isinstance(example.content, Image.Image):
    return ''
  image = example.content
  small = max(image.size) <= DRAWING
  image.thumbnail((PIXELS, PIXELS))
  data = io.BytesIO()
  # A photograph is a tenth as large as JPEG; a small drawing keeps its pixels.
  image.save(data, **({'format': 'PNG', 'optimize': True} if small else {'format': 'JPEG'}))
  kind, text = 'png' if small else 'jpeg', base64.b64encode(data.getvalue()).decode()
  return f'<img alt="{escaped(example.name)}" loading="lazy" src="data:image/{kind};base64,{text}">'
