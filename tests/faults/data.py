"""Faults in data sources and tables."""

from tests.faults.fault import Fault

TABLE = 'metakit/data/table.py'

FAULTS = (
  Fault(
    'the part held out is the part to train on',
    TABLE,
    'kept = (numbers % every == 0) == held_out',
    'kept = (numbers % every == 0) != held_out',
    'data/test_table.py::test_one_row_in_so_many_is_held_out_of_each_class',
    added=True,
  ),
  Fault(
    'rows are held out by their place in the table',
    TABLE,
    'numbers = np.arange(len(table.x)) - np.repeat(table.starts, table.counts)',
    'numbers = np.arange(len(table.x))',
    'data/test_table.py::test_one_row_in_so_many_is_held_out_of_each_class',
    added=True,
  ),
  Fault(
    'numbers are standardised by the rows that are tested on',
    'metakit/data/targets.py',
    'encoding = dict(rows_encoding(training))',
    'encoding = dict(rows_encoding(table))',
    'data/test_targets.py::test_numbers_and_targets_are_in_the_units_of_training_alone'
    ' data/test_rows.py::test_statistics_are_of_the_training_tasks_alone_and_it_is_said',
  ),
  Fault(
    'targets stay in the order of the file',
    'metakit/data/targets.py',
    "return table._replace(y=y[np.argsort(tasks, kind='stable')])",
    'return table._replace(y=y)',
    'data/test_targets.py::test_a_task_is_a_group_and_its_targets_go_with_its_rows',
  ),
  Fault(
    'windows of a series overlap',
    'metakit/data/series.py',
    'step = stride or past + future',
    'step = stride or past',
    'data/test_series.py::test_windows_of_a_series_are_followed_by_their_targets',
  ),
  Fault(
    'predictions stay in the units of training',
    'metakit/data/encodings.py',
    "return y * known['deviation'] + known['mean'] if known else y",
    'return y',
    'experiments/runs/test_own_data.py::'
    'test_rows_of_a_new_task_become_predictions_in_the_units_of_the_file',
  ),
  Fault(
    'embeddings are in the order of the classes',
    'metakit/data/text.py',
    'x, classes.numbers, classes.names, groups',
    'x, np.sort(classes.numbers), classes.names, groups',
    'data/test_text.py::test_embeddings_stand_for_the_texts_in_the_order_of_the_file',
  ),
  Fault(
    'classes are selected without their groups',
    TABLE,
    'groups=table.groups[classes],',
    'groups=table.groups[: len(classes)],',
    'data/test_table.py::test_selected_classes_keep_rows_names_and_groups_in_the_given_order',
  ),
  Fault(
    'the classes of a part come in the order of the draw',
    'metakit/data/splits.py',
    'return select_classes(table, np.sort(chosen))',
    'return select_classes(table, chosen)',
    'data/test_splits.py::test_a_split_is_the_same_for_ever'
    ' data/test_splits.py::test_rows_and_groups_go_with_their_class',
  ),
  Fault(
    'validation and test are exchanged',
    'metakit/data/parts.py',
    "PARTS = ('train', 'validation', 'test')",
    "PARTS = ('train', 'test', 'validation')",
    'data/test_splits.py::test_a_split_is_the_same_for_ever',
  ),
  Fault(
    'groups are split',
    'metakit/data/splits.py',
    "whole_groups = by == 'group' and len(groups) > 1",
    "whole_groups = by == 'group' and len(groups) == 1",
    'data/test_splits.py::test_whole_groups_go_to_one_part',
  ),
  Fault(
    'the sum of a table does not know the names of its classes',
    'metakit/fingerprint.py',
    'digest.update(repr((table.names, table.group_names)).encode())',
    'digest.update(repr(len(table.names)).encode())',
    'test_fingerprint.py::test_it_tells_data_apart',
  ),
  Fault(
    'one batch less is read ahead',
    'metakit/sources.py',
    'if len(pending) > depth:',
    'if len(pending) >= depth:',
    'test_sources.py::test_order_is_kept_and_one_other_thread_reads_depth_items_ahead',
  ),
  Fault(
    'a table of another number of rows is opened',
    'metakit/data/saved.py',
    'if counted != len(table.x):',
    'if counted > len(table.x):',
    'data/test_saved.py::test_missing_and_damaged_tables_are_named',
    added=True,
  ),
  Fault(
    'sixteen bits are rounded down',
    'metakit/data/numbers.py',
    '(values.astype(np.uint32) * 255 + 32767) // 65535',
    '(values.astype(np.uint32) * 255) // 65535',
    'data/test_numbers.py::test_rounding_is_to_the_nearest',
  ),
  Fault(
    'a member of any size is read',
    'metakit/data/files.py',
    'if info.file_size > most:',
    'if info.file_size > LARGEST_MEMBER:',
    'data/test_files.py::test_a_member_that_is_or_unpacks_to_more_than_it_may_is_refused',
  ),
  Fault(
    'the check sum of a gzip file is not looked at',
    'metakit/data/mnist.py',
    '  if not whole:\n',
    '  if not data:\n',
    'data/test_mnist.py::test_a_gzip_file_without_its_check_sum_is_refused',
  ),
)
