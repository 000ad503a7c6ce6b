"""Combinators change what they say and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metakit.data.table import class_table
from metakit.episodes.augmentation import augment
from metakit.episodes.combinators import mixture, ramp, relabel, shorten, switch
from metakit.episodes.few_shot import few_shot
from metakit.episodes.function_combinators import truncate_inputs
from metakit.episodes.functions import dense, functions
from metakit.episodes.image_transforms import rotate_quarter_turns, shift_image
from metakit.episodes.semi_supervised import semi_supervised
from metakit.episodes.sinusoid import sinusoid
from metakit.episodes.turned_classes import turned_classes, turned_table
from metakit.episodes.variable_shot import variable_shot
from metakit.heads import prototypes
from metakit.learners.descent import Descent
from metakit.learners.ordinary_training import fine_tuning
from metakit.learners.pretrained import pretrained
from metakit.networks.mlp import mlp
from metakit.sources import EpisodeSource, gather_rows
from metakit.types import Episode
from tests.episodes.test_chance import SMALLEST_P, equally_likely, follows
from tests.episodes.test_few_shot import COUNTS, LABELS, TABLE, many, one, orders

IMAGES = np.random.default_rng(0).integers(0, 256, (26, 4, 4, 1), np.uint8)
IMAGE_TABLE = class_table(IMAGES, LABELS)


def test_an_augmented_source_is_its_episodes_with_x_transformed():
  """After its rows are in place and `finish`, independently for every example."""
  finish = lambda episode: episode._replace(query=episode.query._replace(x=episode.query.x // 2))
  base = few_shot(IMAGE_TABLE, 3, 1, queries=2).replace(finish=finish)
  before = one(lambda key: base(jax.random.split(key)[0]))
  after = one(augment(base, lambda key, x: 255 - x))
  np.testing.assert_array_equal(after.support.x, 255 - before.support.x)
  np.testing.assert_array_equal(after.query.x, 255 - before.query.x)
  assert after.support.y.tolist() == before.support.y.tolist()
  assert after.info['classes'].tolist() == before.info['classes'].tolist()
  draw = lambda key, x: jnp.full(x.shape, jax.random.bits(key, (), jnp.uint32))
  numbers_of = jax.jit(lambda key: jnp.concatenate([p.x for p in augment(base, draw)(key)[:2]]))
  numbers, other, again = (
    np.ravel(numbers_of(jax.random.key(seed))[:, 0, 0, 0]) for seed in (0, 1, 0)
  )
  assert len(np.unique([numbers, other])) == 2 * 9  # support and query, every episode
  assert again.tolist() == numbers.tolist()


def test_an_augmented_schedule_is_that_of_its_plans():
  plans = [few_shot(IMAGE_TABLE, 3, 1, queries=2).plan for _ in range(2)]
  base = EpisodeSource(plans[0], IMAGES, schedule=lambda step: plans[step])
  scheduled = one(augment(base, shift_image(1)).schedule(1))
  alone = one(lambda key: plans[1](jax.random.split(key)[0]))
  assert scheduled.support.x.tolist() == alone.support.x.tolist()
  assert scheduled.info['augmentation'].shape == (1, 2)


def test_augment_draws_independently_for_every_example():
  base = lambda key: sinusoid(shots=2, queries=1)(key)
  coin = augment(base, lambda key, x: jax.random.randint(key, x.shape, 0, 2))
  episodes = many(coin, 10000)
  coins = np.concatenate([episodes.support.x, episodes.query.x], axis=1)[..., 0]  # [keys, 3]
  assert equally_likely(coins @ [4, 2, 1], 8) > SMALLEST_P


def test_a_class_is_transformed_as_one():
  """Alike in support and query, whatever becomes of the other classes."""
  draw = lambda key, x: jnp.full(x.shape, jax.random.randint(key, (), 0, 2))
  base = few_shot(IMAGE_TABLE, 2, 1, queries=2)
  for sampler in (base, lambda key: base(key)):
    sampler = augment(sampler, draw, 'class')
    support, query, _ = many(sampler, 2000)
    drawn = np.concatenate([support.x, query.x], axis=1)[:, :, 0, 0, 0]
    labels = np.concatenate([support.y, query.y], axis=1)
    first = np.stack([drawn[np.arange(2000), (labels == y).argmax(1)] for y in (0, 1)], axis=1)
    assert (drawn == np.take_along_axis(first, labels, axis=1)).all()
    assert equally_likely(first @ [2, 1], 4) > SMALLEST_P


def test_quarter_turns_as_classes_are_those_of_a_table_of_all_turned_images():
  """With a table on the host too, and with examples that have no label."""
  turned = np.stack([np.rot90(IMAGES, turn, (1, 2)) for turn in range(4)], 1)
  labels = 4 * np.asarray(LABELS)[:, None] + np.arange(4)
  names = [f'{name}/rot{turn}' for name in IMAGE_TABLE.names for turn in ('000', '090', 180, 270)]
  groups = np.arange(len(IMAGE_TABLE.names))
  all_turned = class_table(
    turned.reshape(-1, 4, 4, 1), labels.ravel(), names, groups=np.repeat(groups, 4)
  )
  table = turned_table(IMAGE_TABLE._replace(groups=groups))
  for field in ('names', 'counts', 'groups'):
    assert np.array_equal(getattr(table, field), getattr(all_turned, field))
  sizes = {'ways': 7, 'shots': 1, 'queries': 1, 'unlabelled': 1, 'distractors': 1}
  draw = lambda table: semi_supervised(table, **sizes)
  ours, theirs = turned_classes(draw, IMAGE_TABLE), draw(all_turned)
  together, expected = jax.jit(lambda key: (ours(key), theirs(key)))(jax.random.key(0))
  on_host = ours(jax.random.key(0))
  for episode in (together, on_host):
    for part in (0, 1):
      np.testing.assert_array_equal(episode[part].x, expected[part].x)
      np.testing.assert_array_equal(episode[part].y, expected[part].y)
    np.testing.assert_array_equal(episode.info['classes'], expected.info['classes'])


def test_only_square_images_are_turned_as_classes():
  wide = IMAGE_TABLE._replace(x=IMAGES[:, :2])
  with pytest.raises(ValueError, match=r'\(2, 4, 1\) are no square images'):
    turned_classes(few_shot, wide)


@pytest.mark.slow  # as a sampler does, below
def test_a_source_augmented_twice_draws_twice():
  coin = lambda key, x: x * 2 + jax.random.randint(key, (), 0, 2)
  table = IMAGE_TABLE._replace(x=IMAGES.astype(np.int32))
  base = few_shot(table, 2, 1, queries=1).replace(finish=zero_x)
  for first, second in (('example', 'example'), ('class', 'class')):
    twice = augment(augment(base, coin, first), coin, second)
    episodes = many(twice, 4000)
    assert equally_likely(episodes.support.x[:, 0, 0, 0, 0], 4) > SMALLEST_P
    assert episodes.info['augmentation'].shape == (4000, 2, 2)


def zero_x(episode):
  zero = lambda part: part._replace(x=part.x * 0)
  return Episode(zero(episode.support), zero(episode.query), episode.info)


def test_augmenting_what_is_neither_example_nor_class_is_an_error():
  with pytest.raises(ValueError, match="each='batch' is unknown"):
    augment(sinusoid(), lambda key, x: x, each='batch')


def test_augment_twice_draws_twice():
  coin = lambda key, x: x * 2 + jax.random.randint(key, x.shape, 0, 2)
  zero = augment(sinusoid(shots=1, queries=1), lambda key, x: jnp.zeros_like(x, jnp.int32))
  episodes = many(augment(augment(zero, coin), coin), 10000)
  assert equally_likely(episodes.support.x, 4) > SMALLEST_P


def test_quarter_turns_of_an_oblong_image_are_an_error_when_built():
  oblong = few_shot(class_table(np.zeros((26, 4, 6)), LABELS), ways=3, shots=1, queries=2)
  with pytest.raises(ValueError, match=r'\(4, 6\) is not square'):
    augment(oblong, rotate_quarter_turns)


def test_relabel_makes_every_permutation_equally_likely():
  plan = relabel(few_shot(TABLE, ways=3, shots=1, queries=2), ways=3).plan
  numbers, outcomes = orders(many(plan, 12000).support.y, 3)
  assert equally_likely(numbers, outcomes) > SMALLEST_P


def test_relabel_keeps_support_query_and_classes_together():
  episodes = many(relabel(few_shot(TABLE, ways=3, shots=1, queries=2), ways=3).plan, 500)
  for part in (episodes.support, episodes.query):
    drawn = np.take_along_axis(episodes.info['classes'], part.y, axis=1)
    assert (drawn == LABELS[part.x]).all()


@pytest.mark.slow  # the law above, of rows that are absent too
def test_relabel_moves_the_shots_and_the_padding_of_variable_episodes():
  source = variable_shot(TABLE, max_ways=4, min_ways=2, max_support=9, max_queries_per_class=2)
  episodes = many(relabel(source, ways=4).plan, 500)
  for part in (episodes.support, episodes.query):
    drawn = np.take_along_axis(episodes.info['classes'], part.y, axis=1)
    assert (drawn == LABELS[part.x]).all()
  support = episodes.support
  shots = [np.bincount(y, w, 4) for y, w in zip(support.y, support.weight, strict=True)]
  np.testing.assert_array_equal(shots, episodes.info['shots'])


def test_relabel_refuses_regression_and_another_number_of_ways():
  with pytest.raises(ValueError, match=r'integer labels .* float32\[10, 1\]'):
    relabel(sinusoid(), ways=5)
  with pytest.raises(ValueError, match=r"ways=4 but info\['classes'\] has 3 entries; use ways=3"):
    relabel(few_shot(TABLE, ways=3, shots=1, queries=2), ways=4)


def plan_of(classes):
  """A plan over some classes of TABLE: the same shapes, other rows."""
  starts = np.cumsum(COUNTS) - COUNTS
  part = TABLE._replace(starts=starts[classes], counts=COUNTS[classes])
  return few_shot(part, ways=2, shots=1, queries=2).plan


def test_mixture_draws_components_by_their_weights():
  plans = [plan_of([0, 1]), plan_of([2, 3]), plan_of([3, 4])]
  weights = [1, 0, 3]
  components = many(mixture(plans, weights), 10000).info['component']
  assert follows(components, [0.25, 0, 0.75]) > SMALLEST_P
  assert follows(components, [0.3, 0, 0.7]) < SMALLEST_P
  assert equally_likely(many(mixture(plans), 10000).info['component'], 3) > SMALLEST_P


@pytest.mark.parametrize('only', [0, *(pytest.param(i, marks=pytest.mark.slow) for i in (1, 2))])
def test_a_weight_of_zero_is_never_drawn(only):
  plans = [plan_of([0, 1]), plan_of([2, 3]), plan_of([3, 4])]
  mixed = mixture(plans, np.eye(3)[only])
  assert set(many(mixed, 1000).info['component'].tolist()) == {only}


def test_a_mixed_episode_is_the_component_episode():
  plans = [plan_of([0, 1]), plan_of([2, 3])]
  mixed = mixture(plans)
  seen = set()
  alone = [many(lambda key, plan=plan: plan(jax.random.split(key)[0]), 8) for plan in plans]
  episodes = many(mixed, 8)
  for i, component in enumerate(episodes.info['component'].tolist()):
    assert episodes.support.x[i].tolist() == alone[component].support.x[i].tolist()
    assert episodes.info['classes'][i].tolist() == alone[component].info['classes'][i].tolist()
    seen.add(component)
  assert seen == {0, 1}


def test_mixture_refuses_other_shapes_dtypes_and_entries():
  plan = plan_of([0, 1])
  longer = few_shot(TABLE, ways=2, shots=1, queries=1).plan
  with pytest.raises(ValueError, match=r'query\.x is int32\[2\] in sampler 1 but int32\[4\] in'):
    mixture([plan, longer])
  as_float = augment(plan, lambda key, x: x.astype(jnp.float32))
  with pytest.raises(ValueError, match=r'support\.x is float32\[2\] in sampler 2 but int32\[2\]'):
    mixture([plan, plan, as_float])
  without = lambda key: plan(key)._replace(info=())
  with pytest.raises(ValueError, match=r"info\['classes'\] is absent in sampler 1"):
    mixture([plan, without])


@pytest.mark.parametrize('weights', [[1], [1, -1], [0, 0], [1, float('nan')], [[1, 1]]])
def test_mixture_refuses_bad_weights(weights):
  with pytest.raises(ValueError, match='weights'):
    mixture([plan_of([0, 1]), plan_of([2, 3])], weights)


def test_mixture_keeps_any_kind_of_info():
  bare = lambda key: plan_of([0, 1])(key)._replace(info=())
  named = lambda key: plan_of([0, 1])(key)._replace(info=(jnp.ones(()),))
  info_of = lambda sampler: set(jax.eval_shape(sampler, jax.random.key(0)).info)
  assert info_of(mixture([bare, bare])) == {'component'}
  assert info_of(mixture([named, named])) == {'component', 'info'}


@pytest.mark.slow
def test_combinators_nest():
  swapped = relabel(mixture([plan_of([0, 1]), relabel(plan_of([2, 3]), ways=2)]), ways=2)
  doubled = many(augment(swapped, lambda key, row: 2 * row), 50)
  assert doubled.support.x.shape == (50, 2) and (doubled.support.x % 2 == 0).all()
  assert set(doubled.info['component'].tolist()) == {0, 1}


def test_a_curriculum_grows_with_the_step():
  """Inputs from 2 to 5, examples from 1 to 4, in a compiled step whose number is traced."""
  inputs = lambda step: ramp(step, 2, 5, by=1, every=10)
  length = lambda step: ramp(step, 1, 4, by=2, every=10)
  at = lambda step: shorten(functions(truncate_inputs(dense(5), inputs(step)), 4), length(step))
  run = jax.jit(lambda step: at(step)(jax.random.key(0)))
  for step, dims, shots in ((0, 2, 1), (9, 2, 1), (10, 3, 3), (20, 4, 4), (30, 5, 4), (999, 5, 4)):
    episode = jax.tree.map(np.asarray, run(step))
    np.testing.assert_array_equal((episode.query.x != 0).sum(1), dims)
    np.testing.assert_array_equal(episode.support.weight, np.arange(4) < shots)


def test_a_switch_is_between_episodes_of_one_shape():
  with pytest.raises(ValueError, match='steps=0'):
    switch(plan_of([0, 1]), plan_of([2, 3]), 0)
  with pytest.raises(ValueError, match='mix samplers of equal shapes'):
    switch(functions(dense(2), 4), functions(dense(2), 5), 5)


def test_shorten_keeps_the_weights_there_are():
  weighted = lambda key: shorten(functions(dense(2), 4), 3)(key)
  twice = one(shorten(lambda key: weighted(key), 2))
  np.testing.assert_array_equal(twice.support.weight, [1, 1, 0, 0])
  longer = one(shorten(lambda key: weighted(key), 9))
  np.testing.assert_array_equal(longer.support.weight, [1, 1, 1, 0])


def test_a_mixture_of_tables_numbers_the_classes_of_each_apart():
  first, second = (class_table(np.arange(60) + 100 * t, np.arange(60) % 6) for t in range(2))
  samplers = [few_shot(table, 3, 1, queries=1) for table in (first, second)]
  mixed = jax.jit(jax.vmap(mixture(samplers, first_class=(0, 6))))
  episodes = mixed(jax.random.split(jax.random.key(0), 40))
  of_table, classes = (np.asarray(episodes.info[name]) for name in ('component', 'classes'))
  rows = np.asarray(episodes.support.x)
  np.testing.assert_array_equal(classes, rows % 100 % 6 + 6 * (rows >= 100))
  assert set(classes.ravel()) == set(range(12)) and set(of_table) == {0, 1}
  with pytest.raises(ValueError, match='first_class'):
    mixture(samplers, first_class=(0,))
  with pytest.raises(ValueError, match='no info'):
    mixture([sinusoid()], first_class=(0,))


def test_a_mixture_of_tables_is_of_one_table():
  """Whose rows are those of each, whoever makes the episodes whole."""
  tables = [IMAGE_TABLE, IMAGE_TABLE._replace(x=255 - IMAGES)]
  sources = [few_shot(table, 3, 1, queries=1) for table in tables]
  mixed, whole = mixture(sources), mixture([lambda key, s=s: s(key) for s in sources])
  assert mixed.data.shape == (52, 4, 4, 1) and whole.data is None
  assert mixture([sources[0], sources[0]]).data is IMAGE_TABLE.x
  episodes = many(mixed, 6)
  jax.tree.map(np.testing.assert_array_equal, episodes, many(whole, 6))
  assert set(episodes.info['component'].tolist()) == {0, 1}
  finished = mixture([sources[0].replace(finish=zero_x), sources[0]])
  assert finished.data is None
  assert set((many(finished, 6).support.x.reshape(6, -1).max(1) > 0).tolist()) == {True, False}


def test_a_mixture_follows_the_schedules_of_its_sources():
  base = few_shot(IMAGE_TABLE, 2, 1, queries=1)
  marked = lambda step: lambda key: base.plan(key)._replace(info={'step': jnp.asarray(step)})
  source = base.replace(plan=marked(-1), schedule=marked)
  mixed = mixture([source, source])
  assert one(mixed.schedule(7)).info['step'] == 7 and one(mixed).info['step'] == -1
  assert mixture([base, base]).schedule is None


def test_a_switch_between_tables_is_of_one_table():
  tables = [IMAGE_TABLE, IMAGE_TABLE._replace(x=255 - IMAGES)]
  sources = [few_shot(table, 3, 1, queries=1) for table in tables]
  both, alone = switch(*sources, steps=3), [one(source).query.x for source in sources]
  whole = jax.jit(lambda step, data: gather_rows(both.schedule(step)(jax.random.key(0)), data))
  for step, of in ((2, 0), (3, 1)):
    np.testing.assert_array_equal(whole(step, both.data).query.x, alone[of])
  np.testing.assert_array_equal(one(both).query.x, alone[1])


ON_TWELVE = {
  'pretrained': lambda: pretrained(mlp(width=4, depth=1), prototypes(3), 12),
  'fine_tuning': lambda: fine_tuning(
    mlp(width=4, depth=1), 3, Descent(optax.sgd(0.1), 100), num_classes=12
  ),
}


on_twelve = pytest.mark.parametrize(
  'make',
  [
    pytest.param(make, marks=[pytest.mark.slow] * (name == 'fine_tuning'), id=name)
    for name, make in ON_TWELVE.items()
  ],
)


@on_twelve
def test_learners_of_all_classes_refuse_a_mixture_that_numbers_them_alike(make):
  table = class_table(np.arange(60.0)[:, None], np.arange(60) % 6)
  learner, episode = make(), one(mixture(2 * [few_shot(table, 3, 1, queries=1)]))
  params = jax.jit(learner.init)(jax.random.key(0), episode)
  with pytest.raises(ValueError, match=r'mixture\(..., first_class=\)'):
    learner.loss(jax.random.key(0), params, episode)


@on_twelve
def test_a_class_beyond_those_of_training_is_named_before_the_loss_is_nan(make):
  table = class_table(np.arange(60.0)[:, None], np.arange(60) % 6)
  samplers = 2 * [few_shot(table, 3, 1, queries=1)]
  far, near = (one(mixture(samplers, [0, 1], first_class=(0, n))) for n in (9, 6))
  largest = int(far.info['classes'].max())
  assert largest > 11
  with pytest.raises(ValueError, match=f'training class {largest}, but num_classes=12 .* all'):
    make().init(jax.random.key(0), far)
  assert jax.eval_shape(make().init, jax.random.key(0), far)  # nothing is known of its classes
  make().init(jax.random.key(0), near)


def test_relabelled_examples_without_a_label_have_none():
  table = class_table(np.arange(60), np.arange(60) % 6)
  plain = semi_supervised(table, 3, 1, queries=2, unlabelled=2)
  new = one(relabel(plain, ways=3)).support.y
  assert (new == -1).sum() == 6 and set(new.tolist()) == {-1, 0, 1, 2}
