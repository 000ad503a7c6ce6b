"""Evaluates learners on named episodes: a seed and a number name each of them.

A judge says what is measured on an episode. Two modules with measures for one kind of learner are
not imported here: `metakit.evaluation.in_context` and `metakit.evaluation.sessions`.
"""

from metakit.evaluation.calibration import calibrate, embed_source
from metakit.evaluation.correlation import correlation_gap
from metakit.evaluation.densities import calibration_error, judge_density
from metakit.evaluation.evaluator import evaluate, not_finite, usual_chunk
from metakit.evaluation.judges import (
  Judge,
  judge_beside,
  judge_gain,
  judge_meta_gradient,
  judge_prefixes,
  judge_queries,
  predict_prefixes,
  sequence,
)
from metakit.evaluation.orders import judge_orders, log_density, sample_jointly
from metakit.evaluation.ranking import judge_roc_auc, roc_auc

__all__ = [
  'Judge',
  'calibrate',
  'calibration_error',
  'correlation_gap',
  'embed_source',
  'evaluate',
  'judge_beside',
  'judge_density',
  'judge_gain',
  'judge_meta_gradient',
  'judge_orders',
  'judge_prefixes',
  'judge_queries',
  'judge_roc_auc',
  'log_density',
  'not_finite',
  'predict_prefixes',
  'roc_auc',
  'sample_jointly',
  'sequence',
  'usual_chunk',
]
