"""Faults in costs that are computed from compiled programs."""

from tests.faults.fault import Fault

TRAFFIC = 'metakit/traffic.py'
PAGES = 'experiments/tables/test_tables_of_costs.py::'

FAULTS = (
  Fault(
    'the body of a loop counts once',
    TRAFFIC,
    '_visit(computations, called, number * rounds, times, loops)',
    '_visit(computations, called, number, times, loops)',
    'test_traffic.py::test_a_loop_counts_as_often_as_it_runs',
  ),
  Fault(
    'the condition of a loop is not read',
    TRAFFIC,
    "'direction=LT' not in root.rest",
    "'direction=LT' in root.rest",
    'test_traffic.py::test_a_program_for_a_tpu_has_the_condition_of_a_loop_alone',
  ),
  Fault(
    'a sum over devices is handed round once',
    TRAFFIC,
    "{'all-reduce': 2 * share,",
    "{'all-reduce': share,",
    'test_traffic.py::test_devices_in_a_ring_send_parts[all-reduce-150]',
  ),
  Fault(
    'an update in place writes the whole array',
    TRAFFIC,
    'if each.kind == UPDATE else whole',
    'if each.kind == SLICES else whole',
    'test_traffic.py::test_a_row_that_is_sliced_or_changed_in_place_is_not_the_whole_array',
  ),
  Fault(
    'tiles are laid along the slow axes',
    TRAFFIC,
    "for each in tile[1].split(',')][::-1]",
    "for each in tile[1].split(',')]",
    'test_traffic.py::test_tiles_count_with_their_padding_and_what_stays_on_the_chip_does_not',
  ),
  Fault(
    'an exponent comes from the first size and the last',
    'experiments/tables/growth.py',
    'math.log(values[-1] / values[-2]) / math.log(sizes[-1] / sizes[-2])',
    'math.log(values[-1] / values[0]) / math.log(sizes[-1] / sizes[0])',
    f'{PAGES}test_exponents_come_from_the_last_two_sizes',
  ),
  Fault(
    'what breaks last stands first',
    'experiments/tables/growth.py',
    '  first = order[0]\n',
    '  first = order[-1]\n',
    f'{PAGES}test_what_breaks_first_stands_first_and_is_named',
  ),
  Fault(
    'a step is bound by what takes least',
    'experiments/benchmarks/chips.py',
    'return max(self._fields',
    'return min(self._fields',
    f'{PAGES}test_a_step_takes_as_long_as_what_takes_longest',
  ),
)
