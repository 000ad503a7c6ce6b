"""Learners: factories of MetaLearner, one method a file."""

from metakit.learners.in_context import in_context
from metakit.learners.maml import maml
from metakit.learners.prototypical import prototypical

__all__ = ['in_context', 'maml', 'prototypical']
