"""Heads: learners of features, one method a file.

A head is a MetaLearner whose x are embeddings [examples, features];
`metakit.learners.embedded.embedded` puts it on a network.
"""

from metakit.heads.alpha_tim import alpha_tim
from metakit.heads.baseline import baseline
from metakit.heads.bd_cspn import bd_cspn
from metakit.heads.feat import feat
from metakit.heads.gaussian import discriminant, mahalanobis, naive_bayes
from metakit.heads.laplacian_shot import laplacian_shot
from metakit.heads.logistic import logistic
from metakit.heads.matching import matching
from metakit.heads.normalised import normalised, simpleshot
from metakit.heads.paddle import paddle
from metakit.heads.prototypes import prototypes
from metakit.heads.pt_map import pt_map
from metakit.heads.relation import relation
from metakit.heads.ridge import ridge
from metakit.heads.slk import slk
from metakit.heads.soft_kmeans import soft_kmeans
from metakit.heads.streaming import class_mean_stream, recursive_ridge
from metakit.heads.svm import svm
from metakit.heads.tim import tim
from metakit.heads.transductive_tuning import transductive_tuning

__all__ = [
  'alpha_tim',
  'baseline',
  'bd_cspn',
  'class_mean_stream',
  'discriminant',
  'feat',
  'laplacian_shot',
  'logistic',
  'mahalanobis',
  'matching',
  'naive_bayes',
  'normalised',
  'paddle',
  'prototypes',
  'pt_map',
  'recursive_ridge',
  'relation',
  'ridge',
  'simpleshot',
  'slk',
  'soft_kmeans',
  'svm',
  'tim',
  'transductive_tuning',
]
