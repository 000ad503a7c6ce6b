"""Faults in tricks for new classes in sessions."""

from tests.faults.fault import Fault

TESTS = 'incremental/test_incremental.py::'
SUBNETWORK = 'metakit/incremental/subnetwork.py'
BASE = 'metakit/incremental/base_training.py'
PAIRS = 'metakit/incremental/pseudo_classes.py'
SESSIONS = 'metakit/incremental/base_sessions.py'
CONTRAST = 'metakit/losses/supervised_contrastive.py'

FAULTS = (
  Fault(
    'an anchor is compared with itself',
    CONTRAST,
    ' & ~jnp.eye(len(there), dtype=bool)',
    '',
    'losses/test_losses.py::test_the_contrastive_loss_is_eq_2_by_loops',
  ),
  Fault(
    'an anchor with more positives counts more',
    CONTRAST,
    '(logs / jnp.maximum(count, 1)).sum()',
    '(logs / jnp.maximum(count.mean(), 1)).sum()',
    'losses/test_losses.py::test_the_contrastive_loss_is_eq_2_by_loops',
  ),
  Fault(
    'prototypes are orthogonal, not at the widest angles',
    'metakit/incremental/equiangular.py',
    'jnp.eye(classes) - 1 / classes',
    'jnp.eye(classes)',
    f'{TESTS}test_prototypes_have_equal_lengths_and_angles',
  ),
  Fault(
    'two pairs of classes share a number',
    PAIRS,
    '(2 * classes - low - 1) // 2',
    '(2 * classes - low - 2) // 2',
    f'{TESTS}test_each_pair_of_classes_has_a_number_of_its_own',
  ),
  Fault(
    'a mixture of one class is a pair',
    PAIRS,
    'known = (y != other) & (y >= 0)',
    'known = (y >= 0)',
    f'{TESTS}test_mixtures_are_of_two_classes_and_say_which',
  ),
  Fault(
    'prototypes are learned',
    BASE,
    "[jax.lax.stop_gradient(params['prototypes'])]",
    "[params['prototypes']]",
    f'{TESTS}test_prototypes_stand_still_and_mixtures_have_outputs_after_them',
  ),
  Fault(
    'pairs have the outputs of classes to come',
    BASE,
    'output = (tricks.prototypes or classes) + mixed.y',
    'output = classes + mixed.y',
    f'{TESTS}test_prototypes_stand_still_and_mixtures_have_outputs_after_them',
  ),
  Fault(
    'the weight of the contrastive loss is ignored',
    BASE,
    'value += tricks.contrastive * contrast(',
    'value += contrast(',
    f'{TESTS}test_losses_are_added_with_their_weights',
  ),
  Fault(
    'the most sensitive weights are free',
    SUBNETWORK,
    "np.argsort(flat, kind='stable')[:count]",
    "np.argsort(-flat, kind='stable')[:count]",
    f'{TESTS}test_the_least_sensitive_weights_of_each_layer_are_free',
  ),
  Fault(
    'sessions tune all weights',
    SUBNETWORK,
    'jnp.where(f, w - rate * g, w)',
    'w - rate * g',
    f'{TESTS}test_masked_descent_moves_what_is_free_and_nothing_else',
  ),
  Fault(
    'normalisation is tuned too',
    SUBNETWORK,
    'int(share * flat.size) if role == WEIGHT else 0',
    'int(share * flat.size)',
    f'{TESTS}test_sessions_change_free_weights_alone',
  ),
  Fault(
    'tricks are compared with themselves',
    'experiments/output/tricks.py',
    '- of(baseline, seed) for seed',
    '- of(cell, seed) for seed',
    'experiments/runs/test_tricks.py::test_effects_are_paired_by_seed',
  ),
  Fault(
    'an interval over seeds is that of many',
    'experiments/output/tricks.py',
    'student_t.ppf(0.975, len(array) - 1)',
    '1.96',
    'experiments/runs/test_tricks.py::test_effects_are_paired_by_seed',
  ),
  Fault(
    'queries of the base are rows it was trained on',
    SESSIONS,
    'asked = first + trained[:, None] + jnp.arange',
    'asked = first + jnp.arange',
    f'{TESTS}test_streams_begin_with_the_base_and_ask_for_rows_it_was_not_trained_on',
  ),
)
