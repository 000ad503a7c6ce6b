"""A training that predicts densities, from the command line to metakit.load."""

import json

import numpy as np
import pytest

import metakit
from experiments.output.results import read_results
from experiments.runs.workdir import claim_workdir, default_workdir, read_specs
from metakit.trained.stored import PARTS
from metakit.workdir import FLAGS
from tests.experiments.commands import done, refused, run_all

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


def test_a_learner_of_numbers_has_no_quantiles():
  fitted = metakit.load('sinusoid-maml').adapt([[0.0], [1.0]], [0.0, 1.0])
  with pytest.raises(ValueError, match='predicts no density; train one with --objective=gaussian'):
    fitted.quantile([[0.5]], 0.5)


def test_what_has_no_such_density_is_refused_in_one_line(tmp_path):
  causal = [*SMALL[:1], '--network=transformer:width=8,depth=1,heads=2', *SMALL[2:]]
  commands = {
    'is a density of numbers, and this task classifies': ['--objective=gaussian'],
    'levels=1 make no distribution': [TASK, *SMALL, '--objective=quantile:levels=1'],
    'objective joint judges all queries together': [TASK, *causal, '--objective=joint'],
    "unknown objective 'normal'; known: bar, gaussian": [TASK, *SMALL, '--objective=normal'],
    'least=0.0 must be positive': [TASK, *SMALL, '--objective=gaussian:least=0'],
  }
  given = [['train', *each, f'--workdir={tmp_path}/no'] for each in commands.values()]
  for said, ended in zip(commands, run_all(given), strict=True):
    assert said in refused(ended)


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


@pytest.mark.parametrize(
  'learner', ['anil', *(pytest.param(n, marks=pytest.mark.slow) for n in ('maml', 'fine_tuning'))]
)
def test_learners_by_descent_have_outputs_for_each_parameter(learner, tmp_path):
  """Those with a model, with a last layer of their own, and with one that is made anew."""
  at_once = ['--task=sinusoid', '--network=mlp:width=8', '--objective=mixture:components=2']
  done('train', *at_once, *SMALL[2:], f'--learner={learner}', f'--workdir={tmp_path}/run')
  fitted = metakit.load(tmp_path / 'run').adapt([[0.0], [1.0]], [0.0, 1.0])
  assert fitted.outputs([[0.5]]).shape == (1, 6) and fitted.predict([[0.5]]).shape == (1,)
