"""Accelerators, by what their makers say of them."""

from collections.abc import Mapping
from typing import NamedTuple

from metakit.traffic import Sent, sent_bytes

NVIDIA = 'https://www.nvidia.com/en-us/data-center/'


class Chip(NamedTuple):
  """One device.

  Attributes:
    kind: its name in JAX.
    memory: bytes.
    peaks: dense FLOP/s of matrix products, by the type of their numbers.
    bandwidth: bytes/s of the memory.
    link: bytes/s that it sends to the others.
    source: the page that says so.
  """

  kind: str
  memory: float
  peaks: dict[str, float]
  bandwidth: float
  link: float
  source: str


HOPPER = {'bfloat16': 989e12, 'float32': 495e12}  # float32 as TF32, JAX's default there
CHIPS = {
  'H100': Chip('NVIDIA H100 80GB HBM3', 80e9, HOPPER, 3.35e12, 450e9, f'{NVIDIA}h100/'),
  'H200': Chip('NVIDIA H200', 141e9, HOPPER, 4.8e12, 450e9, f'{NVIDIA}h200/'),
  'v4': Chip(
    'TPU v4', 32e9, {'bfloat16': 275e12}, 1.2e12, 150e9, 'https://cloud.google.com/tpu/docs/v4'
  ),
  'v5e': Chip(
    'TPU v5 lite', 16e9, {'bfloat16': 197e12}, 0.819e12, 200e9,
    'https://cloud.google.com/tpu/docs/v5e',
  ),
}  # fmt: skip


def peak(chip: Chip, dtype: str) -> float:
  """Returns the FLOP/s of a chip; a TPU multiplies float32 as bfloat16 unless it is told otherwise.

  >>> f'{peak(CHIPS["v5e"], "float32"):.3g}'
  '1.97e+14'
  """
  return chip.peaks.get(dtype, chip.peaks['bfloat16'])


class Bound(NamedTuple):
  """The seconds that a program takes at least, by what takes them."""

  products: float
  memory: float
  links: float

  @property
  def longest(self) -> str:
    """Names what takes longest."""
    return max(self._fields, key=lambda name: getattr(self, name))


def bound(
  chip: Chip,
  dtype: str,
  *,
  flops: float,
  moved: float,
  collectives: Mapping[str, Sent],
  devices: int,
) -> Bound:
  """Returns the seconds of a program, if all that one device does happens at once and at its peak.

  Args:
    chip: the device.
    dtype: type of the products.
    flops: of matrix products, on one device.
    moved: bytes that one device reads and writes.
    collectives: what one device gives to others, see metakit.traffic.
    devices: how many there are, in a ring.

  >>> sent = {'all-reduce': Sent(calls=1, size=1_000_000)}
  >>> least = bound(CHIPS['H100'], 'bfloat16', flops=1e12, moved=1e9, collectives=sent, devices=8)
  >>> f'{least.products:.2g} {least.memory:.2g} {least.links:.2g}', least.longest
  ('0.001 0.0003 3.9e-06', 'products')
  """
  sent = sent_bytes(collectives, devices)
  return Bound(flops / peak(chip, dtype), moved / chip.bandwidth, sent / chip.link)
