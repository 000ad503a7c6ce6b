"""Faults in predictive densities and what is measured of them."""

from tests.faults.fault import Fault

PIECES = 'metakit/densities/pieces.py'
BAR = 'metakit/densities/bar.py'
JOINT = 'metakit/densities/joint.py'
FAMILIES = 'densities/test_families.py::'
OF_BAR = 'densities/test_bar.py::'
OF_JOINT = 'densities/test_joint.py::'
JUDGED = 'test_densities_judged.py::'

FAULTS = (
  Fault(
    'the upper end of a distribution of pieces is a whole normal',
    PIECES,
    '(2 * ndtr(jnp.maximum(y - edges[..., -1], 0) / right) - 1)',
    'ndtr(jnp.maximum(y - edges[..., -1], 0) / right)',
    f'{FAMILIES}test_a_cdf_is_the_integral_of_its_density',
  ),
  Fault(
    'the lower end of a distribution of pieces is mirrored',
    PIECES,
    'jnp.where(place == 0, edges[..., 0] + left * ndtri(within / 2), inner)',
    'jnp.where(place == 0, edges[..., 0] + left * ndtri((1 - within) / 2), inner)',
    f'{FAMILIES}test_a_quantile_inverts_the_cdf',
  ),
  Fault(
    'the CRPS of pieces is without half of the spread',
    PIECES,
    'return distance - _half_spread(pieces)',
    'return distance - _half_spread(pieces) / 2',
    f'{FAMILIES}test_crps_is_the_distance_of_cdfs',
  ),
  Fault(
    'a border is the target below it',
    BAR,
    'between = (below + above)[below < above] / 2',
    'between = below[below < above]',
    f'{OF_BAR}test_borders_are_quantiles_midway_between_targets',
  ),
  Fault(
    'targets that are absent make borders',
    BAR,
    'y[there].ravel() for y, there in parts',
    'y.ravel() for y, there in parts',
    f'{OF_BAR}test_absent_targets_do_not_count_and_classes_are_refused',
  ),
  Fault(
    'the deviation of an end is the width of its bucket',
    BAR,
    'left, right = (edges[1] - edges[0]) / MEDIAN, (edges[-1] - edges[-2]) / MEDIAN',
    'left, right = edges[1] - edges[0], edges[-1] - edges[-2]',
    f'{OF_BAR}test_ends_are_halves_of_normals_with_half_of_their_mass_in_the_bucket',
  ),
  Fault(
    'the spread between components is no variance',
    'metakit/densities/mixture.py',
    'jnp.square(around) + jnp.square(parts.deviation)',
    'jnp.square(parts.deviation)',
    f'{FAMILIES}test_moments_are_integrals',
  ),
  Fault(
    'networks that disagree are as sure as each of them',
    'metakit/densities/gaussian.py',
    'jnp.square(deviation).mean(0) + mean.var(0)',
    'jnp.square(deviation).mean(0)',
    'densities/test_gaussian.py::test_what_several_say_together_has_the_moments_of_their_mixture',
  ),
  Fault(
    'the divergence of two normal densities is that of the other from the one',
    'metakit/densities/gaussian.py',
    'moments(parameters), moments(reference)',
    'moments(reference), moments(parameters)',
    f'{FAMILIES}test_a_divergence_is_the_excess_of_the_expected_loss',
  ),
  Fault(
    'the marginal of a joint density is without what targets have in common',
    JOINT,
    'jnp.square(alone) + jnp.square(parameters[..., 2:]).sum(-1)',
    'jnp.square(alone)',
    f'{OF_JOINT}test_its_marginal_has_the_diagonal_of_the_covariance',
  ),
  Fault(
    'absent targets have covariances',
    JOINT,
    'jnp.where(present[:, None], features / deviation[:, None], 0)',
    'features / deviation[:, None]',
    f'{OF_JOINT}test_targets_that_are_absent_are_left_out',
  ),
  Fault(
    'the determinant of a covariance is that of its factor',
    JOINT,
    'jnp.log(jnp.diagonal(factor)).sum()',
    '0.5 * jnp.log(jnp.diagonal(factor)).sum()',
    f'{OF_JOINT}test_a_joint_density_is_that_of_scipy',
  ),
  Fault(
    'the pinball loss has its sides changed over',
    'metakit/densities/quantiles.py',
    'jnp.maximum(known * error, (known - 1) * error)',
    'jnp.maximum((1 - known) * error, -known * error)',
    'densities/test_quantiles.py::test_the_loss_is_that_of_sorted_quantiles',
  ),
  Fault(
    'an interval has one end',
    'metakit/evaluation/densities.py',
    'jnp.abs(2 * density.cdf(parameters, y) - 1)',
    'density.cdf(parameters, y)',
    f'{JUDGED}test_intervals_of_the_exact_posterior_hold_what_they_say '
    f'{JUDGED}test_a_learner_that_is_too_sure_has_a_calibration_error',
  ),
  Fault(
    'each episode by itself is to be calibrated',
    'metakit/evaluation/densities.py',
    'float(error(values.mean(0)))',
    'float(error(values).mean())',
    f'{JUDGED}test_coverage_is_averaged_over_episodes_before_it_is_compared',
  ),
  Fault(
    'the exact density of a target is without its noise',
    'metakit/learners/bayes_density.py',
    "'noise': noise**2}",
    "'noise': 0.0}",
    'learners/test_bayes_density.py::test_a_density_is_the_ratio_of_two_evidences',
  ),
)
