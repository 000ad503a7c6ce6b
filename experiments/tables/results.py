"""experiments/results/README.md: all results, grouped."""

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from experiments.output.records import (
  NONE,
  RESULTS,
  Record,
  device,
  is_measured,
  published,
  read_records,
  score,
  training_time,
  what,
)
from experiments.output.text import format_closeness, format_difficulty, format_estimate
from experiments.tables.pages import markdown_table

PAGE = RESULTS / 'README.md'
HEAD = """# Results

Written by `python -m experiments.tables`. Each score links to its file, which holds the command
that gives it, the seed, and the versions of all packages. A file of `evaluate` also has a
`training_command`, to be run first. All scores are those of single models: there are no ensembles.

- *Inductive*: a query is classified by itself. Statistics for normalisation come from training
  episodes.
- *Transductive*: the queries of an episode are classified together, with the statistics of their
  batch.
- After ± is half of the 95% interval of the mean over test episodes.

More results stand on pages of their own:

"""
ELSEWHERE = (
  (
    '[Learners](../../metakit/learners/README.md)',
    'what each learner meta-learns and costs, modes of differentiation, sinusoids',
  ),
  ('[Real tables](real_tables.md)', 'a learner of tables beside those of scikit-learn'),
  (
    '[Heads](../../metakit/heads/README.md)',
    'all heads on the same features, and sessions of new classes',
  ),
  ('[Streams](streams.md)', 'tasks that arrive one after the other: error beside operations'),
  ('[Tricks](tricks.md)', 'what each trick changes when new classes come in sessions'),
  ('[Transfer](transfer.md)', 'which sources help which targets, measured and predicted'),
  ('[Balance](balance.md)', 'families of tasks of unequal sizes, drawn or weighed'),
  ('[Sweeps](sweeps.md)', 'over numbers of tasks and widths of the network'),
  ('[Benchmarks](benchmarks.md)', 'speed and memory'),
  (
    '[Launching](../../launch/README.md)',
    'runs that were killed, steps that were compiled for pods',
  ),
  ('[Tuning](tuning.md)', 'what was tried before settings were chosen'),
)
SHIFTED = ', training images shifted by up to 2 pixels'
BOTH = ', trained on training and validation classes, images shifted by up to 2 pixels'
MARKS = {BOTH: ' (b)', SHIFTED: ' (a)'}


class Group(NamedTuple):
  """Results that stand in one table.

  Attributes:
    title: title of the group.
    files: patterns of the names of its files.
    prefix: how the name of each row begins. The title says it, so the table leaves it out.
    note: what a reader of the table should know.
  """

  title: str
  files: Sequence[str]
  prefix: str = ''
  note: str = ''


AUGMENTED = (
  '(a) Training images were shifted by up to 2 pixels. (b) So were these, and training and '
  'validation classes were trained on together, as papers do for results on test classes.'
)
BAYES = (
  'Beside the Bayes predictor stands how close a learner comes to it at every number of examples: '
  'the largest ratio of their errors, and the largest mean squared difference of their '
  'predictions, in units of the variance.'
)
ONSET = (
  '*Learns from step* is the step by which a model began to learn from the examples it reads, by '
  'the gain in training, or by validation where training episodes are easier.'
)
GROUPS = (
  Group(
    'Omniglot, 5-way 1-shot',
    ('omniglot_5way_1shot_*',),
    'Omniglot (Vinyals split) 5-way 1-shot, ',
    f'The split of Vinyals. {AUGMENTED}',
  ),
  Group(
    'Omniglot, 20-way 1-shot',
    ('omniglot_20way_1shot_*',),
    'Omniglot (Vinyals split) 20-way 1-shot, ',
    f'The split of Vinyals. {AUGMENTED.partition(" (b)")[0]}',
  ),
  Group('Other few-shot images', ('omniglot_original_*', 'glyphs_*')),
  Group('Few-shot text', ('clinc150_*',)),
  Group('Sinusoids, 10-shot', ('sinusoid_*',), 'sinusoids 10-shot, ', 'Mean squared error.'),
  Group(
    'In-context learning of images',
    ('in_context_gpicl_*',),
    note='General-purpose in-context learning (GPICL) from projected and relabelled images. '
    f'{ONSET}',
  ),
  Group(
    'In-context learning of images: what ends the plateau',
    ('in_context_plateau_*',),
    'the plateau ',
    f'Accuracy on MNIST after 49 examples. {ONSET}',
  ),
  Group(
    'In-context learning of images: attention with momentum',
    ('in_context_attention_*',),
    note=f'Accuracy on MNIST after 49 examples. {ONSET}',
  ),
  Group('In-context regression', ('in_context_*',), note=f'Mean squared error. {BAYES} {ONSET}'),
  Group(
    'Densities of the values of functions',
    ('density_*',),
    note='-log p of the targets after 0 to 30 context points, in nats a target: lower is better. '
    'Beside it stands by how much this is above that of the exact posterior on the same targets, '
    'and how many targets lie in predicted intervals of 90%.',
  ),
  Group(
    'Tables of a prior',
    ('tabular_*',),
    note='New tables of the prior, none of them real. [Real tables](real_tables.md) are on a page '
    'of their own.',
  ),
  Group('Others', ('*',)),
)


def texts(root: Path) -> dict[Path, str]:
  """Returns what the page should say.

  Raises:
    OSError: if a file cannot be read.
    ValueError: if a file is no record.
  """
  grouped = group(read_records(root))
  elsewhere = markdown_table(['page', 'what it shows'], ELSEWHERE)
  sections = (section(each, records) for each, records in grouped.items())
  return {PAGE: '\n'.join([f'{HEAD}{elsewhere}\n', *sections])}


def group(records: Mapping[str, Record]) -> dict[Group, dict[str, Record]]:
  """Returns the records of each group that has any; a record is in the first group that fits."""
  grouped: dict[Group, dict[str, Record]] = {each: {} for each in GROUPS}
  for name, record in records.items():
    fits = (each for each in GROUPS if any(fnmatch(name, pattern) for pattern in each.files))
    grouped[next(fits)][name] = record
  return {each: members for each, members in grouped.items() if members}


def section(each: Group, records: Mapping[str, Record]) -> str:
  """Returns a group as Markdown: its title, its note and its table."""
  note = '\n\n'.join(filter(None, [each.note, measured_on(records.values())]))
  return f'## {each.title}\n\n{note}\n\n{table(each, records)}\n'


def measured_on(records: Iterable[Record]) -> str:
  """Says on how many episodes and which devices records were measured."""
  measured = [record for record in records if is_measured(record)]
  if not measured:
    return ''
  episodes = sorted({f'{record["episodes"]:,}' for record in measured})
  devices = sorted({device(record) for record in measured})
  return f'Test episodes: {" or ".join(episodes)}. Device: {" or ".join(devices)}.'


def table(each: Group, records: Mapping[str, Record]) -> str:
  """Returns the table of a group; runs that differ in the seed alone share a row."""
  rows: dict[tuple[str, str], dict[str, Record]] = {}
  for name, record in records.items():
    rows.setdefault((brief(each, what(record)), record['protocol']), {})[name] = record
  columns = ['what', 'protocol', 'score', 'published', 'training time']
  onset = any('onset_step' in record for record in records.values())
  bayes = any('beside_bayes' in record for record in records.values())
  density = any('density' in record for record in records.values())
  bayes = bayes and not density  # which is compared on the same targets, and not by examples
  columns += ['learns from step'] * onset + ['beside the Bayes predictor'] * bayes
  columns += ['above the exact posterior', 'in intervals of 90%'] * density
  hard = any('difficulty' in record for record in records.values())
  columns += ['difficulty'] * hard
  lines = []
  for (words, protocol), runs in rows.items():
    cells = [words, protocol, joined(linked(name, run) for name, run in runs.items())]
    cells += [joined(map(say, runs.values())) for say in (published, training_time)]
    cells += [joined(map(onset_step, runs.values()))] * onset
    cells += [joined(map(closeness, runs.values()))] * bayes
    if density:
      cells += [joined(map(say, runs.values())) for say in (above_exact, within_90)]
    cells += [joined(map(difficulty, runs.values()))] * hard
    lines.append(cells)
  return markdown_table(columns, lines)


def brief(each: Group, words: str) -> str:
  """Returns what a row shows without what its table says already, and without the seed."""
  words = re.sub(r', seed \d+', '', words.removeprefix(each.prefix))
  for long, mark in MARKS.items():
    words = words.replace(long, mark)
  return words.replace(': MNIST, after 49 examples', '').replace(', 49 examples of MNIST', '')


def joined(cells: Iterable[str]) -> str:
  """Returns the cells of several runs as one; once if all are the same."""
  each = list(cells)
  return each[0] if len({*each}) == 1 else '; '.join(each)


def linked(name: str, record: Record) -> str:
  """Returns a score as a link to its file, which lies beside the page."""
  return f'[{score(record)}]({name}.json)'


def onset_step(record: Record) -> str:
  """Returns the step by which a model learned from its examples, if it was looked for."""
  if 'onset_step' not in record:
    return NONE
  step = record['onset_step']
  return f'never in {record["steps"]:,}' if step is None else f'{step:,}'


def closeness(record: Record) -> str:
  """Says how close a learner is to the Bayes predictor, if that is known."""
  return format_closeness(record['beside_bayes']) if 'beside_bayes' in record else NONE


def difficulty(record: Record) -> str:
  """Returns how hard the episodes of a test are, if that was computed.

  >>> difficulty({'difficulty': 9.6}), difficulty({})
  ('10^9.6 bits', '-')
  """
  return format_difficulty(record['difficulty']) if 'difficulty' in record else NONE


def above_exact(record: Record) -> str:
  """Says by how many nats a target -log p is above that of the exact posterior, if it is known."""
  gap = record.get('density', {}).get('gap')
  return f'{gap["mean"]:.4f} ± {gap["ci95"]:.4f}' if gap else NONE


def within_90(record: Record) -> str:
  """Says how many targets lie in predicted intervals of 90%."""
  if 'density' not in record:
    return NONE
  covered = record['density']['coverage']['90%']
  return format_estimate('accuracy', covered['mean'], covered['ci95'])
