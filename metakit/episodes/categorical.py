"""Classification tasks from a known, discrete and uneven prior: how costly is an unlikely task?

A task is a table of class probabilities for each of a few inputs. There are finitely many tasks,
the i-th with the weight 1 / (i + 1)^power, so that the Bayes mixture over them is known exactly.
Its regret in log-loss against the true task is at most -log of that task's weight, however many
tasks there are (Meir Feder, Ruediger Urbanke, Yaniv Fogel, The Universality Lens, 2025,
arXiv:2506.07661).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metakit.episodes import draws
from metakit.keys import fixed_key
from metakit.sizes import check_memory
from metakit.sources import EpisodeSource
from metakit.types import Episode, Examples, Key


class CategoricalTasks(NamedTuple):
  """A discrete prior over tasks.

  Attributes:
    log_weight: [tasks], normalised.
    log_probability: [tasks, inputs, classes], log p(y given x) in each task.
  """

  log_weight: jax.Array
  log_probability: jax.Array


def categorical_tasks(
  tasks: int = 64,
  inputs: int = 4,
  classes: int = 4,
  *,
  power: float = 1.0,
  concentration: float = 0.3,
  seed: int = 0,
) -> CategoricalTasks:
  """Draws the tables of a prior.

  Args:
    tasks: how many.
    inputs: different inputs.
    classes: labels.
    power: exponent of the weights 1 / (i + 1)^power; 0 makes them equal.
    concentration: concentration of the symmetric Dirichlet that rows of the tables are drawn from.
      If it is small, the tables are close to functions.
    seed: determines the tables.

  Raises:
    ValueError: if a size or the concentration is not positive, the power negative, or the prior too
      large for memory.
  """
  sizes = {'tasks': tasks, 'inputs': inputs, 'classes': classes, 'concentration': concentration}
  for name, value in sizes.items():
    if not value > 0:
      raise ValueError(f'{name}={value} is not positive; use {name}>0')
  if classes < 2:
    raise ValueError(f'classes={classes} leaves nothing to predict; use classes>=2')
  if not 0 <= power < math.inf:
    raise ValueError(f'power={power} is negative; use power>=0')
  check_memory('the prior', 4 * tasks * inputs * classes, 'use fewer tasks, inputs or classes')
  key = fixed_key(seed)
  weight = -power * jnp.log(1.0 + jnp.arange(tasks))
  rows = draws.log_gamma(key, concentration, (tasks, inputs, classes))
  return CategoricalTasks(jax.nn.log_softmax(weight), jax.nn.log_softmax(rows))


def categorical(prior: CategoricalTasks, shots: int = 32, queries: int = 1) -> EpisodeSource:
  """Episodes of tasks drawn from a prior.

  Args:
    prior: what `categorical_tasks` returned.
    shots: support examples in all.
    queries: query examples in all.

  Returns:
    A source: x one-hot [examples, inputs], uniform; y drawn from the task's table;
    info['task'] [], info['log_weight'] [] and info['log_probability'] [inputs, classes] are those
    of the true task.

  Raises:
    ValueError: if a size is not positive.
  """
  for name, value in (('shots', shots), ('queries', queries)):
    if value < 1:
      raise ValueError(f'{name}={value} is not positive; use {name}>=1')
  _, inputs, _ = prior.log_probability.shape

  @jax.jit
  def plan(key: Key) -> Episode:
    task_key, x_key, y_key = jax.random.split(key, 3)
    task = draws.choice(task_key, prior.log_weight)
    table = prior.log_probability[task]
    place = draws.integers(x_key, (shots + queries,), 0, inputs)
    y = draws.choice(y_key, table[place])
    x = jax.nn.one_hot(place, inputs)
    info = {'task': task, 'log_weight': prior.log_weight[task], 'log_probability': table}
    return Episode(Examples(x[:shots], y[:shots]), Examples(x[shots:], y[shots:]), info)

  return EpisodeSource(plan)
