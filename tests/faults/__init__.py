"""Faults that the tests catch: planted one at a time, so that a test that sees nothing is seen.

  python -m tests.faults --jobs=2

A fault is a few characters of one file (`Fault`), listed by the area it is in; caught.md says which
test caught it. tests/faults/test_faults.py checks that the list still fits the code.
"""

from tests.faults import (
  binaries,
  checkpoint,
  costs,
  data,
  densities,
  domains,
  engine,
  evaluation,
  heads,
  incremental,
  launchers,
  learners,
  networks,
  neural_processes,
  niw_meta,
  samplers,
  streams,
  tables,
)

AREAS = {
  'learners': learners.FAULTS,
  'heads': heads.FAULTS,
  'samplers': samplers.FAULTS,
  'data': data.FAULTS,
  'engine': engine.FAULTS,
  'networks': networks.FAULTS,
  'checkpoint': checkpoint.FAULTS,
  'evaluation': evaluation.FAULTS,
  'binaries': binaries.FAULTS,
  'launchers': launchers.FAULTS,
  'densities': densities.FAULTS,
  'processes': neural_processes.FAULTS,
  'niw_meta': niw_meta.FAULTS,
  'tables': tables.FAULTS,
  'costs': costs.FAULTS,
  'streams': streams.FAULTS,
  'incremental': incremental.FAULTS,
  'domains': domains.FAULTS,
}
