"""Times cases side by side: each round runs every case, so that a slow minute hits all of them."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.benchmarks.chips import CHIPS
from metakit.costs import product_flops

# Dense peak of one device, FLOP/s, by device kind and type; bytes/s of its memory.
PEAKS = {(chip.kind, dtype): peak for chip in CHIPS.values() for dtype, peak in chip.peaks.items()}
BANDWIDTHS = {chip.kind: chip.bandwidth for chip in CHIPS.values()}
SECONDS_BETWEEN = 0.03  # pause, since OpenMP threads of the case before go on spinning for a while


class Case(NamedTuple):
  """Something to be timed.

  Attributes:
    name: name of the case.
    call: runs the case once; its result is waited for. None if there is too little memory to run
      it, or if its costs are computed alone.
    number: how many units one call makes; 0 if there is nothing to count. Tokens are all those of a
      training step, or one new token for each task.
    flops: flops of one call; None if they are not known.
    moved: bytes that one call reads and writes, by XLA's analysis; None if they are not known.
    dtype: type of the arithmetic, for the share of peak.
    temporaries: bytes that one call needs beside its arguments and results, by XLA's analysis.
    baseline: name of the case that it is compared with.
    compile_seconds: how long its program took to trace and to compile; None without a program.
    unit: what is counted.
    peer: True if this is not metakit, but what one would use otherwise.
    agreement: the share of its answers that are those of the baseline, if it computes something
      else; None otherwise.
    size: of what grows, if the costs are computed for several sizes; None otherwise.
    arguments: bytes of its arguments, on one device.
  """

  name: str
  call: Callable[[], Any] | None
  number: int = 0
  flops: float | None = None
  dtype: str = 'float32'
  temporaries: int = 0
  baseline: str = ''
  compile_seconds: float | None = None
  unit: str = 'tokens'
  peer: bool = False
  moved: float | None = None
  agreement: float | None = None
  size: int | None = None
  arguments: int = 0


def time_cases(cases: Sequence[Case], repeats: int) -> list[dict[str, Any]]:
  """Times each case `repeats` times after one call that is not counted.

  Returns:
    A row for each. It has the name, the peer, per_second with its unit, temporary_mib, and:
    milliseconds, the median and the quartiles (None if the case is not run);
    compile_seconds (None if nothing is compiled);
    gflop of a call, gflops_per_second and gigabytes_per_second, with their shares of the device's
    peak and of its memory bandwidth (None if they are not known);
    ratio, the time of the baseline over that of the case, if there is a baseline: the median over
    rounds, and the quartiles;
    agreement, if it is known.
    A case whose costs are computed alone has its size, argument_mib and gflop.
  """
  for case in cases:
    if case.call is not None:
      jax.block_until_ready(case.call())
  seconds = np.array([[_seconds(case) for case in cases] for _ in range(repeats)])
  place = {case.name: i for i, case in enumerate(cases)}
  rows: list[dict[str, Any]] = []
  for case, times in zip(cases, seconds.T, strict=True):
    low, median, high = np.quantile(times, [0.25, 0.5, 0.75])
    if case.call is None:
      memory = round(case.temporaries / 2**20, 2)
      rows.append({'name': case.name, 'milliseconds': None, 'temporary_mib': memory})
      rows[-1] |= {} if case.size is None else _computed(case)
      continue
    rate = None if case.flops is None else case.flops / median
    device = jax.devices()[0].device_kind
    peak, bandwidth = PEAKS.get((device, case.dtype)), BANDWIDTHS.get(device)
    moved = None if case.moved is None else case.moved / median
    row = {
      'name': case.name,
      'milliseconds': [round(1e3 * value, 3) for value in (median, low, high)],
      'per_second': round(case.number / median),
      'unit': case.unit,
      'peer': case.peer,
      'temporary_mib': round(case.temporaries / 2**20, 2),
      'compile_seconds': case.compile_seconds and round(case.compile_seconds, 2),
      'gflop': case.flops and _four_digits(case.flops / 1e9),
      'gflops_per_second': rate and _four_digits(rate / 1e9),
      'share_of_peak': rate and peak and round(rate / peak, 3),
      'gigabytes_per_second': moved and _four_digits(moved / 1e9),
      'share_of_bandwidth': moved and bandwidth and round(moved / bandwidth, 3),
    }
    if case.baseline and cases[place[case.baseline]].call is not None:
      ratios = np.quantile(seconds[:, place[case.baseline]] / times, [0.5, 0.25, 0.75])
      row |= {'baseline': case.baseline, 'ratio': [_four_digits(float(value)) for value in ratios]}
    if case.agreement is not None:
      row['agreement'] = _four_digits(case.agreement)
    rows.append(row)
  return rows


def _computed(case: Case) -> dict[str, Any]:
  arguments, flops = round(case.arguments / 2**20, 2), case.flops or 0.0
  return {'size': case.size, 'argument_mib': arguments, 'gflop': _four_digits(flops / 1e9)}


def computed_case(name: str, size: int, lowered: Any, *, flops: float) -> Case:
  """Compiles a program and returns what it costs on one device; it is never run.

  Args:
    name: name of the case, the same for all sizes.
    size: of what grows.
    lowered: the program, as `jax.jit(f).lower(x)` returns it. Shapes are enough for x.
    flops: of its products, see metakit.costs.
  """
  memory = lowered.compile().memory_analysis()
  temporaries, arguments = memory.temp_size_in_bytes, memory.argument_size_in_bytes
  return Case(name, None, flops=flops, temporaries=temporaries, size=size, arguments=arguments)


def compiled_case(
  name: str,
  function: Callable[..., Any],
  arguments: tuple[Any, ...],
  *,
  limit: float = math.inf,
  baseline: str = '',
  number: int = 0,
  dtype: str = 'float32',
  unit: str = 'tokens',
  peer: bool = False,
) -> Case:
  """Compiles a function of some arguments, and counts its matrix products and convolutions.

  Args:
    name: name of the case.
    function: to compile.
    arguments: its arguments.
    limit: bytes; the function is run only if its temporaries fit.
    baseline: see Case.
    number: see Case.
    dtype: see Case.
    unit: see Case.
    peer: see Case.
  """
  start = time.perf_counter()
  compiled = jax.jit(function).lower(*arguments).compile()
  seconds = time.perf_counter() - start
  memory = compiled.memory_analysis()
  temporaries = 0 if memory is None else memory.temp_size_in_bytes
  call = (lambda: compiled(*arguments)) if temporaries <= limit else None
  flops = product_flops(function, *arguments)
  moved = (compiled.cost_analysis() or {}).get('bytes accessed')
  return Case(name, call, number, flops, dtype, temporaries, baseline, seconds, unit, peer, moved)


def _four_digits(value: float) -> float:
  return float(f'{value:.4g}')  # a small number keeps as many digits as a large one


def _seconds(case: Case) -> float:
  if case.call is None:
    return float('nan')
  time.sleep(SECONDS_BETWEEN)
  start = time.perf_counter()
  jax.block_until_ready(case.call())
  return time.perf_counter() - start
