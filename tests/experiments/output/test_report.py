import base64
import functools
import io
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from experiments.output import report_episode, report_figures
from experiments.output.report import AdaptationPoint, EpisodePicture, Report, render
from experiments.output.report_figures import learning_curve, smooth, smoothing_window
from metakit.files import write_text
from tests.experiments.output.test_results import files_limited_to, record

VOID = {'meta', 'img', 'br', 'wbr', 'path', 'use', 'rect'}


class Page(HTMLParser):
  """Reads a page: its elements, its visible text, and whether every element is closed."""

  def __init__(self, text):
    super().__init__()
    self.elements, self.open, self.text = [], [], ''
    self.feed(text)
    assert not self.open

  def handle_starttag(self, tag, attributes):
    self.elements.append((tag, dict(attributes)))
    if tag not in VOID:
      self.open.append(tag)

  def handle_startendtag(self, tag, attributes):
    self.elements.append((tag, dict(attributes)))

  def handle_endtag(self, tag):
    if tag not in VOID:
      assert self.open.pop() == tag
      self.text += ' ' * (tag in {'td', 'th', 'p', 'dd', 'dt'})

  def handle_data(self, data):
    if 'style' not in self.open:
      self.text += data

  def all(self, tag, **wanted):
    attributes = [found for name, found in self.elements if name == tag]
    return [a for a in attributes if all(a.get(k.rstrip('_')) == v for k, v in wanted.items())]


def images_episode(ways=3, queries=4, size=28, channels=1, dtype=np.uint8):
  """An episode whose predictions are all right but the last one, which is of class 0."""
  rng = np.random.default_rng(0)
  draw = lambda count: rng.integers(0, 256, (count, size, size, channels)).astype(dtype)
  labels = np.repeat(np.arange(ways), queries)
  outputs = 9.0 * np.eye(ways)[labels]
  outputs[-1] = np.roll(outputs[-1], 1)
  return EpisodePicture(draw(ways), np.arange(ways), draw(len(labels)), labels, outputs)


def function_episode():
  x = np.linspace(-5, 5, 30)[:, None]
  return EpisodePicture(x[::6], np.sin(x[::6]), x, np.sin(x), np.sin(x) + 0.5)


def full_report(**changes):
  metrics = [{'step': s, 'train/loss': 1 / s, 'train/accuracy': 1 - 1 / s} for s in range(1, 200)]
  metrics += [
    {'step': s, 'validation/accuracy': 0.8, 'validation/accuracy_ci95': 0.02} for s in (100, 200)
  ]
  first = Report(
    title='Prototypical network',
    command='python -m experiments.train --task=omniglot:ways=3',
    records=[record(published=0.988)],
    metrics=metrics,
    adaptation=[AdaptationPoint(1, 0.9, 0.01), AdaptationPoint(5, 0.97, 0.005)],
    episode=images_episode(),
    settings={
      'task': 'omniglot:ways=3,shots=1',
      'learner': {'distance': 'euclidean'},
      'steps': 200,
    },
  )
  return first._replace(**changes)


@functools.cache
def full_page():
  return render(full_report())


def without_curves(**changes):
  """The same report but for the figures of the whole run, which take long to draw."""
  return full_report(metrics=[], adaptation=[], **changes)


def words_of(page):
  return ' '.join(page.text.split())


def test_the_headline_is_the_result_with_its_interval_episodes_and_protocol():
  text = words_of(Page(full_page()))
  assert '98.40% ± 0.13%' in text
  assert 'mean over 10,000 test episodes' in text and 'inductive' in text
  assert 'published: 98.80%' in text and '5,000 steps in 41 min' in text


def test_every_further_record_is_shown():
  further = record(task='omniglot:ways=20') | {'mean': 0.9488, 'ci95': 0.0016}
  text = words_of(Page(render(without_curves(records=[record(), further]))))
  assert 'omniglot:ways=20' in text and '94.88 ± 0.16%' in text


def test_every_setting_is_shown_taken_apart():
  text = words_of(Page(full_page()))
  for words in ('task omniglot', 'ways 3', 'shots 1', 'distance euclidean', 'steps 200'):
    assert words in text


def test_the_command_can_be_copied_and_the_versions_are_there():
  page = Page(full_page())
  assert 'python -m experiments.train --task=omniglot:ways=3' in page.text
  versions = full_report().records[0]['versions']
  assert all(name in page.text and version in page.text for name, version in versions.items())


def test_loss_accuracy_adaptation_are_figures():
  labels = [svg['aria-label'] for svg in Page(full_page()).all('svg')]
  assert labels == [
    'loss against training steps',
    'accuracy against training steps',
    'accuracy against support examples a class',
  ]


def test_a_report_needs_no_network_and_no_script():
  text = full_page()
  page = Page(text)
  loaded = {'src', 'href', 'xlink:href', 'srcset', 'data', 'action', 'poster'}
  for tag, attributes in page.elements:
    assert tag not in {'script', 'link', 'iframe', 'object', 'embed', 'base', 'image'}
    assert not any(name.startswith('on') for name in attributes)
    for name in loaded & attributes.keys():
      assert attributes[name].startswith(('#', 'data:image/png;base64,'))
  assert all(address.startswith('#') for address in re.findall(r'url\(([^)]*)\)', text))
  assert '://' not in text and '@import' not in text


def test_references_inside_the_page_are_unique_and_lead_somewhere():
  text = full_page()
  ids = Counter(re.findall(r' id="([^"]*)"', text))
  wanted = set(re.findall(r'url\(#([^)]*)\)', text) + re.findall(r' href="#([^"]*)"', text))
  assert wanted and wanted <= ids.keys() and max(ids.values()) == 1


def test_who_listens_to_the_page_tells_its_tables_apart():
  """What axe-core found: regions of one name, and heads of rows without text."""
  text = full_page()
  regions = [each['aria-label'] for each in Page(text).all('div', role='region')]
  assert len(regions) > 2 and len(set(regions)) == len(regions)
  assert not re.search(r'<th[^>]*></th>', text)


def test_everything_is_escaped():
  bad = '<script>alert("x")</script>&$\\frac$'
  report = full_report(
    title=bad,
    command=bad,
    adaptation_label=bad,
    settings={bad: bad, 'task': {bad: bad}},
    records=[record(task=bad, learner=bad, network=bad, protocol=bad)] * 2,
    metrics=[{'step': step, f'{bad}/loss': 1.0, 'train/loss': 2.0} for step in range(3)],
  )
  page = Page(render(report))
  assert not page.all('script')
  assert page.text.count('alert("x")') >= 12
  assert page.text.count('&$\\frac$') >= 12  # neither an entity nor a formula


def test_figures_follow_the_page_into_the_dark():
  text = render(full_report(episode=function_episode()))
  drawn = re.findall(r'(?:fill|stroke): (#\w+)', text)
  assert drawn == [] and 'prefers-color-scheme: dark' in text
  variables = set(re.findall(r'var\((--\w+)\)', text))
  light, dark = re.findall(r':root \{(.*?)\}', text, flags=re.DOTALL)
  assert variables <= set(re.findall(r'(--\w+):', light))
  assert variables - {'--font'} <= set(re.findall(r'(--\w+):', dark))


def test_the_same_run_gives_the_same_page():
  assert render(full_report()) == full_page()


def test_wrong_predictions_are_marked_with_label_and_confidence():
  page = Page(full_page())
  assert len(page.all('li', class_='right')) == 11
  (wrong,) = page.all('li', class_='wrong')
  assert wrong['title'] == 'true class 2, predicted 0 with probability 1.000'
  text = words_of(page)
  assert '✗ 0 100%' in text and '11 of 12 queries right' in text


def test_a_prediction_that_is_not_finite_is_none():
  episode = images_episode()
  episode.query_outputs[:4] = np.nan
  page = Page(render(without_curves(episode=episode)))
  assert (
    len(page.all('li', class_='wrong', title='true class 0, the prediction is not finite')) == 4
  )
  assert '7 of 12 queries right' in words_of(page) and 'nan' not in words_of(page)


@pytest.mark.parametrize(('channels', 'mode'), [(1, 'L'), (3, 'RGB')])
def test_images_are_the_pixels_of_the_episode(channels, mode):
  episode = images_episode(channels=channels)
  images = Page(render(without_curves(episode=episode))).all('img')
  assert len(images) == 3 + 12
  data = base64.b64decode(images[0]['src'].partition(',')[2])
  image = Image.open(io.BytesIO(data))
  assert image.mode == mode
  np.testing.assert_array_equal(np.asarray(image).reshape(28, 28, channels), episode.support_x[0])


def test_float_images_are_scaled_to_what_they_hold():
  episode = images_episode(dtype=np.float32)
  scaled = episode._replace(support_x=episode.support_x / 50 - 3)
  image = Page(render(without_curves(episode=scaled))).all('img')[0]
  pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(image['src'].partition(',')[2]))))
  low, high = episode.support_x.min(), episode.support_x.max()
  expected = 255 * (episode.support_x[0, ..., 0] - low) / (high - low)
  assert np.abs(pixels - expected).max() <= 1


def test_large_episodes_show_a_part_and_say_so():
  text = render(without_curves(episode=images_episode(ways=30, queries=15, size=120)))
  page = Page(text)
  assert len(page.all('img')) == 20 * (1 + report_episode.MAX_QUERIES)
  assert 'The first 20 of 30 classes' in page.text and 'and 7 more' in page.text
  assert '449 of 450 queries right' in page.text
  assert len(text) < 5e6


def test_inputs_that_are_no_images_still_show_their_predictions():
  episode = images_episode()
  vectors = episode._replace(support_x=np.zeros((3, 7)), query_x=np.zeros((12, 7)))
  page = Page(render(without_curves(episode=vectors)))
  assert not page.all('img') and len(page.all('li', class_='wrong')) == 1


def test_infinite_logits_are_no_error():
  episode = images_episode()
  outputs = episode.query_outputs.copy()
  outputs[0, 0] = np.inf
  Page(render(without_curves(episode=episode._replace(query_outputs=outputs))))


def test_a_regression_episode_is_a_curve_with_its_error():
  page = Page(render(without_curves(episode=function_episode())))
  assert page.all('svg', **{'aria-label': report_figures.EPISODE_LABEL})
  assert 'mean squared error on the queries 0.25' in page.text
  assert 'support (5)' in page.text and 'prediction' in page.text


def test_a_regression_episode_of_many_inputs_is_truth_against_prediction():
  episode = function_episode()
  wide = episode._replace(query_x=np.zeros((30, 4)), support_x=np.zeros((5, 4)))
  page = Page(render(without_curves(episode=wide)))
  assert 'predicted y' in page.text and 'mean squared error on the queries 0.25' in page.text


def test_an_empty_run_still_gives_a_page():
  page = Page(render(Report(title='empty', command='true', records=[])))
  assert 'No test result' in page.text and not page.all('svg')


def test_one_logged_step_and_one_point_are_enough():
  report = full_report(
    metrics=[{'step': 1, 'train/loss': 0.5}], adaptation=[AdaptationPoint(0, 0.5, 0.0)]
  )
  assert len(Page(render(report)).all('svg')) == 2


def test_values_that_are_not_finite_leave_a_gap_not_an_error():
  metrics = [{'step': s, 'train/loss': float('nan') if s % 3 else 1.0} for s in range(9)]
  assert '<svg' in learning_curve(metrics, 'loss')
  assert learning_curve([{'step': 1, 'train/loss': float('nan')}], 'loss') == ''


def test_a_long_run_gives_a_small_figure():
  values = np.random.default_rng(0).gamma(2.0, size=50_000).tolist()
  metrics = [{'step': step, 'train/loss': value} for step, value in enumerate(values)]
  assert len(learning_curve(metrics, 'loss')) < 100_000


def test_smoothing_is_the_mean_of_the_values_around():
  values = np.random.default_rng(0).normal(size=40)
  for window in (1, 3, 9, 41, 200):
    half = (min(window, 40) | 1) // 2
    expected = [values[max(i - half, 0) : i + half + 1].mean() for i in range(40)]
    np.testing.assert_allclose(smooth(values, window), expected, atol=1e-12)
  assert [smoothing_window(count) for count in (1, 100, 1000)] == [1, 5, 51]


def test_a_failure_in_the_middle_leaves_the_former_report(tmp_path):
  path = tmp_path / 'report.html'
  write_text(path, render(full_report()))
  before = path.read_bytes()
  with files_limited_to(1000), pytest.raises(OSError, match=r'cannot write .*report.html'):
    write_text(path, render(full_report(title='another')))
  assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ['report.html']


def test_no_drawing_is_loaded_before_it_is_needed_and_no_global_state_is_kept():
  code = """if True:
    import sys
    from experiments.output.report import Report, render
    assert not {'matplotlib', 'PIL', 'jax'} & sys.modules.keys()
    from tests.experiments.output.test_report import full_report
    import matplotlib
    names = [name for name in matplotlib.rcParams if name != 'backend']  # reading it loads pyplot
    before = [matplotlib.rcParams[name] for name in names]
    render(full_report())
    assert 'matplotlib.pyplot' not in sys.modules
    assert [matplotlib.rcParams[name] for name in names] == before
  """
  subprocess.run([sys.executable, '-c', code], check=True)


def test_attention_to_the_support_marks_the_class_of_the_query():
  """One bar for each support example in each layer, and the share of those of its class."""
  episode = images_episode()
  weights = np.array([[0.5, 0.25, 0.0], [0.1, 0.2, 0.3]])[:, None].repeat(12, axis=1)
  page = Page(render(Report('t', 'c', [record()], episode=episode._replace(attention=weights))))
  assert 'which get 50%, 10% in the layers' in page.text  # the first query is of class 0
  assert 'attention of a query to the support, by layer' in str(page.elements)
  assert 'attend' not in Page(render(Report('t', 'c', [record()], episode=episode))).text


def test_the_reference_stands_beside_the_learner():
  learner = [AdaptationPoint(k, 2.0 - 0.5 * k, 0.01) for k in range(3)]
  best = [AdaptationPoint(k, 1.0 - 0.25 * k, 0.01) for k in range(3)]
  usual = Report('t', 'c', [record(metric='loss')], adaptation=learner)
  with_reference = Page(render(usual._replace(reference=best)))
  assert 'Bayes predictor on the same episodes' in with_reference.text
  assert '0.750 ± 0.010' in with_reference.text
  assert 'Bayes' not in Page(render(usual)).text
