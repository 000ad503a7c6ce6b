"""Golden values: what every learner of the table of laws computes of one small episode in float64.

  python -m tests.learners.golden

writes golden.json beside this file anew; test_golden.py compares with it. A change of these numbers
is a change of what a learner computes.
"""

import json
from pathlib import Path

import jax
import numpy as np

PATH = Path(__file__).with_suffix('.json')


def values(name):
  """Loss, and of the predictions and of the meta-gradient the sum of squares and a projection.

  The projection is on sines of the places, so that what is permuted or changes its sign shows.
  """
  from tests.learners.test_laws import padded_in_float64, precise

  with jax.enable_x64(True):
    judged = jax.device_get(precise(name)(*padded_in_float64(name)))
  found = {'loss': float(judged['loss'])}
  for part in ('outputs', 'gradient'):
    flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(judged[part])])
    found[part] = float(flat @ flat)
    found[f'{part}, projected'] = float(flat @ np.sin(1 + np.arange(len(flat))))
  return found


def main():
  from tests.learners.rows import LEARNERS

  PATH.write_text(json.dumps({name: values(name) for name in LEARNERS}, indent=2) + '\n')


if __name__ == '__main__':
  main()
