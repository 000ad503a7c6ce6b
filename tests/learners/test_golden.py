"""Every learner still computes what it did: see tests/learners/golden.py."""

import json

import pytest

from tests.learners.golden import PATH, values
from tests.learners.rows import LEARNERS
from tests.learners.test_laws import every_learner

GOLDEN = json.loads(PATH.read_text())


@every_learner
def test_loss_predictions_and_gradient_are_the_golden_ones(name):
  # 1e-6 and not less: from_scratch draws weights in float32, not the same to the bit everywhere.
  assert values(name) == pytest.approx(GOLDEN[name], rel=1e-6, abs=1e-6)


def test_every_learner_has_golden_values_and_none_is_left_over():
  assert set(GOLDEN) == set(LEARNERS)
