"""Faults in evaluation, estimates, objectives and measures."""

from tests.faults.fault import Fault

EVALUATOR = 'metakit/evaluation/evaluator.py'
JUDGES = 'metakit/evaluation/judges.py'
OBJECTIVES = 'metakit/objectives.py'
DIFFICULTY = 'metakit/difficulty.py'

FAULTS = (
  Fault(
    'an interval without its root',
    'metakit/estimates.py',
    'values.std(ddof=1) / len(values) ** 0.5',
    'values.std(ddof=1) / len(values)',
    'test_evaluate.py::test_the_interval_is_that_of_the_mean',
  ),
  Fault(
    'the deviation of an interval is biased',
    'metakit/estimates.py',
    'values.std(ddof=1) / len(values) ** 0.5',
    'values.std() / len(values) ** 0.5',
    'test_evaluate.py::test_the_interval_is_that_of_the_mean',
  ),
  Fault(
    'a comparison is the other way round',
    'metakit/estimates.py',
    'return estimate(values - baseline)',
    'return estimate(baseline - values)',
    'test_evaluate.py::test_a_paired_comparison_sees_a_difference_that_the_two_intervals_hide'
    ' test_evaluate.py::test_a_difference_is_as_small_as_it_is',
  ),
  Fault(
    'episodes beyond those asked for count',
    EVALUATOR,
    'values = jax.tree.map(lambda metric: _of_all(metric)[:episodes], chunks)',
    'values = jax.tree.map(_of_all, chunks)',
    'test_evaluate.py::test_the_chunk_size_does_not_matter',
  ),
  Fault(
    'every chunk has the first episodes',
    EVALUATOR,
    'plan(root, np.arange(start, start + chunk, dtype=np.int32))',
    'plan(root, np.arange(chunk, dtype=np.int32))',
    'test_evaluate.py::test_the_chunk_size_does_not_matter',
  ),
  Fault(
    'a table is embedded before its rows are finished',
    'metakit/evaluation/calibration.py',
    'if learner.features is None or source.data is None or source.finish is not None:',
    'if learner.features is None or source.data is None:',
    'test_evaluate.py::test_rows_that_are_still_to_be_finished_are_not_embedded_before',
    added=True,
  ),
  Fault(
    'a divergence is the other way round',
    OBJECTIVES,
    'return (jnp.exp(log_q) * (log_q - log_p)).sum(-1)',
    'return (jnp.exp(log_p) * (log_p - log_q)).sum(-1)',
    'test_measures.py::test_beside_the_mixture_a_classifier_differs_by_the_divergence',
  ),
  Fault(
    'an example is predicted from itself too',
    JUDGES,
    'before = jnp.arange(len(examples.y)) < number',
    'before = jnp.arange(len(examples.y)) <= number',
    'learners/test_in_context.py::test_the_learning_curve_of_any_learner',
  ),
  Fault(
    'the gain is over the second example',
    JUDGES,
    "{'gain': curve[-1] - curve[0]}",
    "{'gain': curve[-1] - curve[1]}",
    'test_evaluate.py::test_the_gain_is_of_the_last_example_over_the_first',
    added=True,
  ),
  Fault(
    'a weighted mean is over all rows',
    OBJECTIVES,
    '(kept * weight).sum() / jnp.maximum(weight.sum(), jnp.finfo(values.dtype).tiny)',
    '(kept * weight).mean()',
    'test_objectives.py::test_weighted_mean_is_the_weighted_mean',
  ),
  Fault(
    'what is not finite is the first class',
    OBJECTIVES,
    '(outputs.argmax(-1) == y) & _predicts(outputs)',
    'outputs.argmax(-1) == y',
    'test_objectives.py::test_what_is_not_finite_is_no_prediction',
  ),
  Fault(
    'squared errors are summed over outputs',
    OBJECTIVES,
    'return jnp.square(outputs - reference).mean(-1)',
    'return jnp.square(outputs - reference).sum(-1)',
    'test_objectives.py::test_squared_error_is_the_mean_over_examples_and_outputs',
  ),
  Fault(
    'an example without a label is of class 0',
    OBJECTIVES,
    'weight = jnp.where(there, weight, 0)',
    'weight = jnp.where(there, weight, weight)',
    'test_objectives.py::test_an_example_without_a_label_does_not_count',
  ),
  Fault(
    'the best of a class is that at the end too',
    'metakit/evaluation/sessions.py',
    'lost = known[:-1].max(0, initial=0) - known[-1]',
    'lost = known.max(0, initial=0) - known[-1]',
    'test_sessions.py::test_who_knows_more_at_the_end_has_forgotten_less_than_nothing',
    added=True,
  ),
  Fault(
    'queries of the last session are not asked',
    'metakit/evaluation/sessions.py',
    'count = int((of_class <= after).sum()) * sessions.queries',
    'count = int((of_class < after).sum()) * sessions.queries',
    'test_sessions.py::test_the_nearest_class_mean_after_each_session_by_hand',
  ),
  Fault(
    'amplitudes are of one side of the spectrum',
    'metakit/evaluation/in_context.py',
    'return amplitudes.at[twice].multiply(2)',
    'return amplitudes.at[twice].multiply(1)',
    'test_measures.py::test_the_spectrum_of_a_wave_is_its_amplitude',
  ),
  Fault(
    'absent examples have a regret',
    'metakit/evaluation/in_context.py',
    'excess = jnp.where(known(examples), theirs - ours, 0)',
    'excess = theirs - ours',
    'test_measures.py::test_absent_examples_do_not_count',
  ),
  Fault(
    'the onset is one window late',
    'metakit/onset.py',
    "'step')[WINDOW - 1 :]",
    "'step')[WINDOW:]",
    'test_onset.py::test_the_onset_is_where_the_mean_gain_exceeds_a_twentieth_of_the_loss',
  ),
  Fault(
    'what the examples settle is not taken off the difficulty',
    DIFFICULTY,
    'free + math.log1p(-math.exp(settled - free))',
    'free',
    'test_difficulty.py::test_the_formula_and_where_it_ends',
  ),
  Fault(
    'the nearest neighbour of an example is the example',
    DIFFICULTY,
    'nearest[:, 1 : neighbours + 1]',
    'nearest[:, :neighbours]',
    'test_difficulty.py::test_the_dimension_of_known_manifolds',
  ),
  Fault(
    'the closest pair is that of the pairs that were drawn',
    DIFFICULTY,
    'ratio = tail / len(away) * all_pairs',
    'ratio = tail',
    'test_difficulty.py::test_resolution_is_the_least_distance_of_all_pairs_not_of_those_drawn',
  ),
  Fault(
    'hypotheses vary as the prior does',
    DIFFICULTY,
    'spread = kernel(new, new) - weights @ kernel(x, new)',
    'spread = kernel(new, new)',
    'test_difficulty.py::test_functions_of_a_kernel_fit_the_examples_and_err_as_the_posterior',
  ),
  Fault(
    'each plan has a program of its own',
    'experiments/runs/levels.py',
    'quick = learner, embedded.replace(plan=source.plan)',
    'quick = learner, embedded.replace(plan=source.plan, finish=lambda episode: episode)',
    'experiments/runs/test_levels.py::test_the_levels_are_measured_by_the_program_of_the_test',
  ),
  Fault(
    'levels beside other training classes',
    'experiments/runs/setup.py',
    'same = theirs and (ours',
    'same = True or (ours',
    'experiments/runs/test_levels.py::test_levels_without_sense_are_one_line',
  ),
)
