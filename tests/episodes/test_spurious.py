"""Contexts that go with labels: how often, by a closed form, and what images look like in them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metakit.data.table import class_table
from metakit.episodes.cues import colour_cue, position_cue, texture_cue
from metakit.episodes.few_shot import few_shot
from metakit.episodes.spurious import context_table, spurious
from metakit.evaluation.correlation import correlation_gap
from metakit.types import Episode

WAYS, CONTEXTS, EPISODES = 3, 4, 400
PLAIN = class_table(np.arange(40.0, dtype=np.float32), np.arange(40) % 5)
TABLE = context_table(PLAIN, lambda number, x: x + 100 * number, CONTEXTS)
GAPS = jax.jit(jax.vmap(lambda episode: correlation_gap(episode, WAYS, CONTEXTS)))
SOURCE = few_shot(TABLE, WAYS, 2, queries=4)


@pytest.fixture(scope='module')
def drawn():
  """Episodes of the same keys, by strength."""
  keys = jax.random.split(jax.random.key(1), EPISODES)
  draws = {p: spurious(SOURCE, CONTEXTS, p) for p in (0.0, 0.6, 1.0)}
  together = jax.jit(jax.vmap(lambda key: {p: each(key) for p, each in draws.items()}))
  return jax.tree.map(np.asarray, together(keys))


def own_contexts(episodes):
  """Returns [episodes, ways] the context of each class, where all are tied."""
  return episodes.info['contexts'][0].reshape(EPISODES, WAYS, -1)[:, :, 0]


def test_contexts_are_as_frequent_as_the_closed_form_says(drawn):
  own = own_contexts(drawn[1.0])
  for p, episodes in drawn.items():
    shares = {'support': p + (1 - p) / WAYS, 'query': (1 - p) / WAYS}
    for (name, share), context in zip(shares.items(), episodes.info['contexts'], strict=True):
      labels = getattr(episodes, name).y
      found = context == np.take_along_axis(own, labels, axis=1)
      error = np.sqrt(share * (1 - share) / found.size)
      assert abs(found.mean() - share) <= 4 * error, (p, name)
      other = context == np.take_along_axis(own, (labels + 1) % WAYS, axis=1)
      assert abs(other.mean() - (1 - share) / (WAYS - 1)) < 4 * np.sqrt(0.25 / found.size)
      assert (context[..., None] == own[:, None]).any(-1).all()


def test_at_strength_one_a_class_has_one_context_and_its_queries_have_those_of_others(drawn):
  support, query = drawn[1.0].info['contexts']
  own = own_contexts(drawn[1.0])
  assert all(len(set(each)) == WAYS for each in own)
  assert set(own.ravel()) == set(range(CONTEXTS))
  np.testing.assert_array_equal(support, np.repeat(own, 2, axis=1))
  assert not (query == np.repeat(own, 4, axis=1)).any()


def test_rows_do_not_depend_on_the_strength_and_are_shown_in_their_context(drawn):
  plain = jax.jit(jax.vmap(SOURCE))(jax.random.split(jax.random.key(1), EPISODES))
  for episodes in drawn.values():
    for part, before, context in zip(
      episodes[:2], plain[:2], episodes.info['contexts'], strict=True
    ):
      np.testing.assert_array_equal(part.x, before.x + 100 * context)


@pytest.mark.parametrize('cue', [colour_cue, texture_cue, position_cue])
def test_each_context_looks_different_and_keeps_the_image(cue):
  image = jnp.zeros((28, 28, 1), jnp.uint8).at[8:20, 8:20].set(255)
  shown = np.asarray(jax.jit(jax.vmap(cue(5), in_axes=(0, None)))(jnp.arange(5), image))
  assert len({each.tobytes() for each in shown}) == 5
  assert (shown.max((1, 2, 3)) == 255).all()


def test_what_cannot_be_tied_is_refused():
  with pytest.raises(ValueError, match='context_table'):
    spurious(few_shot(PLAIN, WAYS, 2, queries=4), 3)
  with pytest.raises(ValueError, match='9 places'):
    position_cue(10)
  with pytest.raises(ValueError, match='ways'):
    spurious(few_shot(TABLE, 5, 2, queries=4), CONTEXTS)


@pytest.mark.parametrize('strength', [0.0, 0.6, 1.0])
def test_the_gap_is_that_of_nearest_means_written_out(drawn, strength):
  episodes = jax.tree.map(lambda leaf: leaf[:8], drawn[strength])
  noise = np.random.default_rng(0)
  seen = lambda part: part._replace(x=noise.normal(size=(*part.y.shape, 2)).astype(np.float32))
  episodes = Episode(seen(episodes.support), seen(episodes.query), episodes.info)
  for i, gap in enumerate(GAPS(episodes)):
    (x, y, _), (at, labels, _), info = jax.tree.map(lambda leaf: leaf[i], episodes)  # noqa: B023
    shares = []
    for given, true in ((info['contexts'][0], info['contexts'][1]), (y, labels)):
      means = {k: x[given == k].mean(0) for k in set(given)}
      nearest = [min(means, key=lambda k: np.square(z - means[k]).sum()) for z in at]
      known = np.isin(true, given)
      shares.append((np.array(nearest) == true)[known].mean())
    assert gap == pytest.approx(shares[0] - shares[1], abs=1e-6)


@pytest.mark.parametrize(('encoded', 'gap'), [('contexts', 1), ('classes', -1)])
def test_an_encoder_of_contexts_alone_has_the_gap_1_and_one_of_classes_alone_minus_1(
  drawn, encoded, gap
):
  episodes = jax.tree.map(lambda leaf: leaf[:8], drawn[1.0])
  labels = episodes.info['contexts'] if encoded == 'contexts' else [e.y for e in episodes[:2]]
  x = [np.eye(CONTEXTS, dtype=np.float32)[each] for each in labels]
  parts = (part._replace(x=z) for part, z in zip(episodes[:2], x, strict=True))
  np.testing.assert_array_equal(GAPS(Episode(*parts, episodes.info)), gap)
