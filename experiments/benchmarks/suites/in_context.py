"""What in-context learners cost: a training step of each kind, and predictions from a cache.

PyTorch's transformer takes the same steps on the same tokens, in two layouts and float32, where it
is installed: losses and gradients are compared first.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks.packages import installed
from experiments.benchmarks.suite import AT_LEAST, FASTER, Aim, Suite
from experiments.benchmarks.timing import Case, compiled_case
from metakit.learners.in_context import LAYOUTS, flat, in_context, targets
from metakit.models import SequenceModel
from metakit.networks.recurrent import recurrent
from metakit.networks.transformer import PROJECTIONS, transformer
from metakit.types import Episode, Examples, MetaLearner

WAYS, HEADS = 10, 4
CLOSE = 2e-2  # share of the norm that predictions may differ by; bfloat16 has three digits
SLOPES_CLOSE = 1e-3  # the same of gradients in float32
PYTORCH = {'train, pairs': 'PyTorch, pairs', 'train, shifted': 'PyTorch, shifted'}


def cases(
  *, tasks: int, examples: int, features: int, width: int, depth: int, dtype: str | None
) -> list[Case]:
  """Returns the cases.

  Args:
    tasks: sequences of a training step.
    examples: number of examples in a sequence.
    features: size of x.
    width: width of the networks.
    depth: depth of the networks.
    dtype: type of the transformers' arithmetic.
  """
  episodes = _episodes(tasks, examples, features)
  network = partial(transformer, WAYS, width, depth, heads=HEADS, dtype=dtype)
  learners = {f'train, {layout}': in_context(network(), WAYS, layout) for layout in LAYOUTS}
  for attention in ('fused', 'linear', 'momentum'):
    learners[f'train, pairs, {attention}'] = in_context(network(attention=attention), WAYS)
  learners['train, pairs, scan and remat'] = in_context(network(scan=True, remat=True), WAYS)
  learners['train, pairs, lstm'] = in_context(recurrent(WAYS, width, depth), WAYS)
  cases = [_training(name, learner, episodes, dtype) for name, learner in learners.items()]
  if dtype in (None, 'float32') and installed('torch'):
    cases += _of_pytorch(
      {name: learners[name] for name in PYTORCH}, episodes, width=width, depth=depth
    )
  return cases + _predictions(network(), episodes, dtype)


def _episodes(tasks: int, examples: int, features: int) -> Episode:
  """Random episodes, the last example of each the query."""
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(tasks, examples, features)), jnp.float32)
  y = jnp.asarray(rng.integers(0, WAYS, (tasks, examples)), jnp.int32)
  return Episode(Examples(x[:, :-1], y[:, :-1]), Examples(x[:, -1:], y[:, -1:]), {})


def _training(name: str, learner: MetaLearner, episodes: Episode, dtype: str | None) -> Case:
  """A step of Adam on the mean loss of all episodes."""
  key, optimizer = jax.random.key(0), optax.adam(1e-3)
  params = learner.init(key, jax.tree.map(lambda leaf: leaf[0], episodes))

  def step(state: Any, episodes: Episode) -> Any:
    params, opt_state = state
    slope = jax.grad(partial(_loss, learner))(params, episodes)
    updates, opt_state = optimizer.update(slope, opt_state, params)
    return optax.apply_updates(params, updates), opt_state

  arguments = (params, optimizer.init(params)), episodes
  number = _tokens(name, episodes)
  return compiled_case(name, step, arguments, number=number, dtype=dtype or 'float32')


def _loss(learner: MetaLearner, params: Any, episodes: Episode) -> jax.Array:
  each = jax.vmap(lambda episode: learner.loss(jax.random.key(0), params, episode)[0])
  return each(episodes).mean()


def _tokens(name: str, episodes: Episode) -> int:
  """Returns the tokens of a training step."""
  tasks, support = episodes.support.y.shape
  stride = {'train, pairs': 2, 'train, interleaved': 2, 'train, shifted': 1}
  return tasks * (support + 1) * max(v for k, v in stride.items() if name.startswith(k))


def _of_pytorch(
  learners: Mapping[str, MetaLearner], episodes: Episode, *, width: int, depth: int
) -> list[Case]:
  """Returns the same steps by PyTorch's transformer."""
  from experiments.benchmarks.torch_transformer import Sequences, Sizes, steps_beside

  first, labels = jax.tree.map(lambda leaf: leaf[0], episodes), all_labels(episodes)
  params = {name: each.init(jax.random.key(0), first) for name, each in learners.items()}
  turned = {name: in_torch_layout(jax.device_get(each)) for name, each in params.items()}
  sequences = {
    name: Sequences(*sequences_of(name.removeprefix('train, '), episodes), labels)
    for name in learners
  }
  sizes = Sizes(width, depth, HEADS, 4 * width, WAYS)
  cases = []
  for name, (call, loss, slope) in steps_beside(sequences, turned, sizes).items():
    ours = jax.jit(jax.value_and_grad(partial(_loss, learners[name])))(params[name], episodes)
    known, expected = jax.device_get(ours)
    check_step(PYTORCH[name], (loss, slope), (float(known), in_torch_layout(expected)))
    number = _tokens(name, episodes)
    cases.append(Case(PYTORCH[name], call, number, baseline=name, peer=True))
  return cases


def all_labels(episodes: Episode) -> np.ndarray:
  """Returns the labels of support and query, [tasks, examples]."""
  return np.concatenate([np.asarray(part.y) for part in episodes[:2]], axis=1)


def sequences_of(layout: str, episodes: Episode) -> tuple[np.ndarray, np.ndarray | None, int]:
  """Returns tokens, what each does not see, and how many predict, see torch_transformer.Sequences.

  In the layout 'pairs' all examples are read first, and the questions follow them.
  """
  kind = LAYOUTS[layout]

  def tokens_of(episode: Episode) -> jax.Array:
    support, query, _ = episode
    y, x = targets(support, WAYS, None), flat(support.x)
    read, _ = kind.tokens(x, y, jnp.ones(len(x), bool), jnp.zeros(WAYS))
    asked = jnp.concatenate([x, flat(query.x)]) if kind.asks else flat(query.x)
    return jnp.concatenate([read, kind.question(asked, y[-1])])

  tokens, examples = np.asarray(jax.vmap(tokens_of)(episodes)), episodes.support.y.shape[1] + 1
  if not kind.asks:
    return tokens, None, examples
  return tokens, unseen(examples), examples


def unseen(examples: int) -> np.ndarray:
  """Returns what each token of 'pairs' does not see, [tokens, tokens] bool.

  >>> unseen(2).astype(int)  # one example, the question for it, and that of the query
  array([[0, 1, 1],
         [1, 0, 1],
         [0, 1, 0]])
  """
  place = np.concatenate([np.arange(examples - 1), np.arange(examples) - 0.5])
  is_read = np.arange(len(place)) < examples - 1
  return ~(is_read & (place <= place[:, None]) | np.eye(len(place), dtype=bool))


def in_torch_layout(params: Any) -> dict[str, np.ndarray]:
  """Returns the parameters of metakit's transformer, or their gradient, by PyTorch's names."""
  modules = params['params']

  def dense(name: str, layer: Any) -> dict[str, np.ndarray]:
    return {f'{name}.weight': layer['kernel'].T, f'{name}.bias': layer['bias']}

  def norm(name: str, layer: Any) -> dict[str, np.ndarray]:
    return {f'{name}.weight': layer['scale'], f'{name}.bias': layer['bias']}

  named = dense('embed', modules['Dense_0']) | dense('last', modules['Dense_1'])
  named |= norm('blocks.norm', modules['LayerNorm_0'])
  for number in range(sum(name.startswith('Block_') for name in modules)):
    block, at = modules[f'Block_{number}'], f'blocks.layers.{number}'
    projections = block[PROJECTIONS]
    width = projections['kernel'].shape[0]
    named[f'{at}.self_attn.in_proj_weight'] = projections['kernel'].reshape(width, -1).T
    named[f'{at}.self_attn.in_proj_bias'] = projections['bias'].ravel()
    named |= dense(f'{at}.self_attn.out_proj', block['Dense_0'])
    named |= dense(f'{at}.linear2', block['Dense_1']) | dense(f'{at}.linear1', block['Dense_2'])
    named |= norm(f'{at}.norm1', block['LayerNorm_0']) | norm(f'{at}.norm2', block['LayerNorm_1'])
  return {name: np.ascontiguousarray(leaf) for name, leaf in named.items()}


def check_step(name: str, actual: Any, expected: Any) -> None:
  """Raises an AssertionError unless losses and gradients (by names) differ by rounding alone."""
  (loss, slope), (known, other) = actual, expected
  if not abs(loss - known) < SLOPES_CLOSE * abs(known):
    raise AssertionError(f'{name}: the loss is {loss:.6g}, not {known:.6g}')
  one, two = (
    np.concatenate([np.ravel(each[key]) for key in sorted(other)]) for each in (slope, other)
  )
  apart = np.linalg.norm(one - two) / np.linalg.norm(two)
  if not apart < SLOPES_CLOSE:
    raise AssertionError(f'{name}: the gradient is another one, by {apart:.2g} of its norm')


def _predictions(model: SequenceModel, episodes: Episode, dtype: str | None) -> list[Case]:
  """One more prediction and one more example, from the cache and without it."""
  learner, key = in_context(model, WAYS), jax.random.key(0)
  params = learner.init(key, jax.tree.map(lambda leaf: leaf[0], episodes))
  support, queries = episodes.support, episodes.query.x
  adapt = jax.vmap(lambda s: learner.adapt(key, params, s))
  predict = jax.vmap(learner.predict)
  assert learner.extend is not None
  fitted, last = jax.jit(adapt)(support), jax.tree.map(lambda leaf: leaf[:, -1:], support)
  again = lambda support, queries: predict(adapt(support), queries)
  extend = jax.vmap(learner.extend)
  before = jax.tree.map(lambda leaf: leaf[:, :-1], support)
  expected = jax.jit(predict)(fitted, queries)
  check_same('a prediction from the cache', jax.jit(again)(support, queries), expected)
  extended = jax.jit(lambda support, last: extend(adapt(support), last))(before, last)
  check_same('an extended cache', jax.jit(predict)(extended, queries), expected)
  case = partial(compiled_case, number=len(queries), dtype=dtype or 'float32')
  cases = [
    case('predict, all read again', again, (support, queries)),
    case('predict, from the cache', predict, (fitted, queries)),
    case('one more example, all read again', adapt, (support,)),
    case('one more example, extend', extend, (fitted, last)),
  ]
  compared = {1: cases[0].name, 3: cases[2].name}
  return [case._replace(baseline=compared.get(i, '')) for i, case in enumerate(cases)]


def check_same(name: str, actual: jax.Array, expected: jax.Array) -> None:
  """Raises an AssertionError unless two predictions differ by rounding alone, or half precision."""
  one, other = (np.asarray(each, np.float64) for each in (actual, expected))
  apart = np.linalg.norm(one - other) / np.linalg.norm(other)
  if not apart < CLOSE:
    raise AssertionError(f'{name} is another one, by {apart:.2g} of its norm')


AIMS = tuple(Aim(name, FASTER, other, AT_LEAST, 1.5) for name, other in PYTORCH.items())
SUITES = {'in_context': Suite(cases, AIMS)}
