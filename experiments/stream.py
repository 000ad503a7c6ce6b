r"""Lets strategies learn tasks that arrive one after the other, and counts what each of them takes.

  python -m experiments.stream --workdir=runs/stream --stream=real \
      --strategy=independent --strategy=previous --strategy=dynamic_knn

Each event of a stream is a task: what is learned from its training part predicts its test part.
Hyper-parameters are chosen inside the stream, by the validation part of each event, and all trials
are paid for (NEVIS'22, Bornschein et al. 2023, arXiv:2211.11747). Errors and the operations of each
event are written to stream.json, and error against operations is drawn in stream.svg.

After each event there is a checkpoint of the strategy. The same command goes on from there, with
the same numbers. More strategies may be added in the same folder.
"""

import os

from absl import flags

from experiments.command_line.flags import COMMON, options_of_flags
from experiments.command_line.runtime import run
from experiments.components.streams import STRATEGIES, STREAMS
from experiments.runs.stream import Options, stream
from metakit.keys import MAX_SEED

if __name__ == '__main__':
  flags.DEFINE_string('workdir', None, 'folder of the results')
  flags.DEFINE_string('stream', 'made', f'stream spec: {", ".join(STREAMS)}')
  flags.DEFINE_multi_string(
    'strategy', list(STRATEGIES), f'strategy spec, once for each: {", ".join(STRATEGIES)}'
  )
  flags.DEFINE_string('network', 'mlp:width=128', 'network spec: what is carried along')
  flags.DEFINE_list('rates', ['0.001', '0.003', '0.01'], 'learning rates that are tried')
  flags.DEFINE_list('trial_steps', ['200'], 'steps of each trial; once for each budget')
  flags.DEFINE_integer('batch', 32, 'examples of a step', lower_bound=1)
  flags.DEFINE_integer('seed', 0, 'names all draws', lower_bound=0, upper_bound=MAX_SEED)
  flags.DEFINE_string('data_dir', os.environ.get('METAKIT_DATA'), COMMON['data_dir'])
  run(lambda: stream(options_of_flags(Options)), __doc__)
