"""Heads compared on the same features and episodes, and the page of heads."""

import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from experiments.components.tasks import TASK_SUPPLIED, tasks_for
from experiments.runs import compare_heads
from experiments.runs.compare_heads import score
from experiments.runs.features import embedded_once
from experiments.tables import heads as page
from experiments.tables.heads import paper_of, results
from experiments.tables.pages import keep
from metakit import cross_entropy, evaluate, heads, roots
from metakit.components.head_learners import HEADS, pretrained_learner
from metakit.components.learners import LEARNER_SUPPLIED, LEARNERS
from metakit.components.specs import build, parse
from metakit.data.arrays import arrays
from metakit.data.splits import split_classes
from metakit.data.table import class_table
from metakit.episodes import few_shot
from metakit.estimates import compare, estimate
from metakit.losses import icnn, proto_triplet
from metakit.models import Model, identity
from metakit.types import Episode, Examples
from tests.experiments.commands import TINY, done, images_file, refused, run, task


def features_file(folder):
  random = np.random.default_rng(0)
  labels = np.repeat(np.arange(30), 12)
  x = 0.4 * random.normal(size=(30, 8))[labels] + random.normal(size=(360, 8)) + 2
  path = folder / 'features.npz'
  np.savez(path, x=x.astype(np.float32), y=labels)
  return path


def compared(*flags):
  """Runs the binary; returns its record and the accuracies by task and head."""
  workdir = next(f for f in flags if f.startswith('--workdir=')).partition('=')[2]
  done('compare_heads', '--episodes=30', '--head_steps=20', *flags)
  with open(f'{workdir}/heads.json') as file, np.load(f'{workdir}/heads.npz') as values:
    return json.load(file), dict(values)


@pytest.mark.slow  # the next runs the command, and tests of the evaluation ask for its numbers
def test_heads_of_given_features_are_judged_on_the_same_episodes(tmp_path):
  """A head without parameters, and what it says of the test episodes, is done here once more."""
  path = features_file(tmp_path)
  spec = f'arrays:path={path},ways=4,shots=2,queries=3'
  names = ['prototypical:distance=cosine', 'relation:width=4']
  chosen = [f'--head={name}' for name in names]
  record, values = compared(
    f'--task={spec}',
    *chosen,
    f'--test_task={spec},sampler=imbalanced',
    f'--test_task={spec}',
    f'--workdir={tmp_path / "out"}',
  )
  assert [cell['head'] for cell in record['cells']] == names * 2
  imbalanced, balanced = record['cells'][:2], record['cells'][2:]
  assert 'sampler=imbalanced' in imbalanced[0]['task'] != balanced[0]['task']

  table = split_classes(arrays(str(path)), 'test')
  source = few_shot(table, 4, 2, queries=3)
  expected = evaluate(
    heads.prototypes(4, 'cosine'), cross_entropy, {}, source=source, root=roots(0).test, episodes=30
  )['accuracy']
  accuracies = [values[f'{cell["task"]}/{cell["head"]}'] for cell in balanced]
  np.testing.assert_allclose(accuracies[0], expected, atol=1e-6)
  for cell, own in zip(balanced, accuracies, strict=True):
    assert (cell['mean'], cell['ci95'], cell['episodes']) == estimate(own)
    assert tuple(cell['difference']) == compare(own, accuracies[0])[:2]
    assert cell['seconds_per_1000'] > 0
  trained = parse('task', tasks_for(spec), spec, supplied=TASK_SUPPLIED)
  assert record['head_task'] == record['training_task'] == str(trained)  # not the first tested
  assert record['split'] == 'test' and record['command'].startswith('python -m experiments.compare')


def test_a_comparison_goes_on_with_further_heads(tmp_path):
  """What was measured stays as it was, its seconds too; another setting is refused."""
  flags = [f'--task=arrays:path={features_file(tmp_path)},ways=4,shots=2,queries=3']
  flags += ['--head=prototypical', '--head=ridge', f'--workdir={tmp_path / "out"}']
  record, values = compared(*flags)
  more, more_values = compared(*flags, '--head=matching')
  assert more['cells'][:2] == record['cells']
  assert [cell['head'] for cell in more['cells']] == ['prototypical', 'ridge', 'matching']
  assert more['cells'][2]['difference'][0] == pytest.approx(
    more['cells'][2]['mean'] - record['cells'][0]['mean'], abs=1e-6
  )
  assert {name: more_values[name].tolist() for name in values} == {
    name: each.tolist() for name, each in values.items()
  }
  fewer, _ = compared(*flags[:1], '--head=ridge', flags[-1])  # the first head is another one
  assert fewer['cells'][0]['head'] == 'ridge' and len(fewer['cells']) == 3
  assert fewer['cells'][0]['difference'] == [0, 0]
  error = refused(run('compare_heads', *flags, '--episodes=31'))
  assert 'was measured with another episodes; give another --name' in error
  other = [f'{flags[0]},sampler=imbalanced', *flags[1:], '--episodes=30', '--head_steps=20']
  status, _, error = run('compare_heads', *other)
  assert status == 1 and 'another training_task' in error  # heads would be trained on other tasks
  file = np.load(tmp_path / 'features.npz')
  np.savez(tmp_path / 'features.npz', x=file['x'], y=file['y'][::-1])
  status, _, error = run('compare_heads', *flags, '--episodes=30', '--head_steps=20')
  assert status == 1 and 'belongs to other data: the checksum of train' in error
  with open(tmp_path / 'out' / 'heads.json') as file:
    assert json.load(file) == fewer
  for name in ('heads.npz', 'heads.json'):
    path = tmp_path / 'out' / name
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r'heads\.npz: .*; get or make the file again'):
      compare_heads.read_done(tmp_path / 'out' / 'heads', {})


@pytest.mark.slow  # the command runs twice
def test_heads_of_one_name_are_chosen_on_validation_classes(tmp_path):
  flags = [f'--task=arrays:path={features_file(tmp_path)},ways=4,shots=2,queries=3']
  flags += [f'--head=ridge:penalty={penalty}' for penalty in (1e-4, 1, 1e4)]
  flags += ['--head=prototypical', f'--workdir={tmp_path / "out"}']
  record, values = compared(*flags, '--choose=40')
  with open(tmp_path / 'out' / 'heads-validation.json') as file:
    validated = json.load(file)
  assert validated['split'] == 'validation'
  means = {cell['head']: cell['mean'] for cell in validated['cells']}
  assert len(means) == 4 and {cell['episodes'] for cell in validated['cells']} == {40}
  best = max((head for head in means if head.startswith('ridge')), key=means.get)
  assert [cell['head'] for cell in record['cells']] == [best, 'prototypical']
  assert len(values) == 2 and record['split'] == 'test'
  ridge, alone = record['choices']
  assert ridge['head'] == best and alone['head'] == 'prototypical'
  assert {head: each['mean'] for head, each in ridge['of'].items()} | {
    'prototypical': alone['of']['prototypical']['mean']
  } == means
  more, _ = compared(*flags, '--choose=40')
  assert more['choices'] == record['choices'] and more['cells'] == record['cells']
  error = refused(run('compare_heads', *flags, '--choose=40', '--split=validation'))
  assert '--choose tests on sampled episodes of test classes' in error


@pytest.mark.slow
def test_heads_of_a_trained_network_see_its_features(tmp_path):
  """The head of the run itself has the accuracy that the run had in its test."""
  path, workdir = images_file(tmp_path), tmp_path / 'run'
  flags = [task(path), '--learner=prototypical', *TINY, '--steps=4', f'--workdir={workdir}']
  done('train', *flags, '--episodes=30')
  record, values = compared(f'--workdir={workdir}', '--head=prototypical', '--head=ridge')
  own = np.load(workdir / 'episodes.npz')['accuracy']
  first = record['cells'][0]
  np.testing.assert_allclose(values[f'{first["task"]}/prototypical'], own, atol=1e-6)
  assert record['network'].startswith('conv4:width=4') and record['steps'] == 4
  transductive = [*flags[:1], '--learner=prototypical:protocol=transductive', *flags[2:-1]]
  other = f'--workdir={tmp_path / "other"}'
  assert run('train', *transductive, other)[0] == 0
  status, _, error = run('compare_heads', other, '--head=tim')
  assert status == 1 and 'does not embed examples one by one' in error


def test_images_are_no_features(tmp_path):
  flags = [task(images_file(tmp_path)), f'--workdir={tmp_path / "out"}', '--head=prototypical']
  error = refused(run('compare_heads', *flags))
  assert 'arrays has no table of features' in error
  assert not (tmp_path / 'out').exists()


def learner_of(spec):
  component = parse('learner', LEARNERS, spec, supplied=LEARNER_SUPPLIED)
  supplied = {'network': lambda _: identity, 'num_outputs': 5, 'num_classes': lambda: 9}
  return component, build(component, objective=cross_entropy, **supplied)


@pytest.mark.parametrize('name', HEADS)
def test_every_head_is_a_learner_of_its_name(name):
  """With the arguments of its factory, how features are normalised, and further losses."""
  component, learner = learner_of(f'{name}:protocol=inductive')
  assert {'how', 'losses'} < set(component.arguments)
  assert learner.protocol == page.protocol_of(name.replace('typical', 'types'))


def test_a_learner_may_have_further_losses_and_normalised_features():
  made = {how: learner_of(f'prototypical:how={how}')[1] for how in ('un', 'cl2n')}
  rng = np.random.default_rng(0)
  part = Examples(rng.normal(size=(20, 3)).astype(np.float32), np.tile(np.arange(5), 4))
  episode, key = Episode(part, part), roots(0).init
  head = {how: jax.eval_shape(learner.init, key, episode)['head'] for how, learner in made.items()}
  assert 'mean' in head['cl2n'] and 'mean' not in head['un']
  plain, more = (
    learner_of(f'prototypical:losses={each}')[1] for each in ('', 'icnn+proto_triplet')
  )
  params = {'body': {}, 'head': {}}

  @jax.jit
  def all_losses(episode):
    alone = icnn()(episode), proto_triplet(5)(episode), plain.loss(key, params, episode)[0]
    return alone, more.loss(key, params, episode)[0]

  alone, together = all_losses(episode)
  assert together == pytest.approx(np.mean(alone), rel=1e-5)
  with pytest.raises(ValueError, match="losses='triplet' is unknown; use icnn or proto_triplet"):
    learner_of('ridge:losses=triplet')


def test_a_pretrained_learner_has_classes_of_all_turns():
  learner = learner_of('pretrained:head=simpleshot,rotations=true')[1]
  part = Examples(np.zeros((5, 8, 8, 1), np.float32), np.arange(5))
  flat = Model(identity.init, lambda params, x, weight=None: x.reshape(len(x), -1))
  made = pretrained_learner(lambda _: flat, 5, cross_entropy, num_classes=lambda: 9, rotations=True)
  params = made.init(roots(0).init, Episode(part, part))
  assert params['layer']['kernel'].shape == (64, 36)
  assert learner.protocol == 'inductive'


def test_the_page_has_a_row_for_each_head_and_its_paper():
  text = page.listing()
  assert [line.split(']')[0][3:] for line in text.splitlines()[2:]] == heads.__all__
  assert '1912.03432' in paper_of(heads.mahalanobis)
  assert '2302.02334' in paper_of(heads.naive_bayes)


def test_a_record_becomes_a_table_and_a_stale_page_is_told(tmp_path):
  common = {'protocol': 'inductive', 'episodes': 50, 'ci95': 0.001}
  cells = [
    {**common, 'task': t, 'head': h, 'mean': m, 'difference': [d, 0.0005], 'seconds_per_1000': s}
    for t, h, m, d, s in [
      ('omniglot', 'ridge', 0.9, 0.0, 0.5),
      ('omniglot', 'svm', 0.91, 0.01, 7.0),
      ('glyphs', 'ridge', 0.8, 0.0, 0.6),
      ('glyphs', 'svm', 0.79, -0.01, 6.0),
    ]
  ]
  command = 'python -m experiments.compare_heads --head=ridge'
  record = {'row': 'Heads', 'cells': cells, 'split': 'test', 'device': 'cpu', 'command': command}
  lines = results(record).splitlines()
  first = '90.00 ± 0.10%, +0.00 ± 0.05', '80.00 ± 0.10%, +0.00 ± 0.05'
  assert lines[-11] == f'| `ridge` | {first[0]} | {first[1]} |'
  second = '91.00 ± 0.10%, +1.00 ± 0.05', '79.00 ± 0.10%, -1.00 ± 0.05'
  assert lines[-10] == f'| `svm` | {second[0]} | {second[1]} |'
  assert lines[-4:-2] == ['| `ridge` | 0.50 | 0.60 |', '| `svm` | 7.00 | 6.00 |']
  run = {'mean': 0.9, 'ci95': None, 'difference': [0.1, None]}
  assert score(run) == '90.00%, +10.00'
  folder = tmp_path / page.RESULTS
  folder.mkdir(parents=True)
  (folder / 'omniglot.json').write_text(json.dumps(record))
  keep(tmp_path, page.texts(tmp_path), check=False)
  keep(tmp_path, page.texts(tmp_path), check=True)
  (folder / 'omniglot.json').write_text(json.dumps(record | {'split': 'validation'}))
  with pytest.raises(ValueError, match=r'stale: metakit/heads/README.md; run python'):
    keep(tmp_path, page.texts(tmp_path), check=True)
  (folder / 'omniglot.json').write_text(json.dumps({'cells': cells}))
  with pytest.raises(ValueError, match=r'omniglot\.json lacks row or cells'):
    keep(tmp_path, page.texts(tmp_path), check=False)


def test_a_task_that_changes_its_examples_has_no_features_of_them():
  """Augmentation is for training alone; what test episodes change would be left out in silence."""
  source = few_shot(
    class_table(np.ones((40, 3), np.float32), np.arange(40) // 10), ways=2, queries=2
  )
  changed = source.replace(data=jax.numpy.asarray(source.data), finish=lambda episode: episode)
  features = SimpleNamespace(
    make_task=lambda component: SimpleNamespace(source=lambda split: changed),
    embed=lambda examples: examples,
  )
  of = embedded_once(features)
  component = parse('task', tasks_for('domains'), 'domains', supplied=TASK_SUPPLIED)
  assert of(component, 'train').finish is None
  with pytest.raises(ValueError, match='domains changes the examples of each episode'):
    of(component, 'test')
