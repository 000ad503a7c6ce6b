"""Faults in NIW-Meta: its distribution, its bound, its iterates, and inference at test time."""

from tests.faults.fault import Fault

MODEL = 'metakit/learners/normal_inverse_wishart.py'
LEARNER = 'metakit/learners/niw_meta.py'
ITERATES = 'metakit/learners/iterates.py'
OF_MODEL = 'learners/test_normal_inverse_wishart.py::'
OF_LEARNER = 'learners/test_niw_meta.py::'

FAULTS = (
  Fault(
    'the mode of an inverse Wishart distribution is without its n0 + d + 2',
    MODEL,
    'n0 / (n0 + d + 2)',
    'n0 / (n0 + d + 1)',
    f'{OF_MODEL}test_the_mode_is_where_the_density_is_flat',
  ),
  Fault(
    'the mean of all tasks is known for certain',
    MODEL,
    '+ away - 1 + 1 / prior.strength',
    '+ away - 1',
    f'{OF_MODEL}test_the_divergence_of_a_task_is_its_mean_over_draws',
  ),
  Fault(
    'how freely tasks vary is known for certain',
    MODEL,
    'return 0.5 * (each.sum() + _spread(prior))',
    'return 0.5 * each.sum()',
    f'{OF_MODEL}test_the_divergence_of_a_task_is_its_mean_over_draws',
  ),
  Fault(
    'the gamma functions of two Wishart distributions change places',
    MODEL,
    'gammaln(theirs) - gammaln(ours)',
    'gammaln(ours) - gammaln(theirs)',
    f'{OF_MODEL}test_the_divergence_of_two_is_its_mean_over_draws',
  ),
  Fault(
    'the bound has the mean of the losses in place of their sum',
    LEARNER,
    'value = scale * error + kept',
    'value = error + kept',
    f'{OF_LEARNER}test_the_loss_is_the_bound_of_the_conjugate_posterior',
  ),
  Fault(
    'the bound is differentiated through the iterates',
    LEARNER,
    "start = jax.lax.stop_gradient(params['mean'])\n"
    '    quadratic, moments = approximate(start, data, scale, kick if noise else None)\n'
    '    posterior = local_posterior(prior, jax.lax.stop_gradient(quadratic))',
    "start = params['mean']\n"
    '    quadratic, moments = approximate(start, data, scale, kick if noise else None)\n'
    '    posterior = local_posterior(prior, quadratic)',
    f'{OF_LEARNER}test_memory_does_not_grow_with_inner_steps '
    f'{OF_LEARNER}test_a_sure_quadratic_pulls_as_reptile_does',
  ),
  Fault(
    'the minimum of a quadratic is where the gradients were',
    ITERATES,
    'precision * point - scale * moments.slope',
    'precision * point',
    f'{OF_LEARNER}test_the_posterior_of_a_linear_gaussian_task_is_the_conjugate_one',
  ),
  Fault(
    'iterates of the burn-in count',
    ITERATES,
    'use = (number >= burn_in).astype(origin.dtype)',
    'use = (number >= 0).astype(origin.dtype)',
    f'{OF_LEARNER}test_langevin_dynamics_have_the_variance_of_the_posterior',
    added=True,
  ),
  Fault(
    'iterates have the variance about their start',
    ITERATES,
    'square = so_far.square + use * away * (point - mean)',
    'square = so_far.square + use * jnp.square(point)',
    f'{OF_LEARNER}test_langevin_dynamics_have_the_variance_of_the_posterior '
    f'{OF_LEARNER}test_the_posterior_of_a_linear_gaussian_task_is_the_conjugate_one',
  ),
  Fault(
    'constants of a network are drawn at random',
    LEARNER,
    'known.mean + free * jnp.sqrt(known.variance)',
    'known.mean + jnp.sqrt(known.variance)',
    f'{OF_LEARNER}test_constants_of_a_network_are_not_drawn',
  ),
  Fault(
    'inference at test time knows no prior',
    LEARNER,
    '0.5 * (jnp.exp(2 * r) + jnp.square(u) - 1 - 2 * r).sum()',
    '0.5 * (jnp.exp(2 * r) - 1 - 2 * r).sum()',
    f'{OF_LEARNER}test_inference_at_test_time_finds_the_posterior_of_the_mode',
  ),
  Fault(
    'every training task pays the whole divergence of the prior',
    LEARNER,
    'divergence(prior, _first(prior, initial_variance)) / num_tasks',
    'divergence(prior, _first(prior, initial_variance))',
    f'{OF_LEARNER}test_all_training_tasks_share_the_divergence_from_the_first_prior',
  ),
)
