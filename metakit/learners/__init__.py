"""Learners: factories of MetaLearner, one method a file."""

from metakit.learners.alfa import alfa
from metakit.learners.anil import anil
from metakit.learners.anp import anp
from metakit.learners.arm_bn import arm_bn
from metakit.learners.arm_ll import arm_ll
from metakit.learners.bayes import bayes, bayes_categorical
from metakit.learners.bayes_density import bayes_density
from metakit.learners.boil import boil
from metakit.learners.cavia import cavia
from metakit.learners.cnp import cnp
from metakit.learners.convcnp import convcnp
from metakit.learners.dann import dann
from metakit.learners.embedded import embedded
from metakit.learners.erm import erm
from metakit.learners.generative_adapter import generative_adapter
from metakit.learners.imaml import imaml
from metakit.learners.in_context import in_context
from metakit.learners.maml import maml
from metakit.learners.maml_plus_plus import maml_plus_plus
from metakit.learners.mend import mend
from metakit.learners.meta_curvature import meta_curvature
from metakit.learners.meta_dmoe import meta_dmoe
from metakit.learners.meta_sgd import meta_sgd
from metakit.learners.minimum_linf import minimum_linf
from metakit.learners.niw_meta import niw_meta
from metakit.learners.np import np
from metakit.learners.ordinary_training import fine_tuning, from_scratch
from metakit.learners.pretrained import pretrained
from metakit.learners.proto_maml import proto_maml
from metakit.learners.prototypical import prototypical
from metakit.learners.raml import raml
from metakit.learners.reptile import reptile
from metakit.learners.stda_meta import stda_meta
from metakit.learners.tabular import tabular
from metakit.learners.tent import tent
from metakit.learners.tnp import tnp

__all__ = [
  'alfa',
  'anil',
  'anp',
  'arm_bn',
  'arm_ll',
  'bayes',
  'bayes_categorical',
  'bayes_density',
  'boil',
  'cavia',
  'cnp',
  'convcnp',
  'dann',
  'embedded',
  'erm',
  'fine_tuning',
  'from_scratch',
  'generative_adapter',
  'imaml',
  'in_context',
  'maml',
  'maml_plus_plus',
  'mend',
  'meta_curvature',
  'meta_dmoe',
  'meta_sgd',
  'minimum_linf',
  'niw_meta',
  'np',
  'pretrained',
  'proto_maml',
  'prototypical',
  'raml',
  'reptile',
  'stda_meta',
  'tabular',
  'tent',
  'tnp',
]
