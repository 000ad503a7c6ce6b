"""Faults in learning from tables: the prior, the learner, its network, and its estimators."""

from tests.faults.fault import Fault

PRIOR = 'metakit/episodes/tables.py'
GRAPHS = 'metakit/episodes/causal_models.py'
LEARNER = 'metakit/learners/tabular.py'
NETWORK = 'metakit/networks/two_way.py'
ESTIMATORS = 'metakit/estimators/tabular.py'
VIEWS = 'metakit/estimators/views.py'
OF_PRIOR = 'episodes/test_tables.py::'
OF_LEARNER = 'learners/test_tabular.py::'
OF_ESTIMATORS = 'test_tabular_estimators.py::'
IN_NUMPY = f'{OF_LEARNER}test_predictions_from_the_cache_are_those_of_all_cells_in_numpy[post]'

FAULTS = (
  Fault(
    'targets of tables are normalised by their queries too',
    PRIOR,
    'count = present.sum()',
    'present = jnp.ones_like(present)\n  count = present.sum()',
    f'{OF_PRIOR}test_targets_of_a_regression_are_normalised_by_the_support_and_no_column',
  ),
  Fault(
    'queries count of classes that were never shown',
    PRIOR,
    'return y, of_support(y)[y], number, place',
    'return y, jnp.ones(len(y), bool), number, place',
    f'{OF_PRIOR}test_queries_of_classes_that_do_not_occur_do_not_count',
  ),
  Fault(
    'the target of a table may be a column of it',
    PRIOR,
    'usable = (number < each * (depth + 1)) & (number != place)',
    'usable = number < each * (depth + 1)',
    f'{OF_PRIOR}test_targets_of_a_regression_are_normalised_by_the_support_and_no_column',
    added=True,
  ),
  Fault(
    'effects of effects are effects of the causes',
    GRAPHS,
    'before @ weight + causes @ skip',
    'causes @ weight + causes @ skip',
    f'{OF_PRIOR}test_nodes_are_those_of_a_loop_over_the_graph',
  ),
  Fault(
    'padded columns of a table are 0',
    PRIOR,
    'jnp.where(jnp.arange(columns) < number, x, jnp.nan)',
    'jnp.where(jnp.arange(columns) < number, x, 0)',
    f'{OF_PRIOR}test_rows_columns_and_classes_are_padded',
  ),
  Fault(
    'a pool of tables is another each time',
    PRIOR,
    'jax.random.fold_in(root, integers_below(key, tasks))',
    'jax.random.fold_in(key, integers_below(key, tasks))',
    f'{OF_PRIOR}test_a_pool_has_so_many_tables_and_a_larger_one_holds_them',
  ),
  Fault(
    'a missing cell is read as the number 0',
    LEARNER,
    'jnp.where(there, value, 0), jnp.where(there, rank, 0), ~there',
    'value, rank, ~there',
    f'{OF_LEARNER}test_cells_are_values_ranks_and_gaps_of_their_column_in_the_support',
  ),
  Fault(
    'absent rows of a table count in the mean of a column',
    LEARNER,
    'seen = present[:, None] & jnp.isfinite(x)',
    'seen = jnp.isfinite(x)',
    f'{OF_LEARNER}test_cells_are_values_ranks_and_gaps_of_their_column_in_the_support',
  ),
  Fault(
    'targets of classes are not less the shares of the classes',
    LEARNER,
    'return [values - targets.mean, ',
    'return [values, ',
    IN_NUMPY,
  ),
  Fault(
    'the columns of classes that do not occur are seen',
    LEARNER,
    'there = jnp.concatenate([columns.informative, targets.occurring])\n    return Cells(',
    'there = jnp.concatenate([columns.informative, jnp.ones_like(targets.occurring)])\n'
    '    return Cells(',
    f'{OF_LEARNER}test_padding_of_rows_columns_and_classes_changes_nothing',
  ),
  Fault(
    'padded columns are attended to',
    NETWORK,
    'turn(value), seen=columns)',
    'turn(value), seen=jnp.ones_like(columns))',
    f'{OF_LEARNER}test_padding_of_rows_columns_and_classes_changes_nothing',
  ),
  Fault(
    'rows that are asked see one another',
    NETWORK,
    "    if cache is None:\n      key, value = jnp.moveaxis(heads('row_keys', 2)(z), 2, 0)\n"
    '      cache = across(key), across(value), present\n',
    "    key, value = jnp.moveaxis(heads('row_keys', 2)(z), 2, 0)\n"
    '    there = jnp.ones(len(x), bool) if present is None else present\n'
    '    fresh, old = (across(key), across(value), there), cache\n'
    '    join = lambda a, b: jnp.concatenate([a, b], axis=-2 if a.ndim > 1 else 0)\n'
    '    cache = fresh if old is None else tuple(map(join, old, fresh))\n',
    IN_NUMPY,
  ),
  Fault(
    'rows see the cells of other columns',
    NETWORK,
    'across = lambda x: x.transpose(1, 2, 0, 3)  # to [columns, heads, rows, features]',
    'across = lambda x: jnp.broadcast_to(x.mean(1, keepdims=True), x.shape).transpose(1, 2, 0, 3)',
    IN_NUMPY,
  ),
  Fault(
    'a regression predicts in deviations of its targets',
    LEARNER,
    'return targets.mean + targets.deviation * outputs[..., 0]',
    'return targets.mean + outputs[..., 0]',
    f'{OF_LEARNER}test_a_regression_predicts_in_the_units_of_its_targets',
  ),
  Fault(
    'rows that fill up a program are examples',
    VIEWS,
    'weight = (np.arange(rows) < len(x)).astype(np.float32)',
    'weight = np.ones(rows, np.float32)',
    f'{OF_ESTIMATORS}test_padding_and_scaling_change_nothing',
  ),
  Fault(
    'columns that fill up a program are 0',
    VIEWS,
    'filled = np.full((rows, columns), np.nan, np.float32)',
    'filled = np.zeros((rows, columns), np.float32)',
    f'{OF_ESTIMATORS}test_padding_and_scaling_change_nothing',
  ),
  Fault(
    'rows that are asked are scaled by themselves',
    VIEWS,
    'scaled = scale(self.scaling, x[:, self.columns])',
    'scaled = scale(fit_scaling(x[:, self.columns], False), x[:, self.columns])',
    f'{OF_ESTIMATORS}test_cells_of_a_frame_are_the_numbers_that_they_stand_for '
    f'{OF_ESTIMATORS}test_constant_columns_change_nothing '
    f'{OF_ESTIMATORS}test_padding_and_scaling_change_nothing',
    added=True,
  ),
  Fault(
    'classes of a view are named the wrong way round',
    ESTIMATORS,
    'each[0][:, vote.codes[0]]',
    'each[0][:, np.argsort(vote.codes[0])]',
    f'{OF_ESTIMATORS}test_views_of_other_orders_say_the_same_and_are_averaged',
  ),
  Fault(
    'a view forgets which columns it has seen',
    VIEWS,
    'return View(trained, classes, columns, scaling, state)',
    'return View(trained, classes, np.sort(columns), scaling, state)',
    f'{OF_ESTIMATORS}test_views_of_other_orders_say_the_same_and_are_averaged',
  ),
  Fault(
    'a category that was never seen is the first',
    'metakit/estimators/cells.py',
    'places.get(_text(cell), np.nan)',
    'places.get(_text(cell), 0.0)',
    f'{OF_ESTIMATORS}test_a_category_that_was_never_seen_is_a_missing_cell',
  ),
  Fault(
    'a part of the rows loses the rare classes',
    VIEWS,
    'place[own] = np.arange(own.sum()) / own.sum()',
    'place[own] = (1 + np.arange(own.sum())) / own.sum()',
    f'{OF_ESTIMATORS}test_more_rows_than_trained_for_keep_their_shares',
  ),
  Fault(
    'codes are read by their last symbol alone',
    'metakit/estimators/codes.py',
    "np.einsum('lrs,lcs->rc', said - np.log(sums), member) / len(codes)",
    "np.einsum('rs,cs->rc', (said - np.log(sums))[-1], member[-1])",
    f'{OF_ESTIMATORS}test_codes_name_each_class_and_probabilities_are_found_again',
  ),
  Fault(
    'queries of a table are rows of its support',
    PRIOR,
    "jnp.arange(rows) < between(uniform['rows'], least_rows, shots)",
    "jnp.arange(rows) < between(uniform['rows'], least_rows, rows)",
    f'{OF_PRIOR}test_targets_of_a_regression_are_normalised_by_the_support_and_no_column',
  ),
  Fault(
    'the noise of nodes is not scaled',
    GRAPHS,
    'deviation * noise\n',
    'noise\n',
    f'{OF_PRIOR}test_nodes_are_those_of_a_loop_over_the_graph',
  ),
  Fault(
    'a rank counts cells that are missing',
    LEARNER,
    'rank = below / jnp.maximum(known.sum(0), 1).astype(x.dtype)',
    'rank = below / jnp.maximum(len(known), 1)',
    f'{OF_LEARNER}test_cells_are_values_ranks_and_gaps_of_their_column_in_the_support',
  ),
  Fault(
    'a regression of tables predicts normalised targets',
    ESTIMATORS,
    'return found * self.deviation_ + self.mean_',
    'return found + self.mean_',
    f'{OF_ESTIMATORS}test_padding_and_scaling_change_nothing',
  ),
  Fault(
    'views of a table are one and the same',
    ESTIMATORS,
    'generator.permutation(classes) if vote else',
    'generator.permutation(classes) if vote < 0 else',
    f'{OF_ESTIMATORS}test_views_of_other_orders_say_the_same_and_are_averaged',
  ),
  Fault(
    'direct tables show any nodes as columns',
    PRIOR,
    'jnp.where(direct, number - nodes - 9.0, order)',
    'jnp.where(direct, order, order)',
    f'{OF_PRIOR}test_direct_tables_show_all_that_the_target_depends_on',
  ),
  Fault(
    'a dense network reads causes that no column shows',
    GRAPHS,
    'jnp.where(jnp.arange(nodes) < number, ',
    'jnp.where(jnp.arange(nodes) >= 0, ',
    f'{OF_PRIOR}test_a_dense_network_reads_the_first_causes_alone',
  ),
)
