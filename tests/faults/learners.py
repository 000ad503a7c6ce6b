"""Faults in learners."""

from tests.faults.fault import Fault

MAML = 'metakit/learners/maml_plus_plus.py'
DESCENT = 'metakit/learners/descent.py'
MINIBATCHES = 'metakit/minibatches.py'
FAMILY = 'learners/test_family.py::'
LAWS = 'learners/test_laws.py::'

FAULTS = (
  Fault(
    'the reader of distilled vectors goes on learning',
    'metakit/learners/mend.py',
    "frozen = jax.lax.stop_gradient(params['reader'])\n    none",
    "frozen = params['reader']\n    none",
    'learners/test_mend.py::test_the_reader_is_trained_first_and_then_frozen',
  ),
  Fault(
    'a layer writes what the layers before it make of examples without their updates',
    'metakit/learners/generative_adapter.py',
    'h = _apply(layer, updates[-1], h)',
    'h = _apply(layer, 0 * updates[-1], h)',
    'learners/test_generative_adapter.py::'
    'test_an_update_is_linear_attention_to_what_adapted_layers_make_of_the_support',
  ),
  Fault(
    'adapt takes the steps of training',
    DESCENT,
    'split(params, support), descent.steps_of_adapt',
    'split(params, support), descent.steps',
    'learners/test_maml.py::test_test_steps_change_adapt_and_not_the_training_loss',
  ),
  Fault(
    'the inner loss sees no weight in the statistics of a batch',
    DESCENT,
    'apply(params, support.x, weight=support.weight), support)[0]',
    'apply(params, support.x), support)[0]',
    f'{LAWS}test_weight_0_equals_absent[maml:batch]',
  ),
  Fault(
    'every pass over the minibatches has the same order',
    MINIBATCHES,
    'jax.random.permutation(jax.random.fold_in(key, number), len(examples.x))',
    'jax.random.permutation(key, len(examples.x))',
    'learners/test_minibatches.py::test_minibatches_pass_over_all_examples_before_any_comes_again',
  ),
  Fault(
    'a minibatch ends in the order that it began in',
    MINIBATCHES,
    'rows = orders[jnp.minimum(place // present - first, 1), place % present]',
    'rows = orders[0, place % present]',
    'learners/test_minibatches.py::test_minibatches_pass_over_all_examples_before_any_comes_again',
  ),
  Fault(
    'dropout at test time',
    DESCENT,
    'keys = key, draws_of(model, key) if drawn else None',
    'keys = key, draws_of(model, key)',
    'learners/test_own_networks.py::test_dropout_draws_in_training_and_not_at_test_time[maml]',
  ),
  Fault(
    'Reptile is differentiated through where it starts',
    'metakit/learners/reptile.py',
    'held = jax.lax.stop_gradient(params)',
    'held = params',
    'learners/test_reptile.py::test_the_gradient_of_reptile_is_its_update',
  ),
  Fault(
    'Reptile trains on the support alone',
    'metakit/learners/reptile.py',
    'training.adapt(key, held, join(support, episode.query))',
    'training.adapt(key, held, support)',
    'learners/test_reptile.py::test_the_metrics_are_of_the_support_after_training_on_all_examples',
  ),
  Fault(
    'the rates of Meta-SGD are not learned',
    'metakit/learners/meta_sgd.py',
    "jax.tree.map(lambda p, r, g: p - r * g, fast, slow['rates'], grads)",
    "jax.tree.map(lambda p, r, g: p - jax.lax.stop_gradient(r) * g, fast, slow['rates'], grads)",
    f'{FAMILY}test_meta_sgd_on_a_quadratic',
  ),
  Fault(
    'a context makes absent examples count',
    'metakit/learners/cavia.py',
    "(params['network'], x, params['context'], weight=weight)",
    "(params['network'], x, params['context'])",
    f'{LAWS}test_weight_0_equals_absent[cavia:conv4]',
  ),
  Fault(
    'the losses after each step are of the normalisation before it',
    MAML,
    'data[2], step + 1, data[0], 2 * step + 1)',
    'data[2], step, data[0], 2 * step + 1)',
    f'{FAMILY}test_the_losses_of_maml_plus_plus_follow_the_training_step',
  ),
  Fault(
    'the weights of the losses do not add up to 1',
    MAML,
    '.at[-1].set(1 - (inner_steps - 1) * early)',
    '.at[-1].set(1 - inner_steps * early)',
    f'{FAMILY}test_multi_step_weights_move_to_the_last_step',
  ),
  Fault(
    'a phase of training begins one step late',
    MAML,
    "jnp.searchsorted(jnp.asarray(begins), step, side='right') - 1",
    "jnp.maximum(jnp.searchsorted(jnp.asarray(begins), step, side='left') - 1, 0)",
    f'{FAMILY}test_maml_plus_plus_is_first_order_until_it_is_second'
    f' {FAMILY}test_the_losses_of_maml_plus_plus_follow_the_training_step',
  ),
  Fault(
    'ALFA takes the rates of the first step in all',
    'metakit/learners/alfa.py',
    'place = jnp.minimum(step, steps - 1)',
    'place = jnp.minimum(step, 0)',
    'learners/test_laws.py::test_loss_predictions_and_gradient_are_the_golden_ones[alfa]',
  ),
  Fault(
    'the matrices of Meta-Curvature are transposed',
    'metakit/learners/meta_curvature.py',
    'jnp.tensordot(matrix, turned, (1, axis))',
    'jnp.tensordot(matrix, turned, (0, axis))',
    f'{FAMILY}test_meta_curvature_is_maml_at_the_identity_and_turns_gradients_otherwise',
  ),
  Fault(
    'the biases of Proto-MAML are means in place of sums',
    'metakit/learners/proto_maml.py',
    '-jnp.square(prototypes).sum(1)',
    '-jnp.square(prototypes).mean(1)',
    f'{FAMILY}test_proto_maml_without_a_step_is_prototypical_networks',
  ),
  Fault(
    'the linear probe moves the whole network',
    'metakit/learners/ordinary_training.py',
    "if tuned == 'all' else",
    'if tuned else',
    f'{FAMILY}test_fine_tuning_learns_global_classes_and_the_probe_leaves_the_body_alone',
  ),
  Fault(
    'training from scratch starts in the same way in each episode',
    'metakit/learners/ordinary_training.py',
    'init_key, key = jax.random.split(key)',
    'init_key, key = jax.random.split(jax.random.key(0))',
    f'{FAMILY}test_from_scratch_forgets_what_it_is_given_and_learns_nothing',
    added=True,
  ),
  Fault(
    'the last layer starts from the key of the body',
    'metakit/networks/last_layer.py',
    "'head': init_last_layer(head_key, features.shape[1], num_outputs)",
    "'head': init_last_layer(body_key, features.shape[1], num_outputs)",
    'learners/test_head.py::test_the_last_layer_starts_from_a_key_of_its_own',
    added=True,
  ),
  Fault(
    'a head starts from the key of its network',
    'metakit/learners/embedded.py',
    "head.init(stream(key, 'head'), features)",
    'head.init(key, features)',
    'test_evaluate.py::test_network_and_head_start_from_keys_of_their_own',
  ),
  Fault(
    'statistics are measured on the support alone',
    'metakit/learners/embedded.py',
    'both = jax.vmap(join)(episodes.support, episodes.query)',
    'both = episodes.support',
    'learners/test_embedded.py::test_calibration_pools_the_moments_of_all_episodes',
  ),
  Fault(
    'an inductive learner normalises queries by one another',
    'metakit/learners/embedded.py',
    "return head.predict(adapted, rows(params['body'], x))",
    "return head.predict(adapted, model.apply(params['body'], x))",
    f'{LAWS}test_the_protocol_is_true[prototypical:batch]',
  ),
  Fault(
    'a class and its transform are numbered the other way round',
    'metakit/learners/pretrained.py',
    'many * examples.y + j)',
    'examples.y + many * j)',
    'learners/test_pretrained.py::test_labels_are_joint_with_the_transform',
  ),
  Fault(
    'a teacher normalises images by the batch of its student',
    'metakit/learners/pretrained.py',
    "embed_rows(model)(teacher['body'], both.x)",
    "model.apply(teacher['body'], both.x)",
    'learners/test_pretrained.py::'
    'test_a_student_learns_from_labels_and_from_a_teacher_that_sees_each_example_alone',
  ),
  Fault(
    'a teacher is moved by its student',
    'metakit/losses/answers.py',
    'rows(jax.lax.stop_gradient(teacher))',
    'rows(teacher)',
    'losses/test_losses.py::test_distillation_moves_the_student_alone[answer_distillation]'
    ' learners/test_pretrained.py::'
    'test_the_teacher_is_not_moved_and_an_equal_one_has_nothing_to_teach',
  ),
  Fault(
    'a divergence of answers the other way round',
    'metakit/losses/answers.py',
    'divergence(ours / temperature, theirs / temperature)',
    'divergence(theirs / temperature, ours / temperature)',
    'losses/test_losses.py::test_answers_are_softened_and_compared_from_the_teacher_to_the_student',
  ),
  Fault(
    'transforms of an image without a label are not told apart',
    'metakit/learners/pretrained.py',
    'y=jnp.repeat(jnp.arange(many), len(joint.y) // many))',
    'y=jnp.where(joint.y < 0, UNLABELLED, joint.y % many))',
    'learners/test_pretrained.py::test_transforms_are_told_apart_beside_the_classes',
  ),
  Fault(
    'episodes begin one step late',
    'metakit/learners/pretrained.py',
    'jax.lax.cond(step < until,',
    'jax.lax.cond(step <= until,',
    'learners/test_pretrained.py::test_episodes_follow_after_so_many_steps',
  ),
  Fault(
    'the evidence of a Gaussian lacks its determinant',
    'metakit/learners/bayes.py',
    '-0.5 * jnp.square(news) - jnp.log(jnp.diagonal(factor))',
    '-0.5 * jnp.square(news)',
    'learners/test_bayes.py::test_a_mixture_of_classes_weighs_them_by_evidence'
    ' learners/test_bayes.py::test_sparse_functions_sum_over_all_places',
  ),
  Fault(
    'the posterior of an example has seen it',
    'metakit/learners/bayes.py',
    'jnp.tril(factor, -1) @ news',
    'jnp.tril(factor) @ news',
    'learners/test_bayes.py::test_all_prefixes_at_once_are_those_one_by_one[dense-0.5]',
  ),
  Fault(
    'a token holds its own label',
    'metakit/learners/in_context.py',
    'jnp.concatenate([last[None], y])[last_present(present)[:-1]]',
    'jnp.concatenate([last[None], y])[last_present(present)[1:]]',
    'learners/test_in_context.py::test_the_tokens_of_each_layout',
  ),
  Fault(
    'who goes on reading forgets the last label',
    'metakit/learners/in_context.py',
    'if before is None else before[1:]',
    'if before is None else (before[1], jnp.zeros_like(before[2]))',
    'learners/test_in_context.py::test_learning_on_equals_learning_from_all',
  ),
  Fault(
    'the gain is what got worse',
    'metakit/learners/in_context.py',
    'objective(*take(slice(half)))[0] - objective(*take(slice(half, None)))[0]',
    'objective(*take(slice(half, None)))[0] - objective(*take(slice(half)))[0]',
    'learners/test_in_context.py::test_the_loss_is_that_of_every_prefix_and_of_the_queries',
    added=True,
  ),
  Fault(
    'the least maximum is sought among positive weights',
    'metakit/learners/minimum_linf.py',
    '    y,\n    (None, None),\n',
    '    y,\n    (0, None),\n',
    'learners/test_minimum_linf.py::test_it_fits_with_the_smallest_maximum',
  ),
)
