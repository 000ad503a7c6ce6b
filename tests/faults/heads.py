"""Faults in heads."""

from tests.faults.fault import Fault

COMMON = 'metakit/heads/common.py'
GAUSSIAN = 'metakit/heads/gaussian.py'
CLOSED = 'heads/test_closed_form.py::'
MARGINS = 'heads/test_crammer_singer.py::'
TRANSDUCTIVE = 'heads/test_transductive.py::'

FAULTS = (
  Fault(
    'who has a label counts fully',
    COMMON,
    'weight=weight_of(support, support.x.dtype) * (support.y >= 0)',
    'weight=(support.y >= 0).astype(support.x.dtype)',
    f'{CLOSED}test_a_class_without_support_is_never_predicted_and_changes_nothing',
  ),
  Fault(
    'a class without support may be predicted',
    'metakit/heads/prototypes.py',
    'return jnp.where(present, factor.astype(z.dtype) * measure(z, points), ABSENT)',
    'return factor.astype(z.dtype) * measure(z, points)',
    'learners/test_prototypical.py::test_a_class_without_support_is_never_predicted',
  ),
  Fault(
    'weights of ridge regression count by their squares',
    'metakit/heads/ridge.py',
    'root = jnp.sqrt(weight)[:, None]',
    'root = weight[:, None]',
    f'{CLOSED}test_ridge_is_stationary',
  ),
  Fault(
    'logistic regression penalises its biases',
    'metakit/heads/logistic.py',
    '0.5 * (jnp.square(kernel[:-1]).sum() + idle)',
    '0.5 * (jnp.square(kernel).sum() + idle)',
    f'{CLOSED}test_logistic_is_scikit_learns',
  ),
  Fault(
    'a minimum has no derivative',
    'metakit/heads/solve.py',
    'return minimum - (step - jax.lax.stop_gradient(step))',
    'return minimum - jax.lax.stop_gradient(step - step)',
    f'{CLOSED}test_the_solution_of_a_minimum_is_differentiated_by_its_optimality',
  ),
  Fault(
    'variances of naive Bayes are unbiased',
    GAUSSIAN,
    'count = jnp.maximum(total, 1e-12)[:, None]',
    'count = jnp.maximum(total - 1, 1e-12)[:, None]',
    f'{CLOSED}test_naive_bayes_with_own_variances_is_scikit_learns',
  ),
  Fault(
    'covariances are pooled whatever the sizes of the classes',
    GAUSSIAN,
    'share = (scatter * total[:, None, None]).sum(0) / jnp.maximum(total.sum(), 1e-12)',
    'share = scatter.mean(0)',
    f'{CLOSED}test_linear_discriminant_of_classes_of_several_sizes_is_scikit_learns',
    added=True,
  ),
  Fault(
    'covariances of a class and of all are exchanged',
    GAUSSIAN,
    'share = count / (count + 1)',
    'share = 1 / (count + 1)',
    f'{CLOSED}test_mahalanobis_mixes_the_covariances_of_class_and_task',
  ),
  Fault(
    'the covariance of a class is biased',
    GAUSSIAN,
    'jnp.sqrt(weight / jnp.maximum(count - 1, 1))',
    'jnp.sqrt(weight / jnp.maximum(count, 1))',
    f'{CLOSED}test_mahalanobis_mixes_the_covariances_of_class_and_task',
  ),
  Fault(
    'the distractors have no length scale in their cost',
    'metakit/heads/soft_kmeans.py',
    "jnp.exp(-2 * params['log_scale']) - params['log_scale']",
    "jnp.exp(-2 * params['log_scale'])",
    f'{TRANSDUCTIVE}test_distractors_are_left_to_a_cluster_at_the_origin',
  ),
  Fault(
    'the queries do not refine the prototypes',
    'metakit/heads/soft_kmeans.py',
    'return classify(refine(params, support, query), query.x)',
    'return classify(refine(params, support, query._replace(x=query.x[:0])), query.x)',
    f'{TRANSDUCTIVE}test_soft_kmeans_is_equation_3',
  ),
  Fault(
    'weights of queries do not count in the entropies',
    'metakit/heads/tim.py',
    'query_share = rows.counts / ',
    'query_share = (rows.counts > 0) / ',
    f'{TRANSDUCTIVE}test_the_slope_of_tim_is_that_of_equation_3',
  ),
  Fault(
    'lengths of weights are those of their coefficients',
    'metakit/heads/tim.py',
    '(points * near) if few else jnp.square(points)',
    'jnp.square(points)',
    f'{TRANSDUCTIVE}test_directions_alternate_alike_for_more_features_than_examples',
  ),
  Fault(
    'bounds of the support vector machine do not count in its derivative',
    'metakit/heads/crammer_singer.py',
    'free = (caps - alpha >= multiplier) & ',
    'free = (caps - alpha >= 0) & ',
    f'{MARGINS}test_slopes_of_kernel_labels_and_caps_are_finite_differences',
  ),
  Fault(
    'a splitting that has not converged is taken',
    'metakit/heads/crammer_singer.py',
    'jnp.where(converged, alpha, _nearest(found.alpha, caps))',
    'alpha',
    f'{MARGINS}test_what_is_returned_is_optimal_in_float32',
  ),
  Fault(
    'assignments are divided by their sums rather than the roots',
    'metakit/heads/tim.py',
    'sharp - column / 2',
    'sharp - column',
    f'{TRANSDUCTIVE}test_alternating_directions_are_proposition_1',
  ),
  Fault(
    'features of PT-MAP are not centred',
    'metakit/heads/pt_map.py',
    'unit(z - means(weight, z), 1e-6)',
    'unit(z, 1e-6)',
    f'{TRANSDUCTIVE}test_pt_map_is_algorithm_1',
  ),
  Fault(
    'a point is its own neighbour',
    'metakit/heads/graph.py',
    'pair = present[:, None] & present & ~jnp.eye(x.shape[0], dtype=bool)',
    'pair = present[:, None] & present',
    f'{TRANSDUCTIVE}test_the_graph_joins_nearest_neighbours',
  ),
  Fault(
    'updates of assignments have no inertia',
    'metakit/heads/graph.py',
    'inertia = strength * graph.sum(1, keepdims=True)',
    'inertia = jnp.zeros_like(strength * graph.sum(1, keepdims=True))',
    f'{TRANSDUCTIVE}test_assignments_end_where_no_small_change_lowers_the_energy'
    f' {TRANSDUCTIVE}test_the_energy_never_rises',
  ),
  Fault(
    'queries are not centred as the support is',
    'metakit/heads/normalised.py',
    'return head.predict(adapted, transform(mean, precise(z)))',
    'return head.predict(adapted, transform(jnp.zeros_like(mean), precise(z)))',
    'heads/test_metric.py::test_simpleshot_is_the_nearest_mean_of_transformed_features[cl2n]',
  ),
  Fault(
    'a stream keeps the larger of two sums',
    'metakit/heads/streaming.py',
    'jax.tree.map(jnp.add, tuple(before), sums(params, more))',
    'jax.tree.map(jnp.maximum, tuple(before), sums(params, more))',
    'heads/test_streaming.py::test_recursive_ridge_is_the_joint_solution',
  ),
  Fault(
    'FEAT attends to classes without support',
    'metakit/heads/feat.py',
    'share = jax.nn.softmax(jnp.where(seen, scores, ABSENT))',
    'share = jax.nn.softmax(scores)',
    'heads/test_metric.py::test_feat_adapts_prototypes_to_one_another'
    ' learners/test_laws.py::test_weight_0_equals_absent[feat]',
  ),
  Fault(
    'the random layer of a stream is learned',
    'metakit/heads/streaming.py',
    "fixed = jax.lax.stop_gradient(params['expansion'])",
    "fixed = params['expansion']",
    'heads/test_edges.py::test_what_is_measured_or_random_is_not_learned',
  ),
  Fault(
    'features in half precision are computed in it',
    'metakit/heads/common.py',
    'return x.astype(jnp.promote_types(x.dtype, jnp.float32))',
    'return x',
    'heads/test_precision.py::test_features_in_half_precision_are_computed_in_float32',
  ),
)
