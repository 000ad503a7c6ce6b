"""Structural causal models at random: layers of nodes, each a function of those before it.

The graphs of metakit.episodes.tables, which says where they are from.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metakit.episodes import draws
from metakit.types import Key

# What a node is of the weighted sum of others.
ACTIVATIONS = (
  lambda z: z,
  jnp.tanh,
  jax.nn.relu,
  lambda z: jnp.sin(2 * z),
  lambda z: jnp.abs(z) - 0.8,
  lambda z: jnp.exp(-jnp.square(z)) * 2 - 1,
  lambda z: jnp.where(z > 0, 1.0, -1.0).astype(z.dtype),
  lambda z: jnp.clip(jnp.square(z), 0, 4) - 1,
)


class Graph(NamedTuple):
  """A structural causal model of layers of nodes.

  Attributes:
    weight: [layers, nodes, nodes], from the layer before; most are 0.
    skip: [layers, nodes, nodes], from the causes; most are 0.
    bias: [layers, nodes].
    scale: [layers, nodes], of the normalised sum.
    activation: [layers, nodes] int, which of ACTIVATIONS.
    noise: [layers, nodes], the standard deviation of what is added.
  """

  weight: jax.Array
  skip: jax.Array
  bias: jax.Array
  scale: jax.Array
  activation: jax.Array
  noise: jax.Array


def between(uniform: jax.Array, least: int, most: int) -> jax.Array:
  """Returns an integer from least to most of a number between 0 and 1.

  >>> between(jnp.array([0.0, 0.4, 1.0]), 1, 3).tolist()
  [1, 2, 3]
  """
  return jnp.minimum(least + (uniform * (most - least + 1)).astype(jnp.int32), most)


def blocks(
  draw: Callable[..., jax.Array], key: Key, shapes: dict[str, tuple[int, ...]]
) -> dict[str, jax.Array]:
  """Draws many arrays at once, since each call of the generator takes long to compile.

  >>> drawn = blocks(draws.uniform, jax.random.key(0), {'a': (2, 3), 'b': ()})
  >>> drawn['a'].shape, drawn['b'].shape
  ((2, 3), ())
  """
  sizes = [math.prod(shape) for shape in shapes.values()]
  numbers, found = draw(key, (sum(sizes),)), {}
  for (name, shape), size in zip(shapes.items(), sizes, strict=True):
    found[name], numbers = numbers[:size].reshape(shape), numbers[size:]
  return found


def draw_graph(key: Key, layers: int, nodes: int) -> Graph:
  """Draws a structural causal model.

  Args:
    key: a key.
    layers: layers of nodes that have causes.
    nodes: nodes of each layer, and causes.

  >>> jax.eval_shape(lambda: draw_graph(jax.random.key(0), layers=3, nodes=4)).weight.shape
  (3, 4, 4)
  """
  one, two = jax.random.split(key)
  each = layers, nodes
  normal = blocks(
    draws.normal,
    one,
    {'weight': (2, layers, nodes, nodes), 'bias': each, 'scale': each, 'noise': each, 'all': (2,)},
  )
  uniform = blocks(
    draws.uniform,
    two,
    {'edge': (2, layers, nodes, nodes), 'parent': each, 'activation': (2, *each), 'all': (3,)},
  )
  parents = between(uniform['parent'], 0, nodes - 1)
  parent = jnp.arange(nodes)[:, None] == parents[:, None, :]  # [layers, from, to]: one at least
  edges = jnp.stack([parent, jnp.zeros_like(parent)])
  density = jnp.array([0.5, 0.1])[:, None, None, None] * uniform['all'][0]
  weight, skip = normal['weight'] * (edges | (uniform['edge'] < density))
  activation = between(uniform['activation'][0], 0, len(ACTIVATIONS) - 1)
  # Some graphs have one function in most nodes.
  usual = between(uniform['all'][1], 0, len(ACTIVATIONS) - 1)
  activation = jnp.where(uniform['activation'][1] < uniform['all'][2] - 0.3, usual, activation)
  noise = jnp.exp(-2.8 + normal['all'][0] + 0.5 * normal['noise'])
  scale = jnp.exp(0.5 * normal['scale'] + 0.2 * normal['all'][1])
  return Graph(weight, skip, 0.7 * normal['bias'], scale, activation, noise)


def densely(key: Key, graph: Graph, number: int | jax.Array) -> Graph:
  """Returns a graph in which each node is a function of all of the layer before.

  Args:
    key: a key.
    graph: gives all but the weights.
    number: how many causes are read, the first ones. Some matter more: their weights have standard
      deviations of log-normal size.

  >>> graph = lambda key: densely(key, draw_graph(key, layers=3, nodes=4), number=2)
  >>> jax.eval_shape(graph, jax.random.key(0)).weight.shape
  (3, 4, 4)
  """
  nodes = graph.bias.shape[1]
  normal = blocks(draws.normal, key, {'weight': graph.weight.shape, 'matter': (nodes,)})
  matter = jnp.where(jnp.arange(nodes) < number, jnp.exp(normal['matter']), 0)
  weight = normal['weight'].at[0].multiply(matter[:, None])
  return graph._replace(weight=weight, skip=jnp.zeros_like(graph.skip))


def propagate(graph: Graph, causes: jax.Array, noise: jax.Array) -> jax.Array:
  """Returns the values of all nodes.

  Args:
    graph: the model.
    causes: [rows, nodes].
    noise: [layers, rows, nodes], of deviation 1.

  Returns:
    [layers + 1, rows, nodes], the causes first. The sum of each node is normalised over the rows.

  >>> run = lambda key: propagate(draw_graph(key, 3, 4), jnp.ones((5, 4)), jnp.zeros((3, 5, 4)))
  >>> jax.eval_shape(run, jax.random.key(0)).shape
  (4, 5, 4)
  """

  def layer(before: jax.Array, given: Any) -> tuple[jax.Array, jax.Array]:
    (weight, skip, bias, scale, activation, deviation), noise = given
    total = scale * standard(before @ weight + causes @ skip) + bias
    shape = jnp.broadcast_to(activation, total.shape)
    values = jax.lax.select_n(shape, *(act(total) for act in ACTIVATIONS)) + deviation * noise
    return values, values

  return jnp.concatenate([causes[None], jax.lax.scan(layer, causes, (graph, noise))[1]])


def standard(values: jax.Array) -> jax.Array:
  """Normalises over the first axis; what is constant becomes 0.

  >>> standard(jnp.array([[1.0, 5.0], [3.0, 5.0]])).tolist()
  [[-1.0, 0.0], [1.0, 0.0]]
  """
  away = values - values.mean(0)
  return away / jnp.maximum(jnp.sqrt(jnp.square(away).mean(0)), 1e-6)
