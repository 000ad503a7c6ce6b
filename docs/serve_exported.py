"""Runs a learner of metakit.export without metakit: jax, flatbuffers, safetensors and NumPy do.

python docs/serve_exported.py mine.safetensors data.npz predictions.npy

data.npz holds x and y (class numbers from 0), the support set, and queries.
"""

import json
import os
import sys

import numpy as np
from safetensors import safe_open

path, data, output = sys.argv[1:]
with safe_open(path, 'numpy') as file:
  about = json.loads(file.metadata()['metakit_export'])
  arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
assert about['format'] == 1, 'written by a later version of metakit'
os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {about["xla_flags"]}'

from jax import export, jit  # noqa: E402  (reads XLA_FLAGS)

programs = [export.deserialize(bytearray(arrays.pop(name))) for name in ('adapt', 'predict')]
adapt, predict = (jit(program.call) for program in programs)
task = np.load(data)
x, queries = (task[name].astype(about['dtype']) for name in ('x', 'queries'))
state = adapt(arrays, x, task['y'].astype(about['y_dtype']), np.ones(len(x), np.float32))
np.save(output, predict(state, queries))
