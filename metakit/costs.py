"""What a program costs: its operations, and what devices exchange."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax

# The primitives of metakit.networks.convolution. Each has three arrays: two operands (0 and 1) and
# the result (2). The pair says which of them are the kernel and the outputs of the layer.
CONVOLUTIONS = {
  'convolution': (1, 2),
  'convolution_to_input': (1, 0),
  'convolution_to_kernel': (2, 1),
}


COLLECTIVES = 'all-gather', 'all-reduce', 'all-to-all', 'collective-permute', 'reduce-scatter'


def product_flops(function: Callable[..., Any], *arguments: Any) -> int:
  """Returns the operations of a function's matrix products and convolutions.

  A multiply-add counts as two.

  The body of a scan counts as often as it runs, and that of shard_map once for each device. All
  branches of a condition count. The body of a loop of unknown length counts once. Products with
  padding count too. Operations inside a kernel of another language, such as the attention of cuDNN,
  do not count.

  Args:
    function: any that JAX can trace.
    *arguments: its arguments, or their shapes.

  >>> import jax.numpy as jnp
  >>> product_flops(jnp.dot, jnp.ones((2, 3)), jnp.ones((3, 5)))
  60
  """
  return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(jaxpr: Any) -> int:
  return sum(_own(equation) + _inside(equation) for equation in jaxpr.eqns)


def _inside(equation: Any) -> int:
  return _times(equation) * sum(map(_count, _jaxprs(equation.params)))


def _times(equation: Any) -> int:
  """Returns how often what is inside runs: each step of a scan, each device of a mesh."""
  if equation.primitive.name == 'shard_map':
    return equation.params['mesh'].size
  return equation.params['length'] if equation.primitive.name == 'scan' else 1


def _jaxprs(params: dict[str, Any]) -> Iterator[Any]:
  for value in params.values():
    for each in value if isinstance(value, tuple | list) else (value,):
      jaxpr = getattr(each, 'jaxpr', each)
      if hasattr(jaxpr, 'eqns'):
        yield jaxpr


def _own(equation: Any) -> int:
  name, params = equation.primitive.name, equation.params
  shapes = [v.aval.shape for v in (*equation.invars, *equation.outvars)]
  if name == 'dot_general':
    contracted = params['dimension_numbers'][0][0]
    return 2 * math.prod(shapes[-1]) * math.prod(shapes[0][axis] for axis in contracted)
  if name == 'conv_general_dilated':
    outputs = params['dimension_numbers'].rhs_spec[0]
    return 2 * math.prod(shapes[-1]) * math.prod(shapes[1]) // shapes[1][outputs]
  if name in CONVOLUTIONS:
    kernel, outputs = (shapes[place] for place in CONVOLUTIONS[name])
    return 2 * math.prod(outputs) * math.prod(kernel[-4:-1])
  return 0


def collectives(program: str) -> Counter[str]:
  """Counts what devices exchange in the text of a compiled program, by kind.

  >>> collectives('  %sum.3 = (f32[2]{0}, f32[]) all-reduce-start(%a, %b), channel_id=1')
  Counter({'all-reduce': 1})
  """
  return Counter(re.findall(rf'= .*?\b({"|".join(COLLECTIVES)})(?:-start)?\(', program))


class Resources(NamedTuple):
  """What some computing took.

  Attributes:
    flops: operations, by XLA's analysis of each program.
    peak_bytes: the most memory of a program at one time: arguments, results and temporaries.
    parameters: the most numbers that were learned side by side in one network.
  """

  flops: float = 0.0
  peak_bytes: int = 0
  parameters: int = 0


def together(*parts: Resources) -> Resources:
  """Returns what is taken by one after the other: operations add up, memory is the largest.

  >>> together(Resources(3.0, 10, 5), Resources(4.0, 7, 6))
  Resources(flops=7.0, peak_bytes=10, parameters=6)
  """
  flops, peak_bytes, parameters = zip(Resources(), *parts, strict=True)
  return Resources(sum(flops), max(peak_bytes), max(parameters))


def analysed_flops(function: Callable[..., Any], *arguments: Any) -> float:
  """Returns the operations of a function by XLA's analysis of its program, before it is optimised.

  Unlike `product_flops` it counts sums and element-wise functions too. But XLA counts the body of a
  loop once, however often it runs. So where that gives less than the products alone, the products
  are what is returned. Functions of other libraries (LAPACK) do not count at all.

  Args:
    function: any that JAX can trace.
    *arguments: its arguments, or their shapes.

  >>> import jax.numpy as jnp
  >>> analysed_flops(jnp.dot, jnp.ones((2, 3)), jnp.ones((3, 5)))
  60.0
  """
  analysed = (jax.jit(function).lower(*arguments).cost_analysis() or {}).get('flops', 0.0)
  return max(float(analysed), float(product_flops(function, *arguments)))


def measured(
  function: Callable[..., Any], flops: Callable[..., float] | None = None
) -> Callable[..., tuple[Any, Resources]]:
  """Returns a function that also says what each call takes. It compiles once for each shape.

  Args:
    function: any that JAX can compile.
    flops: (*arguments) -> its operations, for a function with a loop. By default `analysed_flops`.

  >>> import jax.numpy as jnp
  >>> result, resources = measured(jnp.dot)(jnp.ones((2, 3)), jnp.ones((3, 5)))
  >>> result.shape, resources.flops, resources.peak_bytes >= 4 * (6 + 15 + 10)
  ((2, 5), 60.0, True)
  """
  programs: dict[Any, tuple[Any, Resources]] = {}
  count = flops or (lambda *arguments: analysed_flops(function, *arguments))

  def call(*arguments: Any) -> tuple[Any, Resources]:
    leaves, structure = jax.tree.flatten(arguments)
    kind = structure, tuple(map(jax.typeof, leaves))
    if kind not in programs:
      compiled = jax.jit(function).lower(*arguments).compile()
      programs[kind] = compiled, Resources(count(*arguments), peak_bytes(compiled))
    compiled, resources = programs[kind]
    return compiled(*arguments), resources

  return call


def peak_bytes(compiled: Any) -> int:
  """Returns the memory of a compiled program: arguments, results and temporaries.

  >>> import jax.numpy as jnp
  >>> peak_bytes(jax.jit(jnp.negative).lower(jnp.ones(10)).compile()) >= 80
  True
  """
  memory = compiled.memory_analysis()
  if memory is None:  # this device does not say
    return 0
  whole = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
  return int(whole - memory.alias_size_in_bytes)
