"""Episodes of one domain: its rows, its labels, and how its images look."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metakit.data.table import class_table
from metakit.episodes.image_transforms import warp_by
from metakit.episodes.made_domains import made_domains, paint_images, turn_images
from metakit.episodes.one_domain import check_several, domain_episodes, labels_of_names, one_domain
from tests.episodes.test_chance import SMALLEST_P, follows
from tests.episodes.test_few_shot import many

# Five classes of three domains, whose names do not stand in order.
COUNTS = np.array([5, 9, 7, 6, 8])
OF = np.repeat(np.arange(5), COUNTS)
NAMES = ('b/owl', 'b/cow', 'a/owl', 'a/cow', 'c/owl')
DOMAIN, LABEL = np.array([1, 1, 0, 0, 2]), np.array([1, 0, 1, 0, 1])
TABLE = class_table(np.arange(35), OF, NAMES, groups=DOMAIN, group_names='abc')
EPISODES = 4000


@pytest.fixture(scope='module')
def episodes():
  return many(domain_episodes(TABLE, LABEL, support=3, queries=4).plan, EPISODES)


def test_all_rows_are_of_the_domain_that_is_named(episodes):
  number = episodes.info['domain'].argmax(1)
  assert (episodes.info['domain'].sum(1) == 1).all()
  for part in episodes[:2]:
    assert (DOMAIN[OF[part.x]] == number[:, None]).all()


def test_queries_have_their_labels_and_the_support_has_none(episodes):
  assert (episodes.query.y == LABEL[OF[episodes.query.x]]).all()
  assert (episodes.support.y == -1).all() and (episodes.support.weight == 1).all()


def test_no_row_twice(episodes):
  rows = np.concatenate([episodes.support.x, episodes.query.x], axis=1)
  assert (np.diff(np.sort(rows, axis=1), axis=1) > 0).all()


def test_domains_and_their_rows_are_equally_likely(episodes):
  sizes = np.bincount(DOMAIN, weights=COUNTS)
  for rows in (episodes.support.x[:, 0], episodes.query.x[:, 3]):
    assert follows(rows, (1 / 3 / sizes)[DOMAIN[OF]]) > SMALLEST_P


def test_mixed_episodes_are_of_all_rows_and_name_no_domain():
  source = domain_episodes(TABLE, LABEL, support=3, queries=4, mixed=True, labelled=True)
  episodes = many(source.plan, EPISODES)
  assert episodes.info == {}
  assert (episodes.support.y == LABEL[OF[episodes.support.x]]).all()
  assert follows(episodes.query.x[:, 1], np.full(35, 1 / 35)) > SMALLEST_P


def test_a_class_without_a_label_is_never_drawn():
  source = domain_episodes(TABLE, np.array([1, -1, 1, 0, 1]), support=1, queries=3)
  assert set(OF[many(source.plan, 500).query.x].ravel()) == {0, 2, 3, 4}


def test_errors_name_the_domain_and_what_it_lacks():
  with pytest.raises(ValueError, match="domain 'c' has no class 'cow'"):
    labels_of_names(TABLE, 2)
  with pytest.raises(ValueError, match=r"support\+queries=9 exceeds the 8 examples of domain 'c'"):
    domain_episodes(TABLE, LABEL, support=4, queries=5)
  with pytest.raises(ValueError, match='ways=3 exceeds the 2 labels'):
    one_domain(TABLE, ways=3)
  with pytest.raises(ValueError, match="one domain, 'x'"):
    check_several(class_table(np.arange(4), [0, 0, 1, 1], group_names=['x']))


def test_quarter_turns_are_those_of_numpy():
  image = np.random.default_rng(0).integers(0, 256, (7, 7, 1), np.uint8)
  turned = jax.jit(jax.vmap(turn_images([0, 90, 180, 270]), (0, None)))(jnp.arange(4), image)
  for quarters in range(4):
    np.testing.assert_array_equal(turned[quarters], np.rot90(image, quarters))


def test_an_image_is_interpolated_between_its_neighbours():
  image = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
  moved = jax.jit(warp_by)(image, shift=(0, 0.25))
  expected = 0.75 * image + 0.25 * np.pad(image, ((0, 0), (1, 0)))[:, :-1]
  np.testing.assert_allclose(moved, expected, atol=1e-6)


def test_each_domain_changes_its_images_in_its_way():
  images = np.random.default_rng(0).integers(0, 256, (8, 2, 2, 1), np.uint8)
  table = class_table(images, np.arange(8) % 2)
  paper, ink = [[0, 0, 0], [1, 0, 0.5]], [[1, 1, 1], [0, 1, 0.5]]
  source = made_domains(
    lambda table: one_domain(table, 2, 1, queries=1, mixed=True),
    table,
    paint_images(paper, ink),
    names='ab',
  )
  episode = jax.jit(source)(jax.random.key(3))
  numbers = np.concatenate(episode.info['changes'])
  assert set(numbers) == {0, 1}
  planned = source.plan(jax.random.key(3))
  rows = np.concatenate([planned.support.x, planned.query.x])
  share = table.x[rows] / 255
  low, high = (np.array(colours)[numbers][:, None, None] for colours in (paper, ink))
  painted = np.concatenate([episode.support.x, episode.query.x])
  np.testing.assert_allclose(painted, 255 * (low + (high - low) * share), atol=0.5)
