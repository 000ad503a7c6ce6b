"""Faults in episodes of domains, and in learners that adapt to them without labels."""

from tests.faults.fault import Fault

ONE = 'metakit/episodes/one_domain.py'
DRAWN = 'episodes/test_one_domain.py::'
DMOE = 'metakit/learners/meta_dmoe.py'
STEPPED = 'learners/test_meta_dmoe.py::'
ADAPTED = 'learners/test_domains.py::'

FAULTS = (
  Fault(
    'the support of a domain has its labels',
    ONE,
    'hidden = y[:support] if labelled',
    'hidden = y[:support] if not labelled',
    f'{DRAWN}test_queries_have_their_labels_and_the_support_has_none',
  ),
  Fault(
    'a row of a domain is that of the next class',
    ONE,
    "drawn = jnp.searchsorted(end, places, side='right')",
    "drawn = jnp.searchsorted(end, places, side='left')",
    f'{DRAWN}test_all_rows_are_of_the_domain_that_is_named',
  ),
  Fault(
    'domains are drawn in proportion to their rows',
    ONE,
    'within = (0, total) if mixed else (first[domain], size[domain])',
    'within = (0, total)',
    f'{DRAWN}test_all_rows_are_of_the_domain_that_is_named',
  ),
  Fault(
    'all made domains look like the first',
    'metakit/episodes/made_domains.py',
    'part._replace(x=jax.vmap(change)(numbers, part.x))',
    'part._replace(x=jax.vmap(change)(0 * numbers, part.x))',
    f'{DRAWN}test_each_domain_changes_its_images_in_its_way',
  ),
  Fault(
    'the own expert is seen in meta-training',
    DMOE,
    "others = ~domain_of(episode.info, experts, 'experts')",
    "others = domain_of(episode.info, experts, 'experts') | True",
    f'{STEPPED}test_the_own_expert_has_no_effect_in_meta_training',
  ),
  Fault(
    'experts learn on in meta-training',
    DMOE,
    "bodies = jax.lax.stop_gradient(params['experts']['body'])",
    "bodies = params['experts']['body']",
    f'{STEPPED}test_who_learns_when',
  ),
  Fault(
    'the learned loss is a sum of squares',
    'metakit/learners/arm_ll.py',
    'return jnp.sqrt(squares + jnp.finfo(numbers.dtype).tiny)',
    'return squares',
    f'{ADAPTED}test_arm_ll_steps_along_the_gradient_of_the_norm_of_learned_numbers',
  ),
  Fault(
    'tent raises the entropy',
    'metakit/learners/tent.py',
    'weighted_mean(-(jnp.exp(log_p) * log_p).sum(-1)',
    'weighted_mean((jnp.exp(log_p) * log_p).sum(-1)',
    f'{ADAPTED}test_tent_lowers_the_entropy_by_scales_and_biases_alone',
  ),
  Fault(
    'the gradient of the classifier of domains is not reversed',
    'metakit/learners/adversary.py',
    '-weight * tangents[0]',
    'weight * tangents[0]',
    f'{ADAPTED}test_features_learn_against_the_classifier_of_domains',
  ),
)
