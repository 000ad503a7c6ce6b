"""Faults in checkpoints."""

from tests.faults.fault import Fault

FILE = 'metakit/checkpoint.py'
TESTS = 'test_checkpoint.py::'

FAULTS = (
  Fault(
    'files are not checked',
    FILE,
    '  _check_same_files(listed[FILES], _files(folder / str(step)))\n',
    '',
    f'{TESTS}test_damage_to_any_file_is_noticed_and_the_step_before_is_used',
  ),
  Fault(
    'values are not checked',
    FILE,
    '    if what != listed[ARRAYS][name]:\n',
    '    if what and not listed[ARRAYS][name]:\n',
    f'{TESTS}test_values_that_changed_on_their_way_to_the_disk_are_noticed',
  ),
  Fault(
    'the list of sums is not checked',
    FILE,
    '  if checksum != _sum_of(listed):\n',
    '  if not checksum:\n',
    f'{TESTS}test_damage_to_any_file_is_noticed_and_the_step_before_is_used'
    f' {TESTS}test_a_best_step_whose_score_cannot_be_read_is_named_and_stays',
  ),
  Fault(
    'one checkpoint more is kept',
    FILE,
    'return [step for step in whole[keep:] if step not in best]',
    'return [step for step in whole[keep + 1 :] if step not in best]',
    f'{TESTS}test_only_the_newest_are_kept',
  ),
  Fault(
    'the best is the worst',
    FILE,
    'return sorted(finite, key=lambda step: (scores[step], step), reverse=True)',
    'return sorted(finite, key=lambda step: (scores[step], step))',
    f'{TESTS}test_the_best_is_kept_beside_the_newest_and_found_after_a_restart',
  ),
  Fault(
    'the newest is restored where the best is asked for',
    FILE,
    'order=_order(folder, best, step)',
    'order=_order(folder, False, step)',
    f'{TESTS}test_the_best_is_kept_beside_the_newest_and_found_after_a_restart',
  ),
  Fault(
    'a step counts before its arrays are written',
    FILE,
    '    _beside(folder, step).unlink(missing_ok=True)  # without',
    "    _write(_beside(folder, step), '{}')  # without",
    f'{TESTS}test_a_save_cut_short_leaves_the_step_before_it_the_newest',
  ),
  Fault(
    'another type of arrays is cast',
    FILE,
    '  _check_same_arrays(step, listed[ARRAYS], state)\n',
    '',
    f'{TESTS}test_another_configuration_is_refused_by_the_name_of_a_leaf',
  ),
)
