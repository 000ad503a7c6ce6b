"""Made streams whose transfer is known.

After Adam Fisch, Amal Rannen-Triki, Razvan Pascanu, Joerg Bornschein, Angeliki Lazaridou, Elena
Gribovskaya, Marc'Aurelio Ranzato, Towards Robust and Efficient Continual Language Learning, 2023,
arXiv:2307.05741: sequences of tasks with positive, negative and no transfer, and mixtures.

The tasks are our own. A family of tasks has two inputs of its own, whose signs make four classes.
The other inputs of a task are noise. Tasks of a family name the four classes in another order each.
So what a network has learned of a family helps with its later tasks, of which there are few
examples. And it makes the network look away from the inputs that other families need.
"""

from collections.abc import Sequence

import numpy as np

from metakit.sizes import check_positive
from metakit.streams.events import Event, Stream, make_stream
from metakit.types import Examples

WAYS = 4
# The family of each event, repeated; () for another one each time.
FAMILIES: dict[str, Sequence[int]] = {
  'positive': (0,),
  'negative': (),
  'none': (),
  'mixed': (0, 1),
}


def made_stream(
  transfer: str = 'mixed',
  events: int = 8,
  *,
  first: int = 400,
  later: int = 100,
  inputs: int = 32,
  seed: int = 0,
) -> Stream:
  """Returns a stream of tasks whose kinship is known; the names of its events say the family.

  Args:
    transfer: 'positive' (all events are of one family), 'negative' (each is of another family),
      'none' (likewise, and the inputs of other families are 0), or 'mixed' (of two families by
      turns, so that the event before is of no use, and the one before that is).
    events: how many.
    first: training examples of the first event, in 'mixed' of the first of each family.
    later: training examples of the others.
    inputs: numbers of an input, at least two for each family.
    seed: of all draws.

  Raises:
    ValueError: for another transfer, or sizes that make no sense.

  >>> [event.name for event in made_stream('mixed', events=4).events]
  ['0 of family 0', '1 of family 1', '2 of family 0', '3 of family 1']
  """
  if transfer not in FAMILIES:
    raise ValueError(f'transfer={transfer!r} is unknown; use one of {", ".join(FAMILIES)}')
  check_positive(events=events, first=first, later=later)
  cycle = FAMILIES[transfer]
  families = [cycle[number % len(cycle)] if cycle else number for number in range(events)]
  if inputs < 2 * (max(families) + 1):
    raise ValueError(
      f'inputs={inputs} are too few for {max(families) + 1} families; use two or more for each'
    )
  random = np.random.default_rng(seed)
  made = []
  for number, family in enumerate(families):
    size = first if number < max(len(cycle), 1) else later
    order = random.permutation(WAYS)
    draw = lambda count, family=family, order=order: _examples(
      random, count, (family, inputs, transfer == 'none'), order=order
    )
    parts = draw(size), draw(max(size // 2, 1)), draw(200)
    made.append(Event(f'{number} of family {family}', *parts, outputs=WAYS))
  return make_stream(made)


def _examples(
  random: np.random.Generator, count: int, kind: tuple[int, int, bool], *, order: np.ndarray
) -> Examples:
  family, inputs, alone = kind
  x = random.standard_normal((count, inputs)).astype(np.float32)
  own = slice(2 * family, 2 * family + 2)
  if alone:
    x = np.where(np.isin(np.arange(inputs), np.arange(inputs)[own]), x, 0)
  signs = (x[:, own] > 0).astype(int)
  return Examples(x, order[2 * signs[:, 0] + signs[:, 1]].astype(np.int32))
