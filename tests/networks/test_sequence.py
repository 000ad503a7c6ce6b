"""Laws of every sequence model. A new one joins by adding a row to MODELS."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metakit.networks.attention import Heads, momentum_attention
from metakit.networks.memories import memory_attention
from metakit.networks.recurrent import recurrent
from metakit.networks.transformer import transformer
from tests.learners.judged import compiled_fast

SIZES = {'width': 8, 'depth': 2, 'heads': 2}
ONE = SIZES | {'depth': 1}  # several layers are those of the others
MODELS = {
  'softmax': lambda: transformer(3, **ONE),
  'set': lambda: transformer(3, **ONE, attention='set'),
  'positions': lambda: transformer(3, **ONE, positions=12),
  'momentum': lambda: transformer(3, **ONE, attention='momentum', decay=0.5),
  'linear': lambda: transformer(3, **ONE, attention='linear', chunk=4),
  'gated_linear': lambda: transformer(3, **ONE, attention='gated_linear', chunk=4),
  'delta': lambda: transformer(3, **ONE, attention='delta', chunk=4),
  'diagonal_ssm': lambda: transformer(3, **ONE, attention='diagonal_ssm', chunk=4),
  'scan': lambda: transformer(3, **SIZES, scan=True),
  'lstm': lambda: recurrent(3, width=8, depth=2),
  'gru': lambda: recurrent(3, width=8, cell='gru'),
}
CAUSAL = [name for name in MODELS if name != 'set']
FIXED_STATE = ('linear', 'gated_linear', 'delta', 'diagonal_ssm', 'lstm', 'gru')

RNG = np.random.default_rng(0)
TOKENS, ASKED = RNG.normal(size=(6, 4)), RNG.normal(size=(3, 4))
SEEN, LATER = np.array([0, 4, 6]), np.array([0, 1, 2])
PRESENT = np.array([1, 1, 0, 1, 0, 1], bool)

# Positions are added to softmax attention, and the LSTM is a recurrence as the GRU is. A scan of
# layers is quick below, against the layers one by one.
SLOW = ('softmax', 'scan', 'gru')


def each_model(names):
  marks = lambda name: [pytest.mark.slow] if name in SLOW else []
  return pytest.mark.parametrize('name', [pytest.param(n, marks=marks(n)) for n in names])


every_model, causal_model = each_model(MODELS), each_model(CAUSAL)


@pytest.fixture(autouse=True)
def float64():
  with jax.enable_x64(True):
    yield


@cache
def made(name):
  """The model of a row, compiled, and random parameters; initial ones would hide faults."""
  model = MODELS[name]()
  return compiled_fast(model.apply), random_params(model)


def random_params(model, tokens=TOKENS, scale=0.7):
  """Of the shapes and types of initial ones, which would take a program to make."""
  rng, shapes = np.random.default_rng(1), jax.eval_shape(model.init, jax.random.key(0), tokens)
  random = lambda leaf: (scale * rng.normal(size=leaf.shape)).astype(leaf.dtype)
  return jax.tree.map(random, shapes)


def read(name, tokens=TOKENS, asked=ASKED, seen=SEEN, present=None, state=None):
  apply, params = made(name)
  present = np.ones(len(tokens), bool) if present is None else present
  return apply(params, tokens, asked, seen, present, state)


def assert_close(ours, theirs):
  assert jax.tree.structure(ours) == jax.tree.structure(theirs)
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-11)


@causal_model
def test_reading_can_stop_and_go_on(name):
  """Where it stops, a question has the same answer before and after."""
  whole, first = read(name), read(name, TOKENS[:4], seen=np.minimum(SEEN, 4))
  second = read(name, TOKENS[4:], seen=np.maximum(SEEN - 4, 0), state=first.state)
  assert_close(np.concatenate([first.outputs, second.outputs]), whole.outputs)
  assert_close(first.answers[SEEN <= 4], whole.answers[SEEN <= 4])
  assert_close(second.answers[SEEN >= 4], whole.answers[SEEN >= 4])
  assert_close(second.state, whole.state)


@causal_model
def test_a_question_is_answered_as_if_it_were_read_next(name):
  answers = read(name).answers
  for asked, seen, answer in zip(ASKED, SEEN, answers, strict=True):
    tokens = np.concatenate([TOKENS[:seen], asked[None], 0 * TOKENS[seen:]])  # of one length
    assert_close(read(name, tokens).outputs[seen], answer)


@every_model
def test_nobody_sees_a_question(name):
  other, plain = read(name, asked=np.vstack([ASKED[:1] + 1, ASKED[1:]])), read(name)
  unchanged = lambda r: (r.outputs, r.answers[1:], r.state)
  assert_close(unchanged(other), unchanged(plain))
  assert np.abs(other.answers[0] - plain.answers[0]).max() > 1e-3


@causal_model
def test_a_token_depends_on_those_before_it(name):
  """Which outputs and answers change, even in the last bits, with each of the tokens."""
  plain, changed = read(name), [read(name, TOKENS + 0.1 * row[:, None]) for row in np.eye(6)]
  outputs = [np.abs(each.outputs - plain.outputs).max(-1) > 0 for each in changed]
  answers = [np.abs(each.answers - plain.answers).max(-1) > 0 for each in changed]
  np.testing.assert_array_equal(outputs, np.triu(np.ones((6, 6), bool)))
  np.testing.assert_array_equal(answers, np.arange(6)[:, None] < SEEN)


@every_model
def test_padding_has_no_effect(name):
  """Its own outputs mean nothing; a question asked after it is asked after those there."""
  padded, kept = read(name, present=PRESENT), np.flatnonzero(PRESENT)
  seen = np.array([PRESENT[:n].sum() for n in SEEN])
  plain = read(name, TOKENS[PRESENT], ASKED, seen)
  assert_close(padded.outputs[kept], plain.outputs)
  assert_close(padded.answers, plain.answers)


@every_model
def test_padding_is_not_seen_later(name):
  padded, plain = read(name, present=PRESENT), read(name, TOKENS[PRESENT])
  later = lambda before: read(name, ASKED[:2], seen=LATER, state=before.state)[:2]
  assert_close(later(padded), later(plain))


@every_model
def test_the_state_of_some_models_does_not_grow(name):
  def size(count):
    apply, params = made(name)
    given = params, TOKENS[:count], ASKED, SEEN, np.ones(count, bool), None
    return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(apply, *given).state))

  assert (size(6) == size(2)) == (name in FIXED_STATE)


def test_a_set_has_no_order():
  order = RNG.permutation(6)
  shuffled, plain = read('set', TOKENS[order]), read('set')
  assert_close(shuffled.outputs, plain.outputs[order])
  assert_close(shuffled.answers[2], plain.answers[2])  # the one that sees all


@pytest.mark.parametrize('without', ['set', pytest.param('softmax', marks=pytest.mark.slow)])
def test_positions_matter(without):
  tokens = np.repeat(TOKENS[:1], 6, axis=0)
  apart = lambda name: np.abs(read(name, tokens).outputs[0] - read(name, tokens).outputs[5]).max()
  assert apart(without) < 1e-11 < 1e-2 < apart('positions')


def slopes(model, params):
  """A loss of all outputs and answers, and its gradient."""
  read = lambda p: model.apply({'params': p}, TOKENS, ASKED, SEEN)
  loss = lambda p: sum(jnp.sin(o).sum() for o in read(p)[:2])
  return compiled_fast(jax.value_and_grad(loss))(params)


@cache
def layer_by_layer():
  """The parameters of two layers, a loss and its gradient."""
  model = transformer(3, **SIZES)
  params = random_params(model)['params']
  return params, slopes(model, params)


@pytest.mark.parametrize('remat', [pytest.param(False, marks=pytest.mark.slow), True])
def test_scan_and_remat_change_no_value_or_gradient(remat):
  """The parameters of the scanned layers are those of the layers one by one, stacked."""
  scanned = transformer(3, **SIZES, scan=True, remat=remat)
  params, (loss, grads) = layer_by_layer()
  blocks = [params[f'Block_{i}'] for i in range(SIZES['depth'])]
  stacked = {k: v for k, v in params.items() if not k.startswith('Block')}
  (name,) = (
    jax.eval_shape(scanned.init, jax.random.key(0), TOKENS)['params'].keys() - stacked.keys()
  )
  stacked[name] = jax.tree.map(lambda *leaves: np.stack(leaves), *blocks)

  other, other_grads = slopes(scanned, stacked)
  assert_close(other, loss)
  blocks = [grads[f'Block_{i}'] for i in range(SIZES['depth'])]
  assert_close(other_grads[name], jax.tree.map(lambda *leaves: np.stack(leaves), *blocks))


@pytest.mark.slow  # of a transformer it is quick
@pytest.mark.parametrize('cell', ['lstm', 'gru'])
def test_remat_of_a_recurrent_network_saves_memory_and_changes_no_value_or_gradient(cell):
  tokens = np.tile(TOKENS, (50, 1))
  params = random_params(recurrent(3, width=8, cell=cell), tokens)

  def compiled(remat):
    model = recurrent(3, width=8, cell=cell, remat=remat)
    loss = lambda p: jnp.sin(model.apply(p, tokens, ASKED, SEEN).outputs).sum()
    return jax.jit(jax.value_and_grad(loss)).lower(params).compile()

  saving, plain = compiled(True), compiled(False)
  assert_close(saving(params), plain(params))
  temporaries = lambda program: program.memory_analysis().temp_size_in_bytes
  assert temporaries(saving) < 0.7 * temporaries(plain)


@pytest.mark.parametrize('cell', ['lstm', pytest.param('gru', marks=pytest.mark.slow)])
def test_half_precision_of_a_recurrent_network_is_of_its_products_alone(cell):
  with jax.enable_x64(False):
    whole, half = (recurrent(3, width=32, depth=2, cell=cell, dtype=d) for d in (None, 'bfloat16'))
    tokens, asked = TOKENS.astype('f'), ASKED.astype('f')
    params = random_params(half, tokens, 0.2)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype('f')}
    ours, theirs = (jax.jit(m.apply)(params, tokens, asked, SEEN) for m in (half, whole))
    assert ours.outputs.dtype == ours.answers.dtype == 'bfloat16'
    assert {leaf.dtype for leaf in jax.tree.leaves(ours.state)} == {np.dtype('f')}
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
      a, b = np.asarray(a, np.float32), np.asarray(b)
      assert 0 < np.abs(a - b).max() < 0.05 * np.abs(b).max()


@pytest.mark.parametrize('cell', ['lstm', pytest.param('gru', marks=pytest.mark.slow)])
def test_gates_near_1_let_go_as_slowly_in_half_precision(cell):
  """A gate of 0.9975 would be 1 in bfloat16: nothing of the state would fade in 200 tokens."""
  with jax.enable_x64(False):
    models = [recurrent(3, width=4, cell=cell, dtype=dtype) for dtype in (None, 'bfloat16')]
    tokens, none = np.zeros((200, 4), 'f'), np.zeros(0, int)
    params = random_params(models[0], tokens, 0)
    ((name, layer),) = ((n, c) for n, c in params['params'].items() if 'Cell' in n)
    gate = {'lstm': 'hf', 'gru': 'iz'}[cell]
    layer = {**layer, gate: {**layer[gate], 'bias': np.full(4, 6, 'f')}}
    params = {'params': {**params['params'], name: layer}}
    start = jax.eval_shape(models[0].apply, params, tokens, tokens[:0], none).state
    start = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), start)
    kept, ours = (
      jax.jit(model.apply)(params, tokens, tokens[:0], none, state=start).state for model in models
    )
    expected = (1 / (1 + np.exp(-6.0))) ** 200  # 0.61
    carried = lambda state: jax.tree.leaves(state)[0]
    np.testing.assert_allclose(carried(kept), expected, rtol=1e-3)
    np.testing.assert_allclose(carried(ours), expected, rtol=0.02)


def heads(count, rng):
  return Heads(*rng.normal(size=(3, count, 2, 5)))


@pytest.mark.parametrize(
  'options',
  [
    pytest.param({}, marks=pytest.mark.slow),
    pytest.param({'attention': 'fused'}, marks=pytest.mark.slow),
    {'scan': True, 'remat': True},
  ],
)
def test_half_precision_computes_in_it_and_keeps_parameters_whole(options):
  """Outputs are bfloat16, within its rounding of float32's; parameters stay float32."""
  with jax.enable_x64(False):
    make = lambda dtype: transformer(3, width=32, depth=2, heads=2, dtype=dtype, **options)
    whole, half = make(None), make('bfloat16')
    tokens, asked = TOKENS.astype('f'), ASKED.astype('f')
    params = random_params(half, tokens, 0.2)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype('f')}
    given = params, tokens, asked, SEEN, np.ones(6, bool), None
    ours, theirs = (jax.jit(model.apply)(*given) for model in (half, whole))
    assert ours.answers.dtype == ours.state[1].key.dtype == 'bfloat16'
    for a, b in ((ours.outputs, theirs.outputs), (ours.answers, theirs.answers)):
      a, b = np.asarray(a, np.float32), np.asarray(b)
      assert 0 < np.abs(a - b).max() < 0.05 * np.abs(b).max()


@pytest.mark.parametrize('attention', [pytest.param('momentum', marks=pytest.mark.slow), 'linear'])
def test_half_precision_loses_nothing_over_many_tokens(attention):
  """Token by token or at once, and as in float32, up to the rounding of single values."""
  rng, few = np.random.default_rng(0), np.zeros(0, int)
  whole = Heads(*(0.2 + rng.normal(size=(3, 600, 1, 4))).astype('f'))
  half = jax.tree.map(lambda part: jnp.asarray(part, jnp.bfloat16), whole)
  attend = momentum_attention(0.9) if attention == 'momentum' else memory_attention('linear')
  cut = lambda heads, *place: jax.tree.map(lambda part: part[slice(*place)], heads)
  read = jax.jit(
    lambda heads, state: attend(heads, cut(heads, 0), few, jnp.ones(len(heads[0]), bool), state)
  )
  with jax.enable_x64(False):
    exact, expected = read(whole, None)
    outputs, at_once = read(half, None)
    scale = np.abs(np.asarray(exact)).max()
    assert np.abs(np.asarray(outputs, np.float32) - exact).max() < 0.03 * scale
    state = read(cut(half, 300), None)[1]
    _, state = read(cut(half, 300, None), state)
    total = lambda state: np.asarray(getattr(state, 'average', state))
    assert total(state).dtype == np.float32
    for ours in (state, at_once):
      error = np.abs(total(ours) - total(expected)).max()
      assert error < 0.01 * np.abs(total(expected)).max()


def test_linear_attention_is_a_sum_of_outer_products():
  """Dai et al. 2023, eq. 7: F(q) = (W_zero_shot + sum_i v_i k_i^T) q, in each head."""
  rng = np.random.default_rng(2)
  support, asked = heads(6, rng), heads(3, rng)
  nothing = np.zeros(0, int), np.zeros(0, bool)
  empty = Heads(*np.zeros((3, 0, 2, 5)))
  attend = jax.jit(memory_attention('linear'))
  _, state = attend(support, empty, nothing[0], np.ones(6, bool), None)
  adapted, _ = attend(empty, asked, np.zeros(3, int), nothing[1], state)
  zero_shot, _ = attend(empty, asked, np.zeros(3, int), nothing[1], None)
  update = sum(np.einsum('hg,hf->hfg', support.value[i], support.key[i]) for i in range(6))
  gained = np.einsum('hfg,nhf->nhg', update, asked.query) / 5
  np.testing.assert_allclose(adapted, zero_shot + gained, atol=1e-6)


def test_momentum_is_the_decayed_sum_of_earlier_values():
  """Dai et al. 2023, section 5: sum_{i < t} decay^(t - i) v_i."""
  rng, decay = np.random.default_rng(3), 0.5
  support, asked = heads(6, rng), heads(1, rng)
  given = support, asked, np.array([6]), np.ones(6, bool), None
  read = lambda: [momentum_attention(each)(*given)[0] for each in (decay, 0.0)]
  gained = np.subtract(*jax.device_get(jax.jit(read)()))
  for t in range(7):
    expected = sum(decay ** (t - i) * support.value[i] for i in range(t))
    np.testing.assert_allclose(gained[t], expected + np.zeros((2, 5)), atol=1e-12)


@pytest.mark.parametrize(
  ('make', 'named'),
  [
    (lambda: transformer(2, attention='sparse'), "attention='sparse' is unknown"),
    (lambda: transformer(2, attention='momentum', decay=1.0), 'decay=1.0'),
    (lambda: transformer(2, positions=-1), 'positions=-1'),
    (lambda: transformer(2, dtype='bfloat32'), "dtype='bfloat32' is no floating-point type"),
    (lambda: transformer(2, dtype='int32'), "dtype='int32' is no floating-point type"),
    (lambda: recurrent(2, cell='rnn'), "cell='rnn' is unknown"),
    (lambda: recurrent(2, width=0), 'width=0'),
    (lambda: recurrent(2, dtype='int32'), "dtype='int32' is no floating-point type"),
  ],
)
def test_what_makes_no_sense_is_refused(make, named):
  with pytest.raises(ValueError, match=named):
    make()


def test_a_sequence_longer_than_the_positions_is_refused():
  model = transformer(2, **SIZES, positions=5)
  with pytest.raises(ValueError, match=r'6 tokens .* positions=5'):
    jax.eval_shape(model.init, jax.random.key(0), TOKENS)
