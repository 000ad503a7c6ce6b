"""Neural processes: divergences by SciPy, attention and set convolutions by loops, translations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from metakit.learners.anp import anp, attend
from metakit.learners.convcnp import Line, convcnp, on_line, on_pixels
from metakit.learners.latent_parts import Latent, divergence, draw, latent_of
from metakit.learners.np import np as neural_process
from metakit.learners.tnp import tnp
from metakit.objectives import density
from metakit.types import Episode, Examples
from tests.learners.judged import compiled_fast

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, (4, 1)).astype(np.float32)
Y = np.sin(3 * X)
ASKED = RNG.uniform(-1, 1, (3, 1)).astype(np.float32)
CONVOLUTION = {'width': 4, 'levels': 1, 'size': 3, 'points_per_unit': 4.0, 'reach': 2.0}


def answers(learner, x=X, y=Y, asked=ASKED, weight=None, shifts=(0.0,)):
  """Predictions of a learner with fixed random parameters, of inputs that are all moved."""
  support = Examples(x, y, weight)

  @compiled_fast
  def run(shifts, asked):
    params = learner.init(KEY, Episode(support, support))
    moved = lambda shift: learner.adapt(KEY, params, support._replace(x=x + shift))
    return [learner.predict(moved(shift), asked + shift) for shift in shifts]

  return jax.device_get(run([np.float32(shift) for shift in shifts], asked))


def test_the_divergence_of_the_lower_bound_is_that_of_scipy():
  (mean, deviation), (prior, spread) = ([0.3, -1.0], [0.2, 0.9]), ([0.0, 0.5], [1.0, 0.4])
  total = 0.0
  for here in range(2):
    q, p = stats.norm(mean[here], deviation[here]), stats.norm(prior[here], spread[here])
    ratio = lambda z, q=q, p=p: q.pdf(z) * (q.logpdf(z) - p.logpdf(z))
    total += integrate.quad(ratio, mean[here] - 9, mean[here] + 9, points=[mean[here]])[0]
  found = divergence(
    *(Latent(jnp.array(m), jnp.array(d)) for m, d in ((mean, deviation), (prior, spread)))
  )
  assert float(found) == pytest.approx(total, rel=1e-5)


def test_the_loss_is_the_fit_and_the_divergence_per_number():
  """-ELBO of one draw of z, computed apart; a query of weight 0 is no target."""
  learner = neural_process(1, 8, 1, latents=3, decoder_depth=1)
  weight = np.array([1, 1, 0], np.float32)
  episode = Episode(Examples(X, Y), Examples(ASKED, np.cos(ASKED), weight))
  params = jax.device_get(jax.jit(learner.init)(KEY, episode))
  loss, metrics = jax.jit(learner.loss)(KEY, params, episode)
  run = lambda part, x: np.maximum(x @ part['Dense_0']['kernel'] + part['Dense_0']['bias'], 0)
  last = lambda part, x: x @ part['Dense_1']['kernel'] + part['Dense_1']['bias']
  parts = {name: each['params'] for name, each in params.items()}
  x, y = np.concatenate([X, ASKED[:2]]), np.concatenate([Y, np.cos(ASKED[:2])])

  def believe(count):
    pair = np.concatenate([x, y], 1)[:count]
    mean = last(parts['encoder'], run(parts['encoder'], pair)).mean(0)
    return jax.jit(latent_of)(last(parts['summary'], run(parts['summary'], mean)))

  z = jax.jit(draw, static_argnums=2)(KEY, believe(6), 1)[0]
  wide = np.concatenate([ASKED[:2], np.tile(z, (2, 1))], 1)
  mean, raw = last(parts['decoder'], run(parts['decoder'], wide)).T
  deviation = 1e-3 + np.log1p(np.exp(raw))
  fit = -stats.norm(mean, deviation).logpdf(np.cos(ASKED[:2, 0])).mean()
  nats = float(jax.jit(divergence)(believe(6), believe(4))) / 2
  assert float(metrics['divergence']) == pytest.approx(nats, rel=1e-4)
  assert float(loss) == pytest.approx(fit + nats, rel=1e-4)


def test_attention_is_a_mean_by_the_softmax_of_each_head():
  query, key, value = (RNG.normal(size=(n, 4)).astype(np.float32) for n in (2, 3, 3))
  weight = np.array([2, 0, 1], np.float32)
  found = jax.jit(lambda *parts: attend(*parts, weight=weight, heads=2))(query, key, value)
  for head in (slice(2), slice(2, 4)):
    for q, row in zip(query, np.asarray(found), strict=True):
      likely = weight * np.exp(key[:, head] @ q[head] / 2**0.5)
      np.testing.assert_allclose(row[head], likely / likely.sum() @ value[:, head], atol=1e-6)


def test_a_set_convolution_is_its_sum():
  at, weight = np.linspace(-1, 1, 5, dtype=np.float32), np.array([1, 0, 0.5, 1], np.float32)
  found = jax.jit(lambda *parts: on_line(*parts, weight=weight, length=0.3))(at, X[:, 0], Y)
  for place, row in zip(at, np.asarray(found), strict=True):
    bells = weight * np.exp(-((place - X[:, 0]) ** 2) / (2 * 0.3**2))
    np.testing.assert_allclose(row, [bells.sum(), bells @ Y[:, 0] / bells.sum()], atol=1e-4)


def test_predictions_move_with_the_inputs_by_steps_of_the_grid():
  """To rounding by whole steps; a third of a step moves the examples between its points."""
  same, by_one, by_many, between = answers(
    convcnp(1, **CONVOLUTION), shifts=(0.0, 0.25, -7.5, 1 / 12)
  )
  for moved in (by_one, by_many):
    np.testing.assert_allclose(moved, same, atol=1e-5)
  assert np.abs(between - same).max() > 1e-5


def test_queries_beyond_the_grid_are_predicted_as_far_from_all_data():
  far = np.array([[40.0], [-40.0]], np.float32)
  (found,) = answers(convcnp(1, **CONVOLUTION), asked=far)
  np.testing.assert_array_equal(found[0], found[1])


def test_pixels_lie_where_their_coordinates_say_and_answers_come_from_there():
  row, column = np.meshgrid(np.linspace(-1, 1, 4), np.linspace(-1, 1, 4), indexing='ij')
  x = np.stack([row.ravel(), column.ravel()], 1).astype(np.float32)
  y = RNG.random((16, 1)).astype(np.float32)
  weight = (RNG.random(16) > 0.4).astype(np.float32)  # not the same if rows become columns
  grid = np.asarray(jax.jit(on_pixels, static_argnames='pixels')(x, y, weight, pixels=4))
  there = weight.reshape(4, 4)
  np.testing.assert_allclose(grid[..., 0], there)
  np.testing.assert_allclose(grid[..., 1], there * y.reshape(4, 4), rtol=1e-6)
  learner = convcnp(1, 4, 1, size=3, pixels=4)
  (found,) = answers(learner, x, y, np.concatenate([x, x[[3, 11]]]), weight)
  whole, some = found[:16], found[16:]
  np.testing.assert_allclose(some, whole[[3, 11]], atol=1e-6)
  assert len(np.unique(whole.round(6), axis=0)) > 8


SMALL = {
  'np': neural_process(1, 8, 1, latents=3, decoder_depth=1, samples=2),
  'anp': anp(1, 8, 1, heads=2, latents=3, decoder_depth=1, samples=2),
  'convcnp': convcnp(1, **CONVOLUTION),
  'tnp': tnp(1, 8, 1, heads=2, hidden=8, embedding_depth=1),
}


@pytest.mark.parametrize('name', SMALL)
def test_no_context_is_a_prediction_too(name):
  """All weights 0, whatever else the examples hold; and no examples at all."""
  learner, support = SMALL[name], Examples(X, np.full_like(Y, np.nan), np.zeros(4, np.float32))

  @compiled_fast
  def run(x):
    params = learner.init(KEY, Episode(support, support))
    nothing = jax.tree.map(lambda leaf: leaf[:0], support)
    return [learner.predict(learner.adapt(KEY, params, of), x) for of in (support, nothing)]

  absent, none = run(ASKED)
  assert np.isfinite(absent).all()
  np.testing.assert_allclose(absent, none, atol=1e-6)


def test_grids_hold_enough_points_for_their_network():
  grid = Line(points_per_unit=10.0, reach=1.0, levels=3)
  at = np.asarray(jax.jit(grid.at)(np.array([0.31], np.float32), np.ones(1, np.float32)))
  assert grid.points % 8 == 0 and at[0] <= 0.3 - 1 and at[-1] >= 0.3 + 1 - 1e-6


MISTAKES = {
  'heads=3 does not divide': lambda: anp(1, heads=3),
  'latents=-1': lambda: anp(1, latents=-1),
  'samples=0': lambda: neural_process(1, samples=0),
  'pixels=28 must be a multiple': lambda: convcnp(1, levels=3, pixels=28),
  'inputs of 1 numbers, not 2': lambda: answers(convcnp(1), np.ones((4, 2), np.float32)),
  'the objective cannot make one prediction of several': lambda: anp(
    1, objective=density(lambda outputs, y: y, 3, point=abs, divergence=max)
  ),
}


@pytest.mark.parametrize('said', MISTAKES)
def test_mistakes_are_named(said):
  with pytest.raises(ValueError, match=said):
    MISTAKES[said]()
