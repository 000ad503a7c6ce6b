"""Laws of every learner. A new learner joins by adding one row to tests/learners/rows.py.

The laws of a row run one after the other (conftest.py) and share what one program computed
(judged.py). What is computed operation by operation or in other precisions is asked of one row of
each mechanism or kind, and slow for most of these.
"""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metakit import heads
from tests.learners import golden
from tests.learners.choice import (
  DESCENTS,
  HALF_PRECISION,
  MECHANISMS,
  OPERATION_BY_OPERATION,
  OTHERS_BY_OPERATION,
  kind,
  one_of_each_kind,
  quick_for,
  rows,
)
from tests.learners.judged import (
  NEW,
  STEP,
  as_float,
  assert_close,
  assert_same_bits,
  compiled_fast,
  directions,
  episode_of,
  judge,
  judged,
  made,
  plain,
  plain_of,
  stack,
  variants,
)
from tests.learners.rows import KEY, LEARNERS, REGRESSIONS, TASKS

GOLDEN = json.loads(golden.PATH.read_text())

every_learner = rows()
# What an optimised program might change: values, gradients, and whether NaN in absent rows is left
# out. Its row of each mechanism is asked by .ci/run once more.
of_known_values = rows(compiler=MECHANISMS)
differentiable = rows(lambda row: row.exact, compiler=MECHANISMS)
symmetric = rows(lambda row: row.symmetric)
unordered = rows(lambda row: not row.ordered and row.padded)
padding = rows(lambda row: row.padded, compiler=MECHANISMS)
supervised = rows(lambda row: row.padded and row.supervised and row.data not in REGRESSIONS)
# tests/heads/test_precision.py asks all heads for their values, in half precision too.
OTHERS = [name for name in one_of_each_kind(MECHANISMS) if kind(name)[0] not in heads.__all__]
every_kind = quick_for(HALF_PRECISION, [*OTHERS, *HALF_PRECISION])
slow_but_for_heads = quick_for(
  (), [n for n in one_of_each_kind() if kind(n)[0] not in heads.__all__]
)
more = [name for name in (*MECHANISMS, *OTHERS_BY_OPERATION) if name not in DESCENTS]
operation_by_operation = quick_for(OPERATION_BY_OPERATION, more)
beside_operations = quick_for(OPERATION_BY_OPERATION, more, ('maml:batch', 'ridge'))


@operation_by_operation
def test_pure_and_deterministic(name):
  assert_same_bits(plain_of(LEARNERS[name].make(), name), plain(name))


VMAPPED = 'first', 'second'


def under_vmap(name):
  """What `judge` says of two tasks side by side."""
  with jax.enable_x64(True):
    run = jax.jit(jax.vmap(functools.partial(judge, made(name)[0])))
    together = jax.device_get(run(*stack([variants(name)[task] for task in VMAPPED])))
  return [jax.tree.map(lambda leaf: leaf[task], together) for task in range(len(VMAPPED))]  # noqa: B023


@beside_operations
def test_jit_and_vmap_equal_a_plain_loop(name):
  """Values and gradients: a compiler that fuses operations may change either."""
  for task, together in enumerate(under_vmap(name)):
    assert_close(plain(name, task), judged(name)[VMAPPED[task]], 1e-6)
    assert_close(together, plain(name, task), 1e-6)


@quick_for((), DESCENTS)
def test_vmap_equals_a_loop(name):
  for variant, together in zip(VMAPPED, under_vmap(name), strict=True):
    assert_close(together, judged(name)[variant], 1e-6)


@of_known_values
def test_loss_predictions_and_gradient_are_the_golden_ones(name):
  # 1e-6 and not less: from_scratch draws weights in float32, not the same to the bit everywhere.
  found = golden.values(judged(name)['padded'])
  assert found == pytest.approx(GOLDEN[name], rel=1e-6, abs=1e-6)


def test_every_learner_has_golden_values_and_none_is_left_over():
  assert set(GOLDEN) == set(LEARNERS)


@every_learner
def test_traced_once_through_steps_and_calibration(name):
  """What a step and a calibration return has the types they were given."""
  learner, params = made(name)
  assert judged(name).traces == 1
  episodes = stack([episode_of(name, task) for task in range(TASKS)])
  assert jax.eval_shape(learner.calibrate, params, episodes) == jax.eval_shape(lambda: params)


@every_learner
def test_numpy_arrays_will_do_and_arrays_come_back(name):
  """Parameters from a file, and examples, without a jit around: traced, which shows what fails.

  What is returned of them holds arrays only: those of JAX, or those that were given.
  """
  learner, (params, episode) = made(name)[0], (made(name)[1], episode_of(name))
  given = {id(leaf) for leaf in jax.tree.leaves((params, episode))}

  def run():
    fitted = learner.adapt(KEY, params, episode.support)
    returned = jax.tree.leaves((learner.init(KEY, episode), fitted))
    assert all(isinstance(leaf, jax.Array) or id(leaf) in given for leaf in returned)
    return learner.loss(KEY, params, episode), learner.predict(fitted, episode.query.x)

  jax.eval_shape(run)


@padding
def test_weight_0_equals_absent(name):
  """In support and query for loss and gradient; in the support for predictions.

  Golden values are those of an episode without absent rows.
  """
  ours, theirs = judged(name)['padded'], judged(name)['first']
  assert_close(ours, theirs, 1e-6)
  assert golden.values(theirs) == pytest.approx(GOLDEN[name], rel=1e-6, abs=1e-6)


@supervised
def test_an_example_without_a_label_equals_absent(name):
  """Whatever it holds, it is no example of the last class."""
  assert_close(judged(name)['unlabelled'], judged(name)['first'], 1e-6)


@differentiable
def test_gradient_is_the_finite_difference(name):
  found = judged(name)
  for number, direction in enumerate(directions(made(name)[1])):
    ahead, behind = (found[f'moved {sign} in direction {number}']['loss'] for sign in ('+1', '-1'))
    products = jax.tree.map(lambda g, d: np.sum(g * d), found['first']['gradient'], direction)
    exact = sum(jax.tree.leaves(products))
    assert abs(exact) > 1e-4  # a flat direction would show nothing
    assert abs((ahead - behind) / (2 * STEP) - exact) < 1e-6 * abs(exact)


@unordered
def test_support_order_does_not_matter(name):
  assert_close(judged(name)['support backwards'], judged(name)['first'], 1e-6)


@every_learner
def test_query_order_does_not_matter(name):
  """Predictions are those of their queries; the loss and its gradient are the same."""
  ours, theirs = judged(name)['queries backwards'], judged(name)['first']
  assert_close({**ours, 'outputs': ours['outputs'][::-1]}, theirs, 1e-6)


@symmetric
def test_permuting_labels_permutes_outputs(name):
  ours, theirs = judged(name)['renamed'], judged(name)['first']
  assert_close(ours['outputs'][:, NEW], theirs['outputs'], 1e-6)
  assert_close(ours['gradient'], theirs['gradient'], 1e-6)


@every_learner
def test_the_protocol_is_true(name):
  """Other queries change a prediction of a transductive learner, and none of an inductive one."""
  ours, theirs = (judged(name)[each]['outputs'][0] for each in ('first', 'other queries'))
  change, seen = np.abs(ours - theirs).max(), made(name)[0].queries_seen
  assert change > 1e-2 if seen else change < 1e-6


@every_kind
def test_bfloat16_stays_finite(name):
  learner, params = made(name)
  run = compiled_fast(functools.partial(judge, learner))
  result = run(*as_float((params, episode_of(name)), jnp.bfloat16))
  for leaf in jax.tree.leaves(result):
    assert np.isfinite(np.asarray(leaf, np.float32)).all()


@slow_but_for_heads
def test_float32_says_what_float64_says(name):
  """Of all variants, by one program; but for metrics, which jump where two classes are as near."""
  run, what = jax.jit(functools.partial(judge, made(name)[0])), ['loss', 'outputs', 'gradient']
  for variant, given in variants(name).items():
    ours, theirs = run(*as_float(given, np.float32)), judged(name)[variant]
    assert_close({key: ours[key] for key in what}, {key: theirs[key] for key in what}, 1e-3)
