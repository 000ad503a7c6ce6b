"""Evaluation: what is measured of episodes, and the evaluation on episodes that have names.

Measures of one kind of learner have files of their own, which are imported by who uses them:
`metakit.evaluation.in_context` and `metakit.evaluation.sessions`.
"""

from metakit.evaluation.calibration import calibrate, embed_source
from metakit.evaluation.evaluator import evaluate, usual_chunk
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

__all__ = [
  'Judge',
  'calibrate',
  'embed_source',
  'evaluate',
  'judge_beside',
  'judge_gain',
  'judge_meta_gradient',
  'judge_prefixes',
  'judge_queries',
  'predict_prefixes',
  'sequence',
  'usual_chunk',
]
