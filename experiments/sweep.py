r"""Trains models of several sizes on several numbers of tasks: when does learning to learn begin?

  python -m experiments.sweep --pools=0,8,16 --widths=16,64 --steps=5000 --workdir=runs/sweep
  python -m experiments.sweep --task=dense:dim=8,shots=16,noise=0.5 --workdir=runs/diversity

For images it makes the phase diagram of Kirsch et al. 2022 (arXiv:2212.04458, figure 2): the
within-sequence gain on tasks of the pool and on unseen tasks. For functions it makes that of
Raventos et al. 2023 (arXiv:2306.15063, figure 2): the mean squared difference from the posterior
mean of the pool, and from that of all tasks. All pools of one width are trained side by side under
vmap, in one program. The same command again goes on after the last finished width.
"""

from experiments.command_line.flags import define_common, define_sweep, options_of_flags
from experiments.command_line.runtime import run
from experiments.runs.sweep import Options, sweep

if __name__ == '__main__':
  define_common()
  define_sweep()
  run(lambda: sweep(options_of_flags(Options)), __doc__)
