"""metakit/learners/README.md: each learner, what it meta-learns, what it costs, its scores.

Papers, what changes in a task and what was published are lines of the files' docstrings. Sizes are
those of the parameters that a learner makes. Costs are those of
experiments/results/benchmarks/learners.json, which `experiments.benchmark --suite=learners` wrote.
Scores are those of experiments/results.
"""

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from experiments.benchmarks.suites.learners import IMAGE_LEARNERS, episodes, make
from experiments.output.records import RESULTS, read_folder, read_records
from experiments.output.text import format_estimate
from experiments.tables import learner_comparisons
from experiments.tables.pages import markdown_table
from metakit import learners
from metakit.components.learners import LEARNER_SUPPLIED, LEARNERS
from metakit.components.specs import parse

PAGE = Path('metakit') / 'learners' / 'README.md'
COSTS = RESULTS / 'benchmarks' / 'learners.json'
MODES = RESULTS / 'benchmarks' / 'memory.json'
COMPARISONS = RESULTS / 'comparisons'
NONE = '-'
CHANGES = 'Changes in a task'
PUBLISHED = 'Published on Omniglot, 5-way and 20-way 1-shot'  # in percent

COLUMNS = (
  'learner',
  'paper',
  'meta-learned numbers',
  'changed in a task',
  'steps in training, test',
  'time of a step',
  'temporaries',
  'published 5-way, 20-way 1-shot',
  'measured here, 5-way 1-shot',
)
HEAD = """# Learners

Written by `python -m experiments.tables`. Each learner is one file. Its docstring says what of the
paper is implemented, by equation, and what is not.

The numbers are those of Conv4 with 64 filters on images of 28x28, 5-way 1-shot, 5 queries a class,
and default arguments.

- *Meta-learned numbers*: how many numbers training changes, by what they are for.
- *Time of a step*: of meta-training, relative to `maml` (one inner step, second order), on
  {device}.
- *Temporaries*: temporary memory of a step, as XLA counts it.
- *Published*: the scores of the papers, in percent. Those of MAML++ are of an ensemble of five
  checkpoints.
- *Measured here*: the [results](../../experiments/results/README.md) have the files with the
  commands.

Every learner by gradient descent takes a `mode`, see below.

"""
MODES_HEAD = """## Modes

What a meta-gradient costs with so many inner steps, by the [mode](../meta_gradient/loops.py) of
differentiation: XLA's temporary memory, and time. The inner model has a million parameters (a
transformer on 8 sequences of 64). Measured on {device}. What would take more than 2 GiB was not
run.

- `remat` and `mixed` with SGD keep only the weights of each step: 4 bytes a parameter and step.
- With an argument `every` they keep the weights of one step in `every`. `mixed_6` keeps one in 6.
  If `every` is the root of the number of steps, memory grows with that root: a thousand times as
  many steps take 1.4 GB.
- The memory of `truncated`, `implicit`, `first_order` and `evolution` does not grow with the steps.

`{command}`

![Memory and time by inner steps](../../experiments/results/benchmarks/memory.svg)

"""


def row(
  name: str, cost: Mapping[str, Any] | None, records: Sequence[Mapping[str, Any]]
) -> list[str]:
  """Returns the cells of a learner."""
  file = Path(inspect.getsourcefile(getattr(learners, name)) or '').name
  text = docstring(name)
  return [
    f'[{name}]({file})',
    paper(text),
    meta_learned(name),
    said(text, CHANGES, f'metakit/learners/{file}'),
    steps(name),
    *costs_of(cost),
    said(text, PUBLISHED) or f'{NONE}, {NONE}',
    measured(name, records),
  ]


def docstring(name: str) -> str:
  """Returns the docstring of a learner, and then that of its file, in which several may be."""
  make = getattr(learners, name)
  return f'{inspect.getdoc(make)}\n{inspect.getdoc(inspect.getmodule(make))}'


def said(text: str, what: str, needed_in: str = '') -> str:
  """Returns what a line of a docstring says, or '' without such a line.

  Args:
    text: the docstring.
    what: how the line begins, CHANGES or PUBLISHED.
    needed_in: the file that must have one.

  Raises:
    ValueError: if it is needed, and there is none.

  >>> said('MAML.\\n\\nChanges in a task: the network.', CHANGES)
  'the network'
  """
  match = re.search(rf'^{re.escape(what)}: (.+)\.$', text, re.MULTILINE)
  if needed_in and not match:
    raise ValueError(f'{needed_in} lacks a line "{what}: ..." in its docstring')
  return match[1] if match else ''


def costs_of(cost: Mapping[str, Any] | None) -> list[str]:
  """Returns the time of a step and its memory, from a row of the benchmark."""
  if cost is None:
    return ['unmeasured', 'unmeasured']
  slower = f'{1 / cost["ratio"][0]:.2f}' if 'ratio' in cost else '1'
  return [slower, f'{cost["temporary_mib"]:.1f} MiB']


def paper(docstring: str) -> str:
  """Returns the first reference of a docstring, as a link, or '-'.

  >>> paper('X. A. Author, A Title, ICLR 2019, arXiv:1909.01234. Implemented: ...')
  '[1909.01234](https://arxiv.org/abs/1909.01234)'
  """
  match = re.search(r'arXiv:(\d{4}\.\d{4,5})', docstring)
  return f'[{match[1]}](https://arxiv.org/abs/{match[1]})' if match else NONE


def meta_learned(name: str) -> str:
  """Returns how many numbers of which kind the parameters of a learner are."""
  first = jax.tree.map(lambda leaf: leaf[0], episodes())
  params = jax.eval_shape(make(name).init, jax.random.key(0), first)
  trained = {part: count(tree) for part, tree in params.items() if part != 'statistics'}
  if set(trained) == {'params'}:
    return f'{trained["params"]:,}'
  return ', '.join(f'{part} {number:,}' for part, number in trained.items() if number)


def count(tree: Any) -> int:
  """Returns how many numbers a network's parameters are, without its stored statistics."""
  weights = tree.get('params', tree) if isinstance(tree, dict) else tree
  return sum(leaf.size for leaf in jax.tree.leaves(weights))


def steps(name: str) -> str:
  """Returns the numbers of inner steps by default, in training and at test time."""
  arguments = parse('learner', LEARNERS, name, supplied=LEARNER_SUPPLIED).arguments
  if 'test_steps' not in arguments:
    return NONE
  trained = arguments.get('inner_steps', 0)
  tested = arguments['test_steps']
  return f'{trained or NONE}, {trained if tested is None else tested}'


def measured(name: str, records: Sequence[Mapping[str, Any]]) -> str:
  """Returns what was measured with Omniglot, 5-way 1-shot, by protocol."""
  fits = lambda r: (
    r.get('status', 'measured') == 'measured'
    and r['learner'].partition(':')[0] == name
    and r['task'].startswith('omniglot:ways=5,shots=1,')
    and r.get('training_task', r['task']).startswith('omniglot')
  )
  scores = [
    f'{format_estimate(r["metric"], r["mean"], r["ci95"])} {r["protocol"]}{_mode(r)}'
    for r in records
    if fits(r)
  ]
  return '<br>'.join(scores) or NONE


def _mode(record: Mapping[str, Any]) -> str:
  return ', first order' if 'mode=first_order' in record['learner'] else ''


def modes(record: Mapping[str, Any]) -> str:
  """Returns a record of the suite memory as Markdown: a row for each mode."""
  cells: dict[str, dict[int, str]] = {}
  for each in record['rows']:
    mode, _, steps = each['name'].rpartition(', ')
    time = 'not run' if each['milliseconds'] is None else f'{each["milliseconds"][0]:,.0f} ms'
    row = cells.setdefault(mode, {})
    row[int(steps.split()[0])] = f'{each["temporary_mib"]:,.0f} MiB, {time}'
  steps = sorted({number for row in cells.values() for number in row})
  lines = [[mode, *(row.get(number, NONE) for number in steps)] for mode, row in cells.items()]
  table = markdown_table(['mode', *map(str, steps)], lines)
  return f'{MODES_HEAD.format(**record)}{table}\n'


def texts(root: Path) -> dict[Path, str]:
  """Returns what the page should say.

  Raises:
    OSError: if a file cannot be read.
    ValueError: if a file is no record.
  """
  record = json.loads((root / COSTS).read_text(encoding='utf-8'))
  records = list(read_records(root).values())
  costs = {cost['name']: cost for cost in record['rows']}
  rows = [row(name, costs.get(name), records) for name in IMAGE_LEARNERS]
  first = f'{HEAD.format(device=record["device"])}{markdown_table(COLUMNS, rows)}\n'
  engine = modes(json.loads((root / MODES).read_text(encoding='utf-8')))
  compared = learner_comparisons.sections(read_folder(root / COMPARISONS).values())
  return {PAGE: '\n'.join([first, engine, *compared])}
