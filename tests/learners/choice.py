"""Which rows of tests/learners/rows.py a law is asked of, in which tier, and by which compiler."""

import pytest

from tests.learners.rows import LEARNERS

# Rows whose mechanism another row holds. A row that joins is quick, and may become one of these.
VARIANTS = (
  'maml:conv4_group',
  'maml:3_steps',
  'maml:adam',
  'maml:first_order',
  'maml:inductive',
  'maml:minibatches',
  'maml:mixed',
  'maml:remat',
  'maml_plus_plus',
  'anil:transductive',
  'imaml:unroll',
  'cavia',
  'prototypical:cosine',
  'prototypical:group',
  'linear_probe',
  'in_context:set',
  'in_context:shifted',
  'in_context:interleaved',
  'in_context:momentum',
  'in_context:linear',
  'in_context:lstm',  # its reading is asked of the network
  'in_context:regression',
  'tabular:regression',
  'pretrained:transforms',
  'anp:deterministic',
  'np',  # its latent variable is that of anp
  'tnp',  # it is in_context:set
  # test_domains.py and test_meta_dmoe.py ask for their values.
  'erm',
  'arm_ll',
  'tent',
  'meta_dmoe',
  'dann',
  'stda_meta',
)
# Learners of which test_family.py asks in the quick tier for what is their own.
OF_THE_FAMILY = ('boil', 'meta_sgd', 'maml_plus_plus:inductive', 'meta_curvature', 'proto_maml')
# Heads of which tests/heads asks in the quick tier for their values, and for absent rows.
ALIKE = (
  'simpleshot',
  'matching',
  'logistic',
  'svm',
  'baseline',
  'baseline:cosine',
  'naive_bayes:own',
  'discriminant',
  'discriminant:own',
  'mahalanobis',
  'recursive_ridge',
  'soft_kmeans:distractors',
  'slk',
  'slk:modes',
  'laplacian_shot',
  'bd_cspn',
  'tim',
  'alpha_tim',
  'pt_map',
  'paddle',
  'transductive_tuning',
  'normalised:tim',
)
SLOW = (*VARIANTS, *OF_THE_FAMILY, *ALIKE)

# Programs of one row of each mechanism are judged as users have them (.ci/run).
MECHANISMS = (
  'prototypical:batch',
  'maml:batch',
  'maml:minibatches',
  'reptile',
  'maml_plus_plus:inductive',
  'imaml',
  'cavia:conv4',
  'meta_curvature',
  'alfa',
  'in_context',
  'ridge',
  'tim',
)
# The quick tier judges a network of images and a head in half precision. It judges one
# row operation by operation, which compiles each by itself. The slow tier has more of either.
HALF_PRECISION = ('cavia:conv4', 'ridge')
OPERATION_BY_OPERATION = ('maml:regression',)
# Normalisation, images and attention; heads without a long loop.
OTHERS_BY_OPERATION = ('maml:batch', 'cavia:conv4', 'ridge', 'feat')
# They descend as maml does; what else they compute is asked of one program, and of vmap.
DESCENTS = ('maml:minibatches', 'reptile', 'maml_plus_plus:inductive', 'meta_curvature', 'alfa')


def kind(name):
  """Rows of one kind are variants of one learner on the same data."""
  return name.partition(':')[0], LEARNERS[name].data


def one_of_each_kind(names=()):
  """Names of rows, and a row of each kind that none of them is of."""
  first = {kind(name): name for name in reversed(LEARNERS)}
  return (*names, *(name for each, name in first.items() if each not in set(map(kind, names))))


def rows(condition=lambda row: True, slow=SLOW, names=tuple(LEARNERS), compiler=()):
  """Marks a law of all learners that meet a condition. Laws of a row run in one process."""

  def marked(name):
    marks = [pytest.mark.slow] if name in slow else []
    marks += [pytest.mark.compiler] if name in compiler else []
    return pytest.param(name, marks=[*marks, pytest.mark.xdist_group(name)])

  names = [marked(name) for name, row in LEARNERS.items() if name in names and condition(row)]
  return pytest.mark.parametrize('name', names)


def quick_for(quick, names, compiler=()):
  """Marks a law of some learners that is quick for some of them."""
  return rows(slow=set(LEARNERS) - set(quick), names=(*quick, *names), compiler=compiler)
