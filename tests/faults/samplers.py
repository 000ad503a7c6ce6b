"""Faults in samplers and in what is made of them."""

from tests.faults.fault import Fault

COMBINATORS = 'metakit/episodes/combinators.py'
BALANCE = 'metakit/balance.py'
FEW = 'episodes/test_few_shot.py::'
COMBINED = 'episodes/test_combinators.py::'
BALANCED = 'test_balance.py::'
FUNCTIONS = 'episodes/test_functions.py::'
SPURIOUS = 'metakit/episodes/spurious.py'
TIED = 'episodes/test_spurious.py::'
COLOURS = 'metakit/episodes/colour_transforms.py'

FAULTS = (
  Fault(
    'queries have the context of their class',
    SPURIOUS,
    'of_labels(query.y, own, bits[:, first:], other=True)',
    'of_labels(query.y, own, bits[:, first:], other=False)',
    f'{TIED}test_contexts_are_as_frequent_as_the_closed_form_says',
  ),
  Fault(
    'queries of a context that the support lacks count as wrong',
    'metakit/evaluation/correlation.py',
    '(there[query.y] & (query.y >= 0))',
    '(query.y >= 0)',
    f'{TIED}test_the_gap_is_that_of_nearest_means_written_out',
  ),
  Fault(
    'classes of an episode share contexts',
    SPURIOUS,
    'choose(bits[:ways], contexts)',
    'reduce_below(bits[:ways], jnp.full(ways, contexts))',
    f'{TIED}test_at_strength_one_a_class_has_one_context_and_its_queries_have_those_of_others',
  ),
  Fault(
    'a shuffle swaps with any place',
    'metakit/episodes/integer_draws.py',
    'undo_swaps(step, step + reduce_below(bits, count - step))',
    'undo_swaps(step, reduce_below(bits, count))',
    f'{FEW}test_draws_equal_a_shuffle_written_out',
  ),
  Fault(
    'support and query are exchanged',
    'metakit/episodes/few_shot.py',
    'return Episode(part(0, shots), part(shots, rows.shape[1]), info)',
    'return Episode(part(shots, rows.shape[1]), part(0, shots), info)',
    f'{FEW}test_plans_are_the_same_integers_for_ever',
  ),
  Fault(
    'rows are drawn by the bits of their class',
    'metakit/episodes/few_shot.py',
    'rows = jax.vmap(choose)(bits[:, 1:], counts[classes]) + starts[classes, None]',
    'rows = jax.vmap(choose)(bits[:, :-1], counts[classes]) + starts[classes, None]',
    f'{FEW}test_plans_are_the_same_integers_for_ever',
  ),
  Fault(
    'rows of a regression are those of the first task',
    'metakit/episodes/table_regression.py',
    'rows = choose(bits[1:], counts[task]) + starts[task]',
    'rows = choose(bits[1:], counts[task])',
    'episodes/test_table_regression.py::test_all_rows_are_of_one_task_and_none_is_there_twice',
  ),
  Fault(
    'numbers are drawn in the precision of the process',
    'metakit/episodes/draws.py',
    'return _precise(jax.random.normal(key, shape, jnp.float32))',
    'return _precise(jax.random.normal(key, shape))',
    'episodes/test_laws.py::test_float64_changes_no_draw[functions]',
  ),
  Fault(
    'queries of every class are as many as the largest allows',
    'metakit/episodes/variable_shot.py',
    'fewest = jnp.min(jnp.where(real, counts, largest))',
    'fewest = jnp.max(jnp.where(real, counts, 0))',
    'episodes/test_variable_shot.py::test_no_real_row_twice_and_labels_name_the_class'
    ' episodes/test_variable_shot.py::test_the_moments_are_those_of_the_paper',
  ),
  Fault(
    'one query too many of each class is real',
    'metakit/episodes/variable_shot.py',
    '(query_way < sizes.ways) & (place < sizes.queries)',
    '(query_way < sizes.ways) & (place <= sizes.queries)',
    'episodes/test_variable_shot.py::test_plans_are_the_same_integers_for_ever'
    ' episodes/test_variable_shot.py::test_weights_count_what_info_says',
  ),
  Fault(
    'no ball is added to the urn',
    'metakit/episodes/imbalanced.py',
    'balls = jnp.where(drawn < left, concentration + drawn, 0)',
    'balls = jnp.where(drawn < left, concentration, 0)',
    'episodes/test_imbalanced.py::test_plans_are_the_same_integers_for_ever'
    ' episodes/test_imbalanced.py::test_counts_are_dirichlet_multinomial',
  ),
  Fault(
    'examples with and without a label overlap',
    'metakit/episodes/semi_supervised.py',
    'others = rows[:, shots : shots + unlabelled].ravel()',
    'others = rows[:, :unlabelled].ravel()',
    'episodes/test_semi_supervised.py::test_no_row_twice',
  ),
  Fault(
    'a group is drawn in proportion to its classes',
    'metakit/episodes/within_group.py',
    'return planned(bits, reduce_below(bits[ways, 0], groups))',
    'chosen = reduce_below(bits[ways, 0], len(table.counts))\n'
    '    return planned(bits, jnp.asarray(np.sort(table.groups))[chosen])',
    'episodes/test_within_group.py::test_plans_are_the_same_integers_for_ever'
    ' episodes/test_within_group.py::test_groups_are_equally_likely_whatever_their_size',
  ),
  Fault(
    'the first row of a class has the label of the class before',
    'metakit/episodes/projected.py',
    "y = permutation[jnp.searchsorted(starts, drawn, side='right') - 1]",
    'y = permutation[jnp.searchsorted(starts, drawn) - 1]',
    'episodes/test_projected.py::test_labels_are_permuted_by_the_task',
  ),
  Fault(
    'held out tasks are those of training',
    'metakit/episodes/projected.py',
    'jax.random.fold_in(pools, int(held_out)), jax.random.fold_in(pools, 0)',
    'jax.random.fold_in(pools, 0), jax.random.fold_in(pools, 0)',
    'episodes/test_projected.py::test_held_out_tasks_are_others',
  ),
  Fault(
    'support and query are augmented by the same keys',
    'metakit/episodes/augmentation.py',
    "keys = (key, key) if each == 'class' else jax.random.split(key)",
    'keys = key, key',
    f'{COMBINED}test_augment_draws_independently_for_every_example',
  ),
  Fault(
    'classes are reordered by the inverse permutation',
    COMBINATORS,
    'jnp.zeros_like(v).at[permutation].set(v)',
    'v[permutation]',
    f'{COMBINED}test_relabel_keeps_support_query_and_classes_together',
  ),
  Fault(
    'a mixture draws by the shares of those before alone',
    COMBINATORS,
    'np.rint(np.cumsum(values) / values.sum() * 2**31)',
    'np.rint(values / values.sum() * 2**31)',
    f'{COMBINED}test_mixture_draws_components_by_their_weights',
  ),
  Fault(
    'the component of a mixture is drawn by the key of its episode',
    COMBINATORS,
    'key, component_key = jax.random.split(key)',
    'component_key = key',
    f'{COMBINED}test_a_mixed_episode_is_the_component_episode',
  ),
  Fault(
    'a curriculum grows one step early',
    COMBINATORS,
    'start + by * (jnp.asarray(step) // every)',
    'start + by * ((jnp.asarray(step) + 1) // every)',
    f'{COMBINED}test_a_curriculum_grows_with_the_step',
  ),
  Fault(
    'a switch comes one step late',
    COMBINATORS,
    'early = jnp.asarray(step) < steps',
    'early = jnp.asarray(step) <= steps',
    'metakit/episodes/combinators.py::metakit.episodes.combinators.switch',
  ),
  Fault(
    'what is called clean has noise',
    'metakit/episodes/functions.py',
    "info = {'function': function, 'clean': clean[shots:]}",
    "info = {'function': function, 'clean': y[shots:]}",
    f'{FUNCTIONS}test_noise_is_on_support_and_query_and_not_on_what_is_clean',
  ),
  Fault(
    'a network is scaled by a variance',
    'metakit/episodes/functions.py',
    'return (2 / hidden) ** 0.5 * jax.nn.relu(',
    'return (2 / hidden) * jax.nn.relu(',
    f'{FUNCTIONS}test_networks_are_their_formula',
  ),
  Fault(
    'the prior of a pool has one function too many',
    'metakit/episodes/function_combinators.py',
    'jnp.where(number < tasks, -jnp.log(jnp.float32(tasks)), -jnp.inf)',
    'jnp.where(number <= tasks, -jnp.log(jnp.float32(tasks)), -jnp.inf)',
    f'{FUNCTIONS}test_a_pool_of_traced_size_is_the_pool_of_that_size',
  ),
  Fault(
    'outside of a jit noise is added with another rounding',
    'metakit/episodes/sinusoid.py',
    '  @jax.jit  # one program',
    '  # one program',
    'episodes/test_laws.py::test_an_episode_outside_of_a_jit_has_the_same_bits[sinusoid:noise]',
    'optimised',
  ),
  Fault(
    'the sine is shifted the other way',
    'metakit/episodes/sinusoid.py',
    'y = a * jnp.sin(x - p)',
    'y = a * jnp.sin(x + p)',
    'episodes/test_sinusoid.py::test_y_is_the_sine_of_the_sign_in_the_released_code',
  ),
  Fault(
    'no image is shifted down or right to the end',
    'metakit/episodes/image_transforms.py',
    'draws.integers(key, (2,), 0, 2 * max_pixels + 1)',
    'draws.integers(key, (2,), 0, 2 * max_pixels)',
    'episodes/test_image_transforms.py::test_shifts_are_all_shifts_equally_likely',
  ),
  Fault(
    'the square of an odd cutout is a pixel off',
    'metakit/episodes/image_transforms.py',
    'jnp.array(shape)) - size // 2',
    'jnp.array(shape)) - (size + 1) // 2',
    'episodes/test_image_transforms.py::test_squares_are_cut_out_at_every_centre_equally_likely',
  ),
  Fault(
    'contrast is changed towards the gray image',
    COLOURS,
    'jnp.where(which == 1, gray.mean(), gray)',
    'jnp.where(which == 2, gray.mean(), gray)',
    'episodes/test_image_transforms.py::test_colours_are_jittered_by_the_definition',
  ),
  Fault(
    'changed colours are not cut to the range of pixels',
    COLOURS,
    'x = jnp.clip(factor * x + (1 - factor) * other, 0, most)',
    'x = factor * x + (1 - factor) * other',
    'episodes/test_image_transforms.py::test_colours_are_jittered_by_the_definition',
  ),
  Fault(
    'hues are turned by sixths of the circle',
    COLOURS,
    '+ 6 * by) % 6',
    '+ by) % 6',
    'episodes/test_image_transforms.py::test_hues_are_turned_as_in_hsv',
  ),
  Fault(
    'classes are turned clockwise',
    'metakit/episodes/turned_classes.py',
    'jnp.rot90(x, turn, (1, 2))',
    'jnp.rot90(x, turn, (2, 1))',
    f'{COMBINED}test_quarter_turns_as_classes_are_those_of_a_table_of_all_turned_images',
  ),
  Fault(
    'a high temperature draws small families less often',
    BALANCE,
    'np.log(_checked(sizes)) / _positive(temperature)',
    'np.log(_checked(sizes)) * _positive(temperature)',
    f'{BALANCED}test_shares_are_powers_of_sizes',
  ),
  Fault(
    'a weight enters the variance of a gradient once',
    BALANCE,
    '(p * w**2) @',
    '(p * w) @',
    f'{BALANCED}test_the_closed_form_is_the_sum_over_all_tasks',
  ),
  Fault(
    'the losses of families are not weighed',
    BALANCE,
    'return factor * value, metrics',
    'return value, metrics',
    f'{BALANCED}test_both_estimate_the_same_gradient',
  ),
  Fault(
    'moments of gradients count tasks beyond the draws',
    BALANCE,
    'ravel_pytree(slope)[0] * (number < draws)',
    'ravel_pytree(slope)[0]',
    f'{BALANCED}test_a_loss_that_changes_in_training_is_weighed_and_measured_too',
  ),
  Fault(
    'a stage of a mixture begins one step late',
    COMBINATORS,
    'jnp.asarray(step) >= np.asarray(starts, np.int32)',
    'jnp.asarray(step) > np.asarray(starts, np.int32)',
    f'{BALANCED}test_stages_begin_in_any_order_after_the_first_weights',
  ),
  Fault(
    'a limited number of episodes has one more',
    'metakit/episodes/limited.py',
    'integers_below(key, episodes)',
    'integers_below(key, episodes + 1)',
    'metakit/episodes/limited.py::metakit.episodes.limited.limited',
  ),
  Fault(
    'kinds of processes cool down to the temperature they had',
    'experiments/components/process_tasks.py',
    'cooldown(sizes, cooldown_steps, hot=temperature)',
    'cooldown(sizes, cooldown_steps, hot=temperature, cold=temperature)',
    'episodes/test_processes.py::'
    'test_kinds_of_unequal_sizes_are_drawn_by_a_temperature_and_cool_down',
  ),
)
