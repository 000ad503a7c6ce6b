"""Heads beside EasyFSL's and scikit-learn's, on the same episodes of features.

5-way 5-shot, 15 queries a class, 640 features that are not negative, as those of ResNet-12, brought
to unit length as in EasyFSL's own benchmark. A call classifies 20 episodes: an episode takes a
twentieth of its milliseconds. EasyFSL and scikit-learn take one after the other, since they have no
other way; metakit takes all in one program. EasyFSL's heads have their own settings. metakit's have
the same numbers of steps, and rates and strengths where these mean the same.

Where the mathematics is the same, scores are compared before anything is timed. Elsewhere the share
of queries that both give the same class is in the record (`agreement`):

- BD-CSPN: EasyFSL's shifts queries to rectify the prototypes, but classifies them unshifted.
- LaplacianShot: the same; its graph has one neighbour less than `knn` says, and is not symmetric.
- TIM: EasyFSL's descends on cosines where the paper and metakit do on squared distances.
- Finetune: EasyFSL's descends by Adam from class means; Baseline++ by SGD from random weights.
- TransductiveFinetuning: EasyFSL's classifies by distances, metakit's by a linear layer.
- PT-MAP: EasyFSL's does not centre features or bring their roots to unit length.
- SVC: one machine for each pair of classes.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.elsewhere import elsewhere
from experiments.benchmarks.packages import installed
from experiments.benchmarks.sklearn_heads import sklearn_heads
from experiments.benchmarks.suite import AT_LEAST, FASTER, Aim, Suite
from experiments.benchmarks.timing import Case, compiled_case
from metakit import heads
from metakit.types import Episode, Examples, MetaLearner

EPISODES, WAYS, SHOTS, QUERIES, FEATURES = 20, 5, 5, 15, 640
APART = 0.25  # how far centres of classes lie apart, beside the spread of a class
CLOSE = 1e-2  # what scores may differ by, as a share of the largest; solvers stop at 1e-3 or so
OURS: dict[str, Callable[[], MetaLearner]] = {
  'prototypes': lambda: heads.prototypes(WAYS),
  'prototypes, cosine': lambda: heads.prototypes(WAYS, 'cosine'),
  'bd_cspn': lambda: heads.bd_cspn(WAYS, scale=1.0),
  'laplacian_shot': lambda: heads.laplacian_shot(WAYS, 0.7, 2),
  'tim, 50 steps': lambda: heads.tim(
    WAYS, 'gd', 50, temperature=10.0, support_weight=1.0, learning_rate=1e-4
  ),
  'baseline, cosine, 200 steps': lambda: heads.baseline(
    WAYS, cosine=True, steps=200, batch=0, learning_rate=1.0, scale=10.0
  ),
  # The usual rate moves so many features too far: all queries get one class.
  'transductive_tuning, 25 steps': lambda: heads.transductive_tuning(WAYS, 25, 1e-3, scale=50.0),
  'pt_map, 10 steps': lambda: heads.pt_map(WAYS, 10),
  'logistic': lambda: heads.logistic(WAYS),
  'svm': lambda: heads.svm(WAYS),
}
# Which of ours each is compared with.
EASYFSL = {
  'EasyFSL, PrototypicalNetworks': 'prototypes',
  'EasyFSL, SimpleShot': 'prototypes, cosine',
  'EasyFSL, BDCSPN': 'bd_cspn',
  'EasyFSL, LaplacianShot': 'laplacian_shot',
  'EasyFSL, TIM': 'tim, 50 steps',
  'EasyFSL, Finetune': 'baseline, cosine, 200 steps',
  'EasyFSL, TransductiveFinetuning': 'transductive_tuning, 25 steps',
  'EasyFSL, PTMAP': 'pt_map, 10 steps',
}
SKLEARN = {
  'scikit-learn, LogisticRegression': 'logistic',
  'scikit-learn, NearestCentroid': 'prototypes',
  'scikit-learn, LinearSVC, Crammer-Singer': 'svm',
  'scikit-learn, SVC, linear': 'svm',
}
# Of those that compute the same: our logits -> what the other returns.
SAME: dict[str, Callable[[np.ndarray], Any]] = {
  'EasyFSL, PrototypicalNetworks': lambda logits: -np.sqrt(np.maximum(-logits, 0)),
  'EasyFSL, SimpleShot': lambda logits: logits,
  'scikit-learn, LogisticRegression': jax.nn.softmax,
  'scikit-learn, NearestCentroid': lambda logits: logits.argmax(-1),
  'scikit-learn, LinearSVC, Crammer-Singer': lambda logits: logits,
}


def cases() -> list[Case]:
  """Returns the cases: metakit's heads, then the others, each compared with one of ours.

  Raises:
    AssertionError: if one that computes the same has other scores.
  """
  support, query = _episodes()
  ours = {name: _case(name, make(), support, query) for name, make in OURS.items()}
  arrays = tuple(np.asarray(each) for each in (support.x, support.y, query))
  others: dict[str, Callable[..., Any]] = {}
  if installed('torch') and installed('easyfsl'):
    from experiments.benchmarks.torch_heads import easyfsl_heads

    others |= elsewhere(easyfsl_heads, *arrays)
  if installed('sklearn'):
    others |= elsewhere(sklearn_heads, *arrays)
  return [*ours.values(), *(_beside(name, call, ours) for name, call in others.items())]


def _episodes() -> tuple[Examples, jax.Array]:
  """Returns support [episodes, examples, ...] and queries [episodes, queries, features]."""
  rng = np.random.default_rng(0)
  centres = APART * rng.normal(size=(EPISODES, WAYS, 1, FEATURES))
  x = np.maximum(centres + rng.normal(size=(EPISODES, WAYS, SHOTS + QUERIES, FEATURES)), 0)
  x = (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)
  rows = lambda part: jnp.asarray(part.reshape(EPISODES, -1, FEATURES))
  labels = np.tile(np.repeat(np.arange(WAYS, dtype=np.int32), SHOTS), (EPISODES, 1))
  return Examples(rows(x[:, :, :SHOTS]), jnp.asarray(labels)), rows(x[:, :, SHOTS:])


def _case(name: str, head: MetaLearner, support: Examples, query: jax.Array) -> Case:
  """Returns a case whose call returns logits [episodes, queries, ways]."""
  first = jax.tree.map(lambda leaf: leaf[0], support)
  key = jax.random.key(0)
  params = head.init(key, Episode(first, first))

  def judge(support: Examples, query: jax.Array) -> jax.Array:
    return head.predict(head.adapt(key, params, support), query)

  arguments = support, query
  case = compiled_case(name, jax.vmap(judge), arguments, number=EPISODES, unit='episodes')
  return case._replace(flops=None, moved=None)  # some loop until they have arrived


def _beside(name: str, call: Callable[..., Any], ours: dict[str, Case]) -> Case:
  baseline = (EASYFSL | SKLEARN)[name]
  judge = ours[baseline].call
  assert judge is not None
  logits, theirs = np.asarray(judge()), call(show=True)
  case = Case(name, call, EPISODES, baseline=baseline, unit='episodes', peer=True)
  if name not in SAME:
    return case._replace(agreement=agreement_of(logits, theirs))
  check_scores(name, theirs, np.asarray(SAME[name](logits)))
  return case


def check_scores(name: str, actual: np.ndarray, expected: np.ndarray) -> None:
  """Raises an AssertionError unless scores are close, or classes (of integers) equal."""
  if np.issubdtype(expected.dtype, np.integer):
    apart = float((actual != expected).any())
  else:
    apart = float(np.abs(actual - expected).max() / np.abs(expected).max())
  if not apart <= CLOSE:
    raise AssertionError(f'{name} has other scores, by {apart:.2g} of the largest')


def agreement_of(logits: np.ndarray, theirs: np.ndarray) -> float:
  """Returns the share of queries that both give the same class.

  Args:
    logits: [episodes, queries, ways].
    theirs: the same, or classes [episodes, queries].
  """
  classes = theirs.argmax(-1) if theirs.ndim == logits.ndim else theirs
  return float((classes == logits.argmax(-1)).mean())


AIMS = tuple(Aim(ours, FASTER, other, AT_LEAST, 10) for other, ours in EASYFSL.items())
SUITES = {'peers': Suite(cases, AIMS)}
