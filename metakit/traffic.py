"""What a compiled program reads, writes and sends, from its text.

XLA's own analysis of a program counts the body of a loop once. Here a body counts as often as the
loop runs, if the program says how often.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from metakit.costs import COLLECTIVES

# Operations that make no traffic of their own: names, or the end of what began before.
FREE = {
  'parameter', 'constant', 'get-tuple-element', 'tuple', 'bitcast', 'after-all', 'while', 'call',
  'conditional', 'partition-id', 'replica-id', 'opt-barrier', 'async-start', 'async-update',
}  # fmt: skip
SLICES = 'dynamic-slice', 'slice', 'gather'  # of their first operand they read what they return
UPDATE = 'dynamic-update-slice'  # changes a part of its first operand where it is

BEGIN = re.compile(r'^(ENTRY )?%?([\w.\-]+) \(.*\{$')
LINE = re.compile(r'^\s*(ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)$')
ARRAY = re.compile(r'\b(pred|[a-z]+\d+\w*)\[([\d,]*)\](?:\{([^}]*)\})?')
TILE, OTHER_MEMORY = re.compile(r':T\(([\d,]+)\)'), re.compile(r'S\([1-9]')
CALLED = re.compile(r'(?:body|calls|to_apply|branch_computations)=\{?((?:%[\w.\-]+(?:, )?)+)')
CONDITION = re.compile(r'condition=%([\w.\-]+)')
ROUNDS = re.compile(r'known_trip_count\W+n\W+(\d+)')


class Sent(NamedTuple):
  """What a device gives to collectives of one kind in one run of a program.

  Attributes:
    calls: how often the program calls one.
    size: bytes of their operands on a device, all calls together.
  """

  calls: int
  size: int


class Traffic(NamedTuple):
  """What one device does in one run of a program.

  Attributes:
    moved: bytes that it reads from its main memory and writes to it. Arrays that the program keeps
      on the chip (another memory space) do not count.
    collectives: by kind.
    loops: how often each loop runs; 1 also stands for a number that the program does not say.
  """

  moved: int
  collectives: dict[str, Sent]
  loops: tuple[int, ...]


class _Line(NamedTuple):
  root: bool
  name: str
  result: str  # its shape, as text
  kind: str
  operands: tuple[str, ...]
  rest: str


Program = Mapping[str, Sequence[_Line]]


def traffic(program: str, *, padded: bool = True) -> Traffic:
  """Returns what a device moves and sends in one run of a program.

  An operation reads its operands and writes its result. A slice reads what it returns, and an
  update in place moves the part that it changes. What a fusion computes inside is not written. All
  branches of a condition count.

  Args:
    program: text of a compiled program, `jax.jit(f).lower(x).compile().as_text()`.
    padded: whether arrays count with the padding of their tiles, as on a TPU.

  >>> text = '''
  ... ENTRY %main (x: f32[8,2]) -> f32[8,2] {
  ...   %x = f32[8,2]{1,0} parameter(0)
  ...   ROOT %sum = f32[8,2]{1,0} all-reduce(%x), to_apply=%add
  ... }'''
  >>> traffic(text)
  Traffic(moved=128, collectives={'all-reduce': Sent(calls=1, size=64)}, loops=())
  """
  computations, entry = _parsed(program)
  times: Counter[str] = Counter()
  loops: list[int] = []
  _visit(computations, entry, 1, times, loops)
  moved, sent = 0, dict.fromkeys(COLLECTIVES, Sent(0, 0))
  for name, number in times.items():
    lines = computations[name]
    shapes = {line.name: line.result for line in lines}
    for line in lines:
      moved += number * _moved(line, shapes, computations, padded)
      if kind := _collective(line):
        size = sum(_size(shapes[each], False, True) for each in line.operands)
        before = sent[kind]
        sent[kind] = Sent(before.calls + number, before.size + number * size)
  called = {kind: each for kind, each in sent.items() if each.calls}
  return Traffic(moved, called, tuple(loops))


def sent_bytes(collectives: Mapping[str, Sent], devices: int) -> float:
  """Returns the bytes that each of so many devices sends, if they are in a ring.

  An all-reduce of B bytes sends 2 B (n - 1) / n, since each device sums a part and hands it round.

  >>> sent_bytes({'all-reduce': Sent(calls=1, size=100)}, devices=4)
  150.0
  """
  share = (devices - 1) / devices
  times = {'all-reduce': 2 * share, 'all-gather': devices - 1, 'collective-permute': 1}
  return float(sum(times.get(kind, share) * each.size for kind, each in collectives.items()))


def _parsed(program: str) -> tuple[dict[str, list[_Line]], str]:
  """Returns the computations by name, and the name of the first to run."""
  computations: dict[str, list[_Line]] = {}
  entry, now = '', ''
  for text in program.splitlines():
    if begin := BEGIN.match(text):
      now = begin[2]
      entry = now if begin[1] else entry
      computations[now] = []
    elif now and (found := LINE.match(text)):
      root, name, result, kind, rest = found.groups()
      inside = ''.join(_inside(rest))
      operands = tuple(re.findall(r'%([\w.\-]+)', inside))
      computations[now].append(_Line(bool(root), name, result, kind, operands, rest))
  if not entry:
    raise ValueError('this is no text of a compiled program; use compiled.as_text()')
  return computations, entry


def _inside(text: str) -> Iterator[str]:
  """Yields the characters up to the bracket that closes the operands."""
  depth = 1
  for character in text:
    depth += (character == '(') - (character == ')')
    if not depth:
      return
    yield character


def _visit(
  computations: Program, name: str, number: int, times: Counter[str], loops: list[int]
) -> None:
  """Adds to `times` how often a computation and those that it calls run, but not fusions."""
  times[name] += number
  for line in computations[name]:
    rounds = 1
    if line.kind == 'while':
      rounds = _rounds(line, computations)
      loops.append(rounds)
    elif line.kind not in ('call', 'conditional', 'async-start'):
      continue
    for called in _called(line):
      _visit(computations, called, number * rounds, times, loops)


def _rounds(line: _Line, computations: Program) -> int:
  """Returns how often a loop runs, 1 if that is unknown.

  XLA says so for CPUs and GPUs. For TPUs it only has the condition, in which a counter, in JAX from
  0 on, is less than a constant.
  """
  if said := ROUNDS.search(line.rest):
    return int(said[1])
  condition = CONDITION.search(line.rest)
  lines = {each.name: each for each in computations.get(condition[1] if condition else '', ())}
  root = next((each for each in lines.values() if each.root), None)
  if root is None or root.kind != 'compare' or 'direction=LT' not in root.rest:
    return 1
  last = lines[root.operands[1]]
  return int(last.rest.partition(')')[0]) if last.kind == 'constant' else 1


def _called(line: _Line) -> list[str]:
  return [name for found in CALLED.findall(line.rest) for name in re.findall(r'%([\w.\-]+)', found)]


def _collective(line: _Line) -> str | None:
  kind = line.kind.removesuffix('-start')
  return kind if kind in COLLECTIVES else None


def _size(shape: str, padded: bool, anywhere: bool = False) -> int:
  """Returns the bytes of an array or a tuple; 0 for what is not in the main memory."""
  total = 0
  for kind, axes, layout in ARRAY.findall(shape):
    if anywhere or not OTHER_MEMORY.search(layout):
      bits = 8 if kind == 'pred' else int(re.findall(r'\d+', kind)[0])
      lengths = [int(axis) for axis in axes.split(',') if axis]
      total += -(-math.prod(_padded(lengths, layout) if padded else lengths) * bits // 8)
  return total


def _padded(lengths: list[int], layout: str) -> list[int]:
  """Returns the lengths rounded up to whole tiles; the layout names the fastest axis first."""
  tile = TILE.search(layout)
  if tile is None:
    return lengths
  order = [int(axis) for axis in layout.partition(':')[0].split(',') if axis]
  tiles = [int(each) for each in tile[1].split(',')][::-1]
  for axis, length in zip(order, tiles, strict=False):
    lengths[axis] = -(-lengths[axis] // length) * length
  return lengths


def _moved(line: _Line, shapes: Mapping[str, str], computations: Program, padded: bool) -> int:
  """Returns the bytes that an operation reads and writes."""
  size = lambda shape: _size(shape, padded)
  given = [shapes.get(name, '') for name in line.operands]
  if line.kind in FREE or line.kind.endswith('-done'):
    return 0
  if line.kind == 'fusion':
    return _fused(line, given, computations[_called(line)[0]], padded)
  if line.kind == 'copy-start':  # its result is a tuple of both
    return size(line.result)
  if line.kind == 'slice-start':
    return 2 * min(_size(line.result, padded, True), size(given[0]))
  if line.kind in SLICES:
    return 2 * size(line.result)
  if line.kind == UPDATE:
    return 2 * size(given[1])
  if line.kind.endswith('-start'):
    return 2 * sum(map(size, given))
  return size(line.result) + sum(map(size, given))


def _fused(line: _Line, given: Sequence[str], body: Sequence[_Line], padded: bool) -> int:
  """Returns the bytes of a fusion: parts of those operands that it only slices or updates."""
  size = lambda shape: _size(shape, padded)
  by_name = {each.name: each for each in body}
  users: dict[str, list[_Line]] = defaultdict(list)
  for each in body:
    for name in each.operands:
      users[name].append(each)

  def read(parameter: _Line) -> int:
    number = int(parameter.rest.partition(')')[0])
    whole, uses = size(given[number]), users[parameter.name]
    first = lambda use: use.operands[0] == parameter.name and parameter.name not in use.operands[1:]
    if all(use.kind in (*SLICES, UPDATE) and first(use) for use in uses):
      return min(whole, sum(size(use.result) for use in uses if use.kind != UPDATE))
    return whole

  def written(each: _Line, whole: int) -> int:
    return min(whole, size(by_name[each.operands[1]].result)) if each.kind == UPDATE else whole

  root = next(each for each in body if each.root)
  ends = [by_name[name] for name in root.operands] if root.kind == 'tuple' else [root]
  results = [found.group() for found in ARRAY.finditer(line.result)]
  reads = sum(read(each) for each in body if each.kind == 'parameter')
  return reads + sum(written(*each) for each in zip(ends, map(size, results), strict=False))
