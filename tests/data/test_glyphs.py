"""Procedural characters are functions of keys alone, and look like characters."""

import functools
import sys
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metakit.data.glyph_drawing import MAX_STROKES, draw
from metakit.data.glyphs import alphabet, glyph_class, glyph_sampler, glyphs
from metakit.keys import roots

# The middle of the first drawing of the second character of the training split of seed 0.
GOLDEN = """
 17   4 123 200  17   0   0  16 222 109
 23  24 213 108   3   0   0  16 209  96
 18  77 229  36   0   0   0  21 219  83
 15 142 175  10   0   0   0  26 227  70
 14 181 130   4   0   0   0  29 230  65
 12 182 129   3   0   0   0  28 229  66
  7 146 171   9   0   0   0  26 227  70
  5  81 227  34   0   0   0  26 226  70
  7  26 214 111   4   0   0  31 230  63
 15   4 114 213  26   0   0  43 235  48
"""


@pytest.fixture(scope='module')
def table():
  return glyphs('train', alphabets=10, characters=10, drawings=6)


def _difference(a, b):
  return np.abs(np.asarray(a, int) - np.asarray(b, int))


def test_a_table_has_the_shapes_types_and_names_of_its_arguments(table):
  assert table.x.shape == (600, 28, 28, 1) and table.x.dtype == np.uint8
  np.testing.assert_array_equal(table.counts, np.full(100, 6))
  np.testing.assert_array_equal(table.starts, np.arange(0, 600, 6))
  np.testing.assert_array_equal(table.groups, np.repeat(np.arange(10), 10))
  assert table.names[0] == 'alphabet000/character00'
  assert table.names[39] == 'alphabet003/character09'
  assert table.group_names[::9] == ('alphabet000', 'alphabet009')


def test_the_same_arguments_give_the_same_bytes(table):
  again = glyphs('train', alphabets=3, characters=10, drawings=6)
  assert again.x.tobytes() == table.x[:180].tobytes()


def test_a_large_table_is_drawn_once(table, cache, monkeypatch):
  module = sys.modules['metakit.data.glyphs']
  monkeypatch.setattr(module, 'KEPT_PIXELS', 1)
  make = partial(glyphs, 'train', alphabets=2, characters=10, drawings=6)
  assert make().x.tobytes() == table.x[:120].tobytes()

  def draw_again(*args, **options):
    raise AssertionError('drawn again')

  with monkeypatch.context() as patched:
    patched.setattr(module, '_draw_alphabet', draw_again)
    again = make()
    assert again.x.tobytes() == table.x[:120].tobytes() and type(again.x) is np.ndarray
    assert again.names == table.names[:20] and again.group_names == table.group_names[:2]
    for other in ({'seed': 1}, {'rotations': True}, {'alphabets': 1}):
      with pytest.raises(AssertionError, match='drawn again'):
        make(**other)
    patched.setenv('XLA_FLAGS', '--another')
    with pytest.raises(AssertionError, match='drawn again'):
      make()
  (kept,) = (cache / 'metakit' / 'data').glob('glyphs-train-*/x.npy')
  kept.write_bytes(kept.read_bytes()[:-1])
  assert make().x.tobytes() == table.x[:120].tobytes()
  monkeypatch.setenv('XDG_CACHE_HOME', str(kept))  # a file, below which nothing can be written
  assert make().x.tobytes() == table.x[:120].tobytes()


def test_neither_float64_nor_another_generator_changes_a_character(table):
  with jax.enable_x64(True), jax.default_prng_impl('rbg'):
    again = glyphs('train', alphabets=3, characters=10, drawings=6)
  assert again.x.tobytes() == table.x[:180].tobytes()


def test_pixels_are_the_golden_ones_within_one_gray_level(table):
  assert _difference(table.x[6, 9:19, 9:19, 0].ravel(), GOLDEN.split()).max() <= 1


@pytest.mark.slow  # tables of fewer alphabets are quick, above
def test_numbers_and_size_change_neither_the_characters_nor_the_drawings(table):
  large = glyphs('train', alphabets=2, characters=3, drawings=2, size=56).x.reshape(2, 3, 2, 56, 56)
  coarse = large.reshape(12, 28, 2, 28, 2).mean((2, 4)).reshape(12, -1)
  small = table.x.reshape(10, 10, 6, -1)[:2, :3, :2].reshape(12, -1)
  assert min(np.corrcoef(pair)[0, 1] for pair in zip(coarse, small, strict=True)) > 0.9


@pytest.mark.parametrize(
  'other',
  [
    {'split': 'test'},
    pytest.param({'split': 'validation'}, marks=pytest.mark.slow),
    pytest.param({'seed': 1}, marks=pytest.mark.slow),
  ],
)
def test_splits_and_seeds_share_no_drawing_and_no_character(table, other):
  x = glyphs(**{'alphabets': 5, 'characters': 10, 'drawings': 6, **other}).x
  assert not {row.tobytes() for row in x} & {row.tobytes() for row in table.x}
  means = lambda x: x.reshape(50, 6, -1).mean(1) / 255
  distance = ((means(table.x[:300])[:, None] - means(x)) ** 2).sum(-1)  # [class, class]
  # Characters of the same number are as different as any two.
  assert np.median(np.diag(distance)) > 0.8 * np.median(distance)


def test_no_character_and_no_drawing_occurs_twice(table):
  assert len({row.tobytes() for row in table.x}) == len(table.x)


def test_every_drawing_has_ink_within_a_character_of_omniglot(table):
  ink = table.x.mean((1, 2, 3)) / 255
  assert ink.min() > 0.01 and ink.max() < 0.25
  assert 0.06 < ink.mean() < 0.085  # Omniglot's background set: 0.078
  assert table.x.max((1, 2, 3)).min() > 128


def test_no_ink_is_lost_at_the_edge(table):
  edge = table.x.astype(int)
  edge[:, 1:-1, 1:-1] = 0
  assert edge.max() < 200 and edge.sum() < 0.005 * table.x.sum()


def test_drawings_of_a_character_are_nearer_to_each_other_than_to_other_characters(table):
  x = table.x.reshape(100, 6, -1) / 255.0
  flat = x.reshape(600, -1)
  square = (flat**2).sum(1)
  distance = (square[:, None] + square - 2 * flat @ flat.T).reshape(100, 6, 100, 6).mean((1, 3))
  same = np.diag(distance) * 36 / 30  # a drawing is at distance 0 from itself
  other = (distance.sum(1) - np.diag(distance)) / 99
  assert (same < other).mean() > 0.8  # Omniglot's background set: 0.88
  assert 0.7 * other.mean() < same.mean() < 0.9 * other.mean()  # ... and 0.83


def test_pixels_alone_tell_characters_apart_about_as_often_as_on_omniglot(table):
  x = table.x.reshape(100, 6, -1) / 255.0
  generator, right = np.random.default_rng(0), []
  for _ in range(600):
    ways = generator.choice(100, 5, replace=False)
    support, query = x[ways, generator.integers(3)], x[ways, 3 + generator.integers(3)]
    nearest = ((query[:, None] - support) ** 2).sum(-1).argmin(1)
    right.append(np.mean(nearest == np.arange(5)))
  assert 0.42 < np.mean(right) < 0.58  # Omniglot's background set: 0.47


def test_rotations_are_three_more_classes_turned_counterclockwise(table):
  turned = glyphs('train', alphabets=2, characters=10, drawings=6, rotations=True)
  assert turned.x.shape == (480, 28, 28, 1)
  assert turned.names[6] == 'alphabet000/character01/rot180'
  np.testing.assert_array_equal(turned.groups, np.repeat([0, 1], 40))
  x = turned.x.reshape(20, 4, 6, 28, 28, 1)
  for turn in range(4):
    expected = np.rot90(table.x[:120], turn, axes=(1, 2)).reshape(20, 6, 28, 28, 1)
    np.testing.assert_array_equal(x[:, turn], expected)


def _made(reuse):
  """100 alphabets, with `reuse` in place of their own, and a character of each."""
  return jax.device_get(_of_key(jax.random.split(jax.random.key(0), 100), np.float32(reuse)))


@jax.jit
@partial(jax.vmap, in_axes=(0, None))
def _of_key(key, reuse):
  style = alphabet(jax.random.fold_in(key, 1))._replace(reuse=reuse, slant=jnp.float32(0))
  return style, glyph_class(jax.random.fold_in(key, 2), style)


@pytest.mark.slow
def test_characters_have_one_to_the_most_strokes_and_lie_in_the_image():
  _, made = _made(0.3)
  chex.assert_tree_all_finite(made)
  counts = np.asarray(made.present).sum(1)
  assert made.present[:, 0].all() and counts.min() == 1 and counts.max() <= MAX_STROKES
  assert 1.5 < counts.mean() < 3.5  # Omniglot: 2.1 in the mean of five alphabets
  present = np.asarray(made.points)[np.asarray(made.present)]
  assert np.abs(present).max() < 0.5


def _form(strokes):
  """What scaling and moving leave of strokes: each axis, normalised."""
  centred = np.asarray(strokes) - np.mean(strokes, -2, keepdims=True)
  return centred / np.maximum(np.linalg.norm(centred, axis=-2, keepdims=True), 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(('reuse', 'shared'), [(0.0, 0.0), (1.0, 1.0)])
def test_characters_take_strokes_from_their_alphabet(reuse, shared):
  style, made = _made(reuse)
  first, vocabulary = _form(made.points[:, 0]), _form(style.vocabulary)
  error = np.abs(first[:, None] - vocabulary).max((2, 3)).min(1)
  assert (error < 1e-3).mean() == pytest.approx(shared, abs=0.2)  # plain lines have one form


@pytest.fixture(scope='module')
def character():
  """The key and the strokes of the second character of the first alphabet."""
  root = jax.random.fold_in(jax.random.fold_in(roots(0).data, 0), 0)
  key = jax.random.fold_in(root, 1 + 1)
  return key, glyph_class(jax.random.fold_in(key, 0), alphabet(jax.random.fold_in(root, 0)))


@pytest.mark.slow  # golden pixels are quick
def test_vmap_in_a_table_equals_a_loop_over_folded_keys(table, character):
  key, glyph = character
  alone = [draw(jax.random.fold_in(key, 1 + number), glyph) for number in range(6)]
  assert _difference(table.x[6:12], alone).max() <= 1


@pytest.mark.slow
def test_drawing_without_jit_is_the_same(character):
  key, glyph = character
  with jax.disable_jit():
    plain = draw(key, glyph)
  assert _difference(plain, draw(key, glyph)).max() <= 1


@pytest.mark.slow
def test_characters_without_jit_are_the_same():
  key = jax.random.key(8)
  with jax.disable_jit():
    plain = glyph_class(key)
  chex.assert_trees_all_close(plain, glyph_class(key), atol=1e-5)


@pytest.fixture(scope='module')
def episodes():
  """A function from a seed to 12 episodes."""
  sampler = jax.jit(jax.vmap(glyph_sampler(ways=3, shots=2, queries=4)))
  make = lambda seed: jax.device_get(sampler(jax.random.split(jax.random.key(seed), 12)))
  return functools.cache(make)


def test_the_sampler_makes_episodes_sorted_by_label(episodes):
  episode = jax.tree.map(lambda a: a[0], episodes(0))
  chex.assert_shape(episode.support.x, (6, 28, 28, 1))
  chex.assert_shape(episode.query.x, (12, 28, 28, 1))
  assert episode.support.x.dtype == jnp.uint8 and episode.query.y.dtype == jnp.int32
  assert episode.support.y.tolist() == [0, 0, 1, 1, 2, 2]
  assert episode.query.y.tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_the_sampler_is_a_function_of_the_key_and_every_drawing_is_new(episodes):
  first, again, other = episodes(0), episodes.__wrapped__(0), episodes(1)
  chex.assert_trees_all_equal(first, again)
  x = [np.asarray(x) for e in (first, other) for x in (e.support.x, e.query.x)]
  rows = [row.tobytes() for part in x for row in part.reshape(-1, 784)]
  assert len(set(rows)) == len(rows) == 432


def test_float64_changes_no_image_of_the_sampler():
  sampler = glyph_sampler(ways=2, shots=1, queries=1)
  with jax.enable_x64(True):
    program = jax.make_jaxpr(jax.vmap(sampler))(jax.random.split(jax.random.key(0), 2))
  assert 'f32' in str(program) and 'f64' not in str(program)


def test_labels_of_the_sampler_belong_to_their_drawings(episodes):
  episode = episodes(2)
  support = np.asarray(episode.support.x, float).reshape(12, 3, 2, -1).mean(2)
  query = np.asarray(episode.query.x, float).reshape(12, 12, -1)
  nearest = ((query[:, :, None] - support[:, None]) ** 2).sum(-1).argmin(-1)
  assert (nearest == np.asarray(episode.query.y)).mean() > 0.55  # 0.33 by chance


@pytest.mark.parametrize('name', ['alphabets', 'characters', 'drawings', 'size'])
def test_a_size_that_is_not_positive_is_refused(name):
  with pytest.raises(ValueError, match=f'{name}=0 is not positive; use {name}>=1'):
    glyphs(**{name: 0})


@pytest.mark.parametrize('name', ['ways', 'shots', 'queries', 'size'])
def test_the_sampler_refuses_a_size_that_is_not_positive(name):
  with pytest.raises(ValueError, match=f'{name}=-1 is not positive; use {name}>=1'):
    glyph_sampler(**{name: -1})


def test_an_unknown_split_is_refused_with_the_known_ones():
  with pytest.raises(
    ValueError, match="split='dev' is unknown; use one of train, validation, test"
  ):
    glyphs('dev')
