"""What is counted of answers, against loops; and the parts of a report that show it."""

import numpy as np
import pytest

from experiments.output.answers import (
  NONE,
  Answers,
  by_class,
  calibration,
  confusion,
  most_confused,
)
from experiments.output.report import EpisodePicture, Report, render
from experiments.output.report_test import MOST_IN_MATRIX
from experiments.output.text import format_baselines
from tests.experiments.output.test_report import Page, images_episode, words_of
from tests.experiments.output.test_results import record

NAMES = [f'<class {number}>' for number in range(6)]


@pytest.fixture(scope='module')
def answers():
  """Of 40 episodes of 3 ways of 6 classes with 4 queries each; some ways and answers are none."""
  random = np.random.default_rng(0)
  ways = np.stack([random.permutation(6)[:3] for _ in range(40)])
  ways[7, 2] = NONE
  episode = np.repeat(np.arange(40), 4)
  label = random.integers(0, 2, 160)
  taken = random.integers(0, 3, 160)
  predicted = ways[episode, taken]
  predicted[:3] = NONE
  return Answers(episode, ways[episode, label], predicted, random.random(160), ways, NAMES)


def test_confusion_counts_queries_where_both_classes_are_ways(answers):
  shares = confusion(answers)
  for true in range(6):
    for other in range(6):
      asked = [
        answers.predicted[i] == other
        for i in range(160)
        if answers.true[i] == true and other in answers.ways[answers.episode[i]]
      ]
      assert shares[true, other] == pytest.approx(np.mean(asked))
  for pair in most_confused(answers, 4):
    assert pair.true != pair.predicted
    assert pair.times / pair.queries == pytest.approx(shares[pair.true, pair.predicted])
  times = [pair.times for pair in most_confused(answers, 99)]
  assert times == sorted(times, reverse=True)
  assert sum(times) == (~answers.right & (answers.predicted != NONE)).sum()


def test_the_hardest_class_comes_first(answers):
  found = by_class(answers)
  shares = [each.right / each.queries for each in found]
  assert shares == sorted(shares) and sum(each.queries for each in found) == 160
  for each in found:
    wrong = answers.predicted[(answers.true == each.number) & ~answers.right]
    counts = np.bincount(wrong[wrong >= 0], minlength=6)
    assert counts[each.taken_for] == counts.max()


def test_calibration_is_that_of_equal_bins():
  """Of 0.95 half are right, of 0.15 all, and what is not finite does not count."""
  confidence = np.array([0.95] * 4 + [0.15] * 2 + [np.nan, 1.0])
  right = np.array([True, True, False, False, True, True, False, True])
  found = calibration(confidence, right)
  np.testing.assert_allclose(found.confidence, [0.15, (4 * 0.95 + 1) / 5])
  np.testing.assert_allclose(found.accuracy, [1.0, 3 / 5])
  assert found.queries.tolist() == [2, 5]
  assert found.error == pytest.approx((2 * 0.85 + 5 * 0.36) / 7, abs=1e-6)


def test_a_report_shows_classes_episodes_and_the_nearest_examples(answers):
  """With headings in order, and words for whoever does not see its colours."""
  random, episode = np.random.default_rng(1), images_episode()
  values = np.append(random.random(99), np.nan)
  far = random.random((12, 3))
  far[0] = [0.25, 0.5, 0.125]  # the first query is of class 0
  shown: EpisodePicture = episode._replace(distances=far, names=NAMES[:3])
  page = Page(render(Report('t', 'c', [record()], values=values, answers=answers, episode=shown)))
  text = words_of(page)
  levels = [int(tag[1]) for tag, _ in page.elements if tag in ('h1', 'h2', 'h3')]
  assert levels[0] == 1 and set(np.diff(levels)) <= {-2, -1, 0, 1}
  labels = [each['aria-label'] for each in page.all('svg')]
  assert labels == ['episodes by accuracy', 'accuracy against confidence']
  assert len(page.all('figcaption')) == 2 and 'In 1 it is not finite' in text
  assert len(page.all('td', class_='own')) == 6 and '160 queries of 40 test episodes' in text
  hardest = by_class(answers)[0]
  assert f'{NAMES[hardest.number]} {100 * hardest.right / hardest.queries:.0f}%' in text
  assert 'wrong✗ <class 0>' in text and '<class 2> 0.125<class 0> 0.25' in text
  assert all(
    each['tabindex'] == '0' and each['aria-label'] for each in page.all('div', class_='wide')
  )
  assert all('alt' in each for each in page.all('img'))


def test_of_many_classes_only_pairs_are_shown(answers):
  many = answers._replace(names=[*NAMES, *['x'] * MOST_IN_MATRIX])
  assert not Page(render(Report('t', 'c', [record()], answers=many))).all('td', class_='own')
  without = words_of(
    Page(render(Report('t', 'c', [record()], answers=answers._replace(names=None))))
  )
  assert 'Hardest classes' not in without and 'Expected calibration error' in without


def baseline(gain, ci95, mean=0.2):
  return {'mean': mean, 'gain': gain, 'ci95': ci95, 'episodes': 200}


def test_a_gain_within_its_interval_is_said_and_shown():
  known = {'metric': 'accuracy', 'guessing': {'how': 'x', **baseline(0.01, 0.02)}}
  known['untrained'] = baseline(0.03, 0.02)
  (said,) = format_baselines(known)
  assert said.startswith('accuracy 21.00% is no better than guessing x, 20.00%')
  page = words_of(Page(render(Report('t', 'c', [record(baselines=known)]))))
  assert said[1:] in page and 'accuracy untrained 20.00%' in page
  lost = known | {'guessing': {'how': 'x', **baseline(None, None)}}
  assert 'accuracy not finite is no better' in format_baselines(lost)[0]
  one_episode = known | {'guessing': {'how': 'x', **baseline(0.5, None)}}
  assert format_baselines(one_episode) == []
