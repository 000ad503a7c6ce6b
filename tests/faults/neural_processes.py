"""Faults in neural processes, in densities of several targets, and in tasks of functions."""

from tests.faults.fault import Fault

LATENT = 'metakit/learners/latent_parts.py'
CONVOLUTION = 'metakit/learners/convcnp.py'
ORDERS = 'metakit/evaluation/orders.py'
PROCESSES = 'learners/test_neural_processes.py::'
OF_ORDERS = 'test_orders.py::'
FUNCTIONS = 'episodes/test_processes.py::'

FAULTS = (
  Fault(
    'the divergence of the lower bound has its two sides changed over',
    LATENT,
    'divergence(believed, believe(params, support))',
    'divergence(believe(params, support), believed)',
    f'{PROCESSES}test_the_loss_is_the_fit_and_the_divergence_per_number',
  ),
  Fault(
    'a latent variable is drawn without the query in training',
    LATENT,
    'believed = believe(params, join(support, query))',
    'believed = believe(params, support)',
    f'{PROCESSES}test_the_loss_is_the_fit_and_the_divergence_per_number',
  ),
  Fault(
    'a divergence counts once for each target',
    LATENT,
    'divergence(believed, believe(params, support)) / jnp.maximum(numbers, 1)',
    'divergence(believed, believe(params, support))',
    f'{PROCESSES}test_the_loss_is_the_fit_and_the_divergence_per_number',
  ),
  Fault(
    'absent examples count in the mean of a context',
    'metakit/learners/set_parts.py',
    'return weight @ kept, weight.sum()',
    'return weight @ kept, jnp.asarray(len(weight), weight.dtype)',
    'learners/test_cnp.py::test_the_mean_is_that_of_each_encoded_example',
  ),
  Fault(
    'an example is attended to once, whatever its weight',
    'metakit/learners/anp.py',
    'likely = weight * jnp.exp(scores - top)',
    'likely = jnp.exp(scores - top)',
    f'{PROCESSES}test_attention_is_a_mean_by_the_softmax_of_each_head',
    added=True,
  ),
  Fault(
    'the heads of a cross-attention take every other feature',
    'metakit/learners/anp.py',
    'a.reshape(a.shape[0], heads, a.shape[1] // heads)',
    'a.reshape(a.shape[0], a.shape[1] // heads, heads).swapaxes(1, 2)',
    f'{PROCESSES}test_attention_is_a_mean_by_the_softmax_of_each_head',
  ),
  Fault(
    'examples of a set learner see those before them',
    'metakit/learners/tnp.py',
    "hidden=hidden, attention='set')",
    "hidden=hidden, attention='softmax')",
    'metakit/learners/tnp.py::metakit.learners.tnp.tnp',
  ),
  Fault(
    'the grid of a set convolution ends where absent examples do',
    CONVOLUTION,
    'there, most = weight > 0, jnp.finfo(x.dtype).max',
    'there, most = weight >= 0, jnp.finfo(x.dtype).max',
    'metakit/learners/convcnp.py::metakit.learners.convcnp.Line.at',
  ),
  Fault(
    'the grid of a set convolution lies on its examples',
    CONVOLUTION,
    'first = jnp.floor(middle + 0.5) - self.points // 2',
    'first = middle - self.points // 2',
    f'{PROCESSES}test_predictions_move_with_the_inputs_by_steps_of_the_grid',
  ),
  Fault(
    'rows of an image are its columns',
    CONVOLUTION,
    'row, column = places(x, pixels).T',
    'column, row = places(x, pixels).T',
    f'{PROCESSES}test_pixels_lie_where_their_coordinates_say_and_answers_come_from_there',
  ),
  Fault(
    'targets stay where they were when their inputs change order',
    ORDERS,
    'query = jax.tree.map(lambda leaf: jnp.asarray(leaf)[order], episode.query)',
    'query = episode.query._replace(x=jnp.asarray(episode.query.x)[order])',
    f'{OF_ORDERS}test_a_bayesian_learner_says_the_same_in_every_order_and_others_do_not',
  ),
  Fault(
    'targets drawn together do not see one another',
    ORDERS,
    'seen = (jnp.arange(asked) < number).astype(zeros.dtype)',
    'seen = (jnp.arange(asked) < 0).astype(zeros.dtype)',
    f'{OF_ORDERS}test_samples_have_the_covariance_of_the_posterior',
  ),
  Fault(
    'a target that is drawn has been seen',
    ORDERS,
    'seen = (jnp.arange(asked) < number).astype(zeros.dtype)',
    'seen = (jnp.arange(asked) <= number).astype(zeros.dtype)',
    f'{OF_ORDERS}test_samples_have_the_covariance_of_the_posterior',
  ),
  Fault(
    'some pixels are asked that were shown',
    'metakit/episodes/image_completion.py',
    "'pixels': draw_without_replacement(pixel_key, pixels, shots + queries),",
    "'pixels': jnp.concatenate([draw_without_replacement(pixel_key, pixels, n)"
    ' for n in (shots, queries)]),',
    f'{FUNCTIONS}test_pixels_of_an_image_are_at_their_places_and_none_is_drawn_twice',
  ),
  Fault(
    'the first input of a pixel is its column',
    'metakit/episodes/image_completion.py',
    "indexing='ij'",
    "indexing='xy'",
    f'{FUNCTIONS}test_pixels_of_an_image_are_at_their_places_and_none_is_drawn_twice',
  ),
  Fault(
    'lines and sinusoids change their shares',
    'metakit/episodes/sine_line.py',
    'draws.uniform(kind_key) < lines',
    'draws.uniform(kind_key) > lines',
    'episodes/test_sine_line.py::test_a_share_are_lines_and_the_others_sinusoids',
    added=True,
  ),
  Fault(
    'the decay of a weakly periodic kernel is that of its period',
    'metakit/episodes/kernels.py',
    'eq(2 * length_scale)(a, b)',
    'eq(length_scale)(a, b)',
    f'{FUNCTIONS}test_kernels_are_their_formulas[weakly_periodic]',
  ),
)
