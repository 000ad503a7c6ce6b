"""Retrieval against loops over all entries; what it must never give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.components import passages
from experiments.components.tasks import TASKS
from metakit.data.table import class_table
from metakit.learners.raml import fused
from metakit.models import identity
from metakit.retrieval import nearest, retrieve, with_passages
from metakit.sources import EpisodeSource
from metakit.types import Episode, Examples

RNG = np.random.default_rng(0)
BANK = RNG.normal(size=(40, 6)).astype('f')
QUERIES = np.concatenate([BANK[:2], 3 * BANK[2:3], RNG.normal(size=(4, 6)).astype('f')])
unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)


def plainly(bank, query, k):
  cosines = unit(bank) @ unit(query)
  order = [entry for entry in np.argsort(-cosines) if cosines[entry] < 1 - 1e-5]
  return order[:k]


@pytest.mark.parametrize('options', [{'block': 3}, {'approximate': True}])
def test_neighbours_are_those_of_a_loop_and_never_the_query_itself(options):
  """The first three queries are in the bank, the third one longer."""
  entries, cosines = jax.jit(lambda bank, queries: nearest(bank, queries, 5, **options))(
    BANK, QUERIES
  )
  assert entries.tolist() == [plainly(BANK, query, 5) for query in QUERIES]
  expected = np.take_along_axis(unit(QUERIES) @ unit(BANK).T, np.asarray(entries), axis=1)
  np.testing.assert_allclose(cosines, expected, atol=1e-6)


def test_passages_stand_beside_their_examples_and_random_ones_are_of_the_bank():
  table = class_table(QUERIES, [0, 0, 1, 1, 2, 2, 2])
  beside, random = (with_passages(table, BANK, 3, random=seed) for seed in (None, 7))
  np.testing.assert_array_equal(beside.x[:, 0], QUERIES)
  expected = BANK[[plainly(BANK, query, 3) for query in QUERIES]]
  np.testing.assert_array_equal(beside.x[:, 1:], expected)
  assert (beside.starts == table.starts).all() and (random.x[:, 1:] != expected).any()
  assert {row.tobytes() for row in random.x[:, 1:].reshape(-1, 6)} <= {r.tobytes() for r in BANK}


def source_of(support, query):
  return EpisodeSource(lambda key: Episode(support, query, {}))


def test_a_support_is_the_nearest_to_the_query_whatever_its_labels():
  """In ascending order; absent examples, and the query itself under another label, are left out."""
  x, query = BANK[:12], BANK[3:4] * 2
  weight = np.ones(12, 'f')
  near = plainly(x, query[0], 4)
  weight[near[0]] = 0
  retrieved = retrieve(
    source_of(Examples(x, np.arange(12), weight), Examples(query, np.array([99]))), k=3
  )
  episode = jax.jit(retrieved)(jax.random.key(0))
  assert episode.support.y.tolist() == near[1:4][::-1]
  np.testing.assert_array_equal(episode.support.x, x[near[1:4][::-1]])
  assert episode.support.weight.tolist() == [1, 1, 1] and 3 not in episode.support.y


def test_where_too_few_differ_from_the_query_the_rest_is_absent():
  x = np.stack([BANK[0], BANK[0], BANK[1]])
  retrieved = retrieve(source_of(Examples(x, np.arange(3)), Examples(BANK[:1], np.zeros(1))), k=2)
  support = jax.jit(retrieved)(jax.random.key(0)).support
  assert support.weight.tolist() == [0, 1] and support.y[1] == 2


def test_a_task_of_a_bank_has_the_support_that_is_nearest_to_its_query():
  sizes = {'base': 'random', 'pixels': 4, 'size': 6, 'budget': 0, 'data_dir': ''}
  near, plain = (
    TASKS['projected'](**sizes, **support).source('test')(jax.random.key(0))
    for support in ({'shots': 3, 'bank': 12}, {'shots': 12})
  )
  expected = plainly(np.asarray(plain.support.x), np.asarray(plain.query.x)[0], 3)[::-1]
  np.testing.assert_array_equal(near.support.x, plain.support.x[np.array(expected)])
  np.testing.assert_array_equal(near.support.y, plain.support.y[np.array(expected)])


def test_passages_are_of_the_corpus_that_is_named(monkeypatch):
  parts = {'train': BANK[:10], 'validation': BANK[10:20], 'test': BANK[20:30]}
  load = lambda data_dir, part, features, units: class_table(
    parts[part], np.arange(10) // 5, [f'{part} {number}' for number in range(2)]
  )
  monkeypatch.setattr(passages, 'clinc150', load)
  rows = lambda x: {row.tobytes() for row in np.asarray(x).reshape(-1, 6)}
  for corpus, owners in (('train', parts['train']), ('all', BANK[:30])):
    table = passages.passages_parts('', k=3, corpus=corpus).table('test')
    expected = owners[[plainly(owners, query, 3) for query in parts['test']]]
    np.testing.assert_array_equal(table.x[:, 1:], expected)
  assert rows(table.x[:, 1:]) - rows(parts['train'])


def test_an_example_is_fused_with_what_it_attends_to():
  """With the projections of the start: the example, and an eighth of the mean of alike passages."""
  x = RNG.normal(size=(4, 3, 6)).astype('f')
  model = fused(identity)
  params = jax.jit(model.init)(jax.random.key(0), x)
  params['gate']['kernel'] *= 0
  found = jax.jit(model.apply)(params, x)
  for own, others, ours in zip(x[:, 0], x[:, 1:], found, strict=True):
    scores = np.exp(others @ own / 6**0.5)
    mean = scores @ others / scores.sum()
    np.testing.assert_allclose(ours, own + mean / (1 + np.exp(2)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
  'call, message',
  [
    (lambda: nearest(BANK[:0], QUERIES, 1), 'holds nothing'),
    (lambda: nearest(BANK[:, :4], QUERIES, 1), '4 features and the queries 6'),
    (lambda: nearest(BANK, QUERIES, 41), 'k=41 is more than the 40 entries'),
    (lambda: nearest(BANK, QUERIES, 0), 'k=0 is not positive'),
    (
      lambda: retrieve(source_of(Examples(BANK, BANK), Examples(BANK[:2], BANK[:2])), 1),
      '2 queries want demonstrations of their own',
    ),
    (lambda: with_passages(class_table(np.zeros((2, 4, 4)), [0, 1]), BANK), 'are for vectors'),
  ],
)
def test_bad_input_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()


def test_several_thousand_equal_entries_are_all_left_out():
  bank = jnp.concatenate([jnp.tile(BANK[:1], (3000, 1)), BANK[1:3]])
  entries, cosines = nearest(bank, BANK[:1], 3)
  assert set(entries[0, :2].tolist()) == {3000, 3001} and cosines[0, 2] == -2
