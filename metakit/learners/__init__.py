"""Learners: factories of MetaLearner, one method a file."""

from metakit.learners.bayes import bayes, bayes_categorical
from metakit.learners.in_context import in_context
from metakit.learners.maml import maml
from metakit.learners.minimum_linf import minimum_linf
from metakit.learners.prototypical import prototypical

__all__ = ['bayes', 'bayes_categorical', 'in_context', 'maml', 'minimum_linf', 'prototypical']
