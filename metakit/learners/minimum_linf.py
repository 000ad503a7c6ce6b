"""The linear function of least maximum norm that fits the support exactly.

If the true weights are in {-1, 1}^d, it finds them from about d / 2 examples (Mangasarian and Recht
2011). Panwar et al. 2024, arXiv:2306.04891, section 3.2, compare with it where there are too many
sign vectors to enumerate.
"""

import jax
import numpy as np

from metakit.builder import meta_learner
from metakit.learners.bayes import check_one_output
from metakit.objectives import squared_error
from metakit.types import Examples, Fitted, Key, MetaLearner, Objective, Params, presence


def minimum_linf(objective: Objective = squared_error) -> MetaLearner:
  """Fits y = w x with the smallest max |w_i|. The host solves a linear program (SciPy, HiGHS).

  If no w fits exactly (with noise, and more examples than inputs), w is that of least squares.

  Args:
    objective: the objective of `loss`.

  Returns:
    A MetaLearner without parameters; fitted is w [inputs].

  >>> support = Examples(np.array([[1.0, 1.0, -1.0]], np.float32), np.array([[3.0]], np.float32))
  >>> minimum_linf().adapt(jax.random.key(0), {}, support).tolist()  # one example finds all signs
  [1.0, 1.0, -1.0]
  """

  def adapt(key: Key, params: Params, support: Examples) -> Fitted:
    del key, params  # nothing is drawn and nothing was learned
    check_one_output(support)
    shape = jax.ShapeDtypeStruct(support.x.shape[1:], support.y.dtype)
    parts = support.x, support.y[:, 0], presence(support)
    return jax.pure_callback(solve, shape, *parts, vmap_method='sequential')

  def predict(fitted: Fitted, x: jax.Array) -> jax.Array:
    return (x @ fitted)[:, None]

  return meta_learner(lambda key, episode: {}, adapt, predict, objective=objective)


def solve(x: np.ndarray, y: np.ndarray, present: np.ndarray) -> np.ndarray:
  """Returns argmin max |w_i| subject to x w = y, or the least-squares w if there is none.

  Args:
    x: [n, inputs].
    y: [n].
    present: [n] bool; rows that count.
  """
  from scipy.optimize import linprog  # here: its import takes longer than a small program

  dtype = y.dtype
  x, y = (np.asarray(part, np.float64)[np.asarray(present)] for part in (x, y))
  inputs = x.shape[1]
  # Variables (w, t): minimise t subject to w - t <= 0 and -w - t <= 0.
  bound, one = np.eye(inputs), np.ones((inputs, 1))
  solution = linprog(
    np.append(np.zeros(inputs), 1.0),
    np.block([[bound, -one], [-bound, -one]]),
    np.zeros(2 * inputs),
    np.hstack([x, np.zeros((len(x), 1))]),
    y,
    (None, None),
  )
  w = solution.x[:inputs] if solution.success else np.linalg.lstsq(x, y, rcond=None)[0]
  return w.astype(dtype)
