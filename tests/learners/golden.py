"""Golden values: what every learner of the table of laws computes of one small episode in float64.

  python -m tests.learners.golden            # adds the rows that are new, drops those that are gone
  python -m tests.learners.golden maml anil  # computes these rows anew

writes golden.json beside this file; test_laws.py compares with it. A change of these numbers is a
change of what a learner computes.
"""

import json
import sys
from pathlib import Path

import jax
import numpy as np

PATH = Path(__file__).with_suffix('.json')


def values(judged):
  """Loss, and of the predictions and of the meta-gradient the sum of squares and a projection.

  The projection is on sines of the places, so that what is permuted or changes its sign shows.
  """
  found = {'loss': float(judged['loss'])}
  for part in ('outputs', 'gradient'):
    flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(judged[part])])
    found[part] = float(flat @ flat)
    found[f'{part}, projected'] = float(flat @ np.sin(1 + np.arange(len(flat))))
  return found


def alone(name):
  """What the learner of a row computes of the episode alone.

  No row is absent, so that padding is compared with none; but for a learner that draws
  minibatches, in which an absent row takes its place.
  """
  from tests.learners.judged import as_float, compiled_fast, episode_of, judge, made, variants
  from tests.learners.rows import LEARNERS

  learner, params = made(name)
  given = params, episode_of(name), episode_of(name).query.x
  given = given if LEARNERS[name].padded else variants(name)['padded']
  with jax.enable_x64(True):
    run = compiled_fast(lambda *given: judge(learner, *given))
    return jax.device_get(run(*as_float(given, np.float64)))


def main(anew):
  from tests.learners.rows import LEARNERS

  stored = json.loads(PATH.read_text())
  kept = {name: stored[name] for name in stored if name not in anew}
  found = {name: kept.get(name) or values(alone(name)) for name in LEARNERS}
  PATH.write_text(json.dumps(found, indent=2) + '\n')


if __name__ == '__main__':
  main(sys.argv[1:])
