"""Faults in streams of tasks, and in the choice of sources."""

from tests.faults.fault import Fault

STRATEGIES = 'metakit/streams/strategies.py'
TUNING = 'metakit/streams/tuning.py'
RUNNING = 'metakit/streams/running.py'
TESTS = 'streams/test_streams.py::'
TRANSFER = 'metakit/transfer.py'
OF_TRANSFER = 'test_transfer.py::test_'

FAULTS = (
  Fault(
    'products in a loop are counted once',
    'metakit/costs.py',
    'return max(float(analysed), float(product_flops(function, *arguments)))',
    'return float(analysed)',
    'test_costs.py::test_loops_do_not_hide_products_from_the_analysis',
  ),
  Fault(
    'one trial alone is paid for',
    TUNING,
    'return steps * one + analysed_flops(errors',
    'return steps * one / len(rates) + analysed_flops(errors',
    f'{TESTS}test_an_event_costs_its_steps_times_its_trials',
  ),
  Fault(
    'the body of the loop of steps counts once',
    TUNING,
    'return steps * one + analysed_flops(errors',
    'return one + analysed_flops(errors',
    f'{TESTS}test_an_event_costs_its_steps_times_its_trials',
  ),
  Fault(
    'the worst trial is kept',
    TUNING,
    'best = jnp.argmin(jnp.where(jnp.isfinite(found), found, jnp.inf))',
    'best = jnp.argmax(jnp.where(jnp.isfinite(found), found, jnp.inf))',
    f'{TESTS}test_the_best_trial_is_kept',
  ),
  Fault(
    'classes that an event does not have are learned',
    TUNING,
    'jnp.where(jnp.arange(room) < outputs, values',
    'jnp.where(jnp.arange(room) <= outputs, values',
    f'{TESTS}test_classes_that_an_event_does_not_have_are_not_learned',
  ),
  Fault(
    'the neighbours choose the network that suits least',
    STRATEGIES,
    'if not found > min(errors))',
    'if not found < max(errors))',
    f'{TESTS}test_the_nearest_neighbours_find_the_family_and_win',
  ),
  Fault(
    'only the network that is chosen is paid for',
    STRATEGIES,
    'together(*(used for _, used in told))',
    'told[place][1]',
    f'{TESTS}test_each_network_that_is_tried_is_paid_for',
  ),
  Fault(
    'the start stays where it was',
    STRATEGIES,
    'move = lambda old, new: (1 - np.float32(rate)) * old + np.float32(rate) * new',
    'move = lambda old, new: old',
    f'{TESTS}test_the_event_before_helps_where_transfer_is_positive',
  ),
  Fault(
    'the state is not part of the checkpoint',
    RUNNING,
    "state, log = restored[1]['state'], Log(",
    'log = Log(',
    f'{TESTS}test_a_stream_that_was_stopped_ends_with_the_same_bits',
  ),
  Fault(
    'a source is a pivot of its own',
    TRANSFER,
    'np.where(np.eye(len(guess), dtype=bool), 0, (transfer + guess) / 2)',
    '(transfer + guess) / 2',
    f'{OF_TRANSFER}pivots_are_the_sum_of_the_paper',
  ),
  Fault(
    'the line of the first guess sees the new target',
    TRANSFER,
    'guess = _on_scale(known, likeness[np.ix_(rest, rest)], likeness[rest, target])',
    'guess = _on_scale(transfer, likeness, likeness[rest, target])',
    f'{OF_TRANSFER}a_prediction_never_sees_the_new_target',
  ),
  Fault(
    'regret is that of the worst sources',
    TRANSFER,
    'most - measured[chosen].mean()',
    'most - measured[best].min()',
    f'{OF_TRANSFER}rankings_are_judged_as_in_the_paper',
  ),
)
