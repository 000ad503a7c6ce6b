"""A training that predicts densities, from the command line to metakit.load."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import metakit
from experiments.output.results import read_results
from experiments.runs.setup import make_setup
from experiments.runs.workdir import claim_workdir, default_workdir, read_specs
from metakit.trained.stored import PARTS
from metakit.workdir import FLAGS
from tests.experiments.commands import done, refused, run

SMALL = [
  '--learner=in_context',
  '--network=transformer:width=8,depth=1,heads=2,attention=set',
  '--steps=4',
  '--tasks_per_step=2',
  '--validation_episodes=4',
  '--episodes=24',
  '--curve=none',
]
TASK = '--task=gaussian_process:shots=6,queries=4,noise=0.2'
BAR = 'bar:buckets=8'


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  folder = tmp_path_factory.mktemp('densities') / 'bar'
  done('train', TASK, f'--objective={BAR}', f'--workdir={folder}', *SMALL)
  return folder


def test_the_record_and_the_flags_name_the_objective(workdir):
  assert read_results(workdir / 'results.json')['objective'] == BAR
  assert json.loads((workdir / FLAGS).read_text())['objective'] == BAR


def test_the_record_and_the_report_say_how_sure_and_how_right_it_is(workdir):
  record, values = (
    read_results(workdir / 'results.json'),
    np.load(workdir / 'episodes.npz'),
  )
  measured = record['density']
  assert set(measured) == {'nats', 'crps', 'squared_error', 'coverage', 'ece', 'gap'}
  assert measured['nats']['mean'] == pytest.approx(-record['mean'], rel=1e-5)
  assert set(measured['coverage']) == {'50%', '90%', '95%'}
  held = values['coverage'].mean(0)[9]  # of the interval of 50%
  assert measured['coverage']['50%']['mean'] == pytest.approx(held)
  assert measured['gap']['mean'] > 0 and measured['gap']['episodes'] == 24
  assert 'nats below the exact posterior' in (workdir / 'report.html').read_text()


@pytest.mark.slow  # a process more
def test_a_later_test_gives_the_same_score(workdir):
  done('evaluate', f'--workdir={workdir}', '--episodes=24', '--curve=none')
  ours, again = (read_results(workdir / f'results{n}.json') for n in ('', '-evaluation'))
  assert again['mean'] == ours['mean'] and again['objective'] == BAR


def test_a_learner_of_densities_is_loaded_with_its_borders(workdir):
  stored = json.loads((workdir / PARTS).read_text())['made_of']
  trained, x = metakit.load(workdir), np.linspace(-2, 2, 6)[:, None]
  assert trained.made_of.borders == tuple(stored['borders']) and len(stored['borders']) == 9
  fitted = trained.adapt(x, np.sin(x[:, 0]))
  parameters, density = fitted.outputs(x), trained.density
  assert parameters.shape == (6, 8)
  np.testing.assert_allclose(fitted.predict(x), density.mean(parameters), rtol=1e-5)
  np.testing.assert_allclose(fitted.deviation(x) ** 2, density.variance(parameters), rtol=1e-4)
  low, high = fitted.quantile(x, [0.05, 0.95]).T
  np.testing.assert_allclose(density.cdf(parameters, low), 0.05, atol=1e-5)
  np.testing.assert_allclose(fitted.quantile(x, 0.95), high, rtol=1e-6)
  for level in (0.0, 1.0, np.nan, -1):
    with pytest.raises(ValueError, match='a level of a quantile is between 0 and 1'):
      fitted.quantile(x, level)


def test_densities_of_scaled_targets_are_in_the_units_of_the_user(workdir):
  """The targets of a table are less their mean and divided by their deviation in training."""
  trained, x = metakit.load(workdir), np.linspace(-2, 2, 6)[:, None]
  scaling = {'kind': 'numbers', 'targets': {'mean': [10.0], 'deviation': [2.0]}}
  scaled = dataclasses.replace(
    trained, inputs=trained.inputs._replace(encoding=scaling), _programs=trained._programs
  )
  plain, ours = trained.adapt(x, np.sin(x)), scaled.adapt(x, 10 + 2 * np.sin(x))
  for other in (lambda fitted: fitted.predict(x), lambda fitted: fitted.quantile(x, 0.9)):
    np.testing.assert_allclose(other(ours), 10 + 2 * other(plain), rtol=1e-4)
  np.testing.assert_allclose(ours.deviation(x), 2 * plain.deviation(x), rtol=1e-4)
  assert ours.predict(x).shape == ours.deviation(x).shape == (6, 1)  # as y is given


def test_a_learner_of_numbers_has_no_quantiles():
  fitted = metakit.load('sinusoid-maml').adapt([[0.0], [1.0]], [0.0, 1.0])
  with pytest.raises(ValueError, match='predicts no density; train one with --objective=gaussian'):
    fitted.quantile([[0.5]], 0.5)


def set_up(*arguments):
  """The setup of a command line, in this process."""
  given = dict(each.removeprefix('--').split('=', 1) for each in arguments)
  usual = dict.fromkeys(('task', 'test_task', 'network', 'objective'))
  usual |= {'learner': 'in_context', 'optimizer': 'adam', 'schedule': 'constant', 'seed': 0}
  usual |= {'clip_norm': 0.0, 'steps': 4, 'tasks_per_step': 1}
  return make_setup({**usual, **given}, data_dir='', budget_gib=1)


CAUSAL = '--network=transformer:width=8,depth=1,heads=2'


@pytest.mark.parametrize(
  ('said', 'given'),
  [
    ('levels=1 make no distribution', [TASK, '--objective=quantile:levels=1']),
    ("unknown objective 'normal'; known: bar, gaussian", [TASK, '--objective=normal']),
    (r'least=0\.0 must be positive', [TASK, '--objective=gaussian:least=0']),
    ('buckets=1 are too few', [TASK, '--objective=bar:buckets=1']),
    ('objective joint judges all queries together', [TASK, CAUSAL, '--objective=joint']),
    (
      'learner ridge classifies, and this task is a regression',
      [TASK, '--learner=ridge', '--network=mlp', '--objective=gaussian'],
    ),
  ],
)
def test_what_has_no_such_density_is_refused(said, given):
  with pytest.raises(ValueError, match=said):
    setup = set_up(*given)
    setup.learner(setup.task)


def test_a_density_of_classes_is_refused_in_one_line(tmp_path):
  ended = run('train', '--objective=gaussian', f'--workdir={tmp_path}/no')
  assert 'is a density of numbers, and this task classifies' in refused(ended)


def test_a_run_of_an_earlier_version_goes_on(tmp_path):
  """Its flags do not name an objective, and neither does the name of its folder."""
  specs = {name: None for name in ('task', 'test_task', 'network')}
  specs |= {'learner': 'maml', 'optimizer': 'adam', 'schedule': 'constant', 'clip_norm': 0.0}
  specs |= {'task': 'sinusoid', 'steps': 4, 'tasks_per_step': 1, 'seed': 0}
  (tmp_path / FLAGS).write_text(json.dumps(specs))
  now = {**specs, 'objective': None}
  claim_workdir(tmp_path, now)
  assert read_specs(tmp_path)['objective'] is None
  assert default_workdir(now) == default_workdir(specs)
  with pytest.raises(ValueError, match=r'--objective is None there and gaussian:least=0\.001 here'):
    claim_workdir(tmp_path, {**specs, 'objective': 'gaussian'})


@pytest.mark.parametrize('learner', ['maml', 'anil', 'fine_tuning', 'cavia'])
def test_learners_by_descent_have_outputs_for_each_parameter(learner):
  """Those with a model, with a last layer of their own, and with one that is made anew."""
  setup = set_up(
    '--task=sinusoid', '--network=mlp:width=8', f'--learner={learner}', '--objective=mixture'
  )
  made, key = setup.learner(setup.task), jax.random.key(0)

  def outputs(key):
    episode = setup.task.source('train')(key)
    fitted = made.adapt(key, made.init(key, episode), episode.support)
    return made.predict(fitted, episode.query.x), made.loss(key, made.init(key, episode), episode)

  shapes, (loss, metrics) = jax.eval_shape(outputs, key)
  assert shapes.shape == (10, 15) and loss.shape == () and 'squared_error' in metrics
