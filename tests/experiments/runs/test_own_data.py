"""From a file of one's own to predictions on rows of a new task."""

import numpy as np
import pytest

import metakit
from tests.experiments.commands import TINY, done, refused, run

SHOPS = 8


def price(shop, size):
  return 1000 + 10 * shop + 2 * size


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """A finished run on a CSV file: (workdir, what it printed)."""
  folder = tmp_path_factory.mktemp('shops')
  rows = [(shop, size) for shop in range(SHOPS) for size in range(0, 90, 10)]
  lines = [f'shop {shop},{size},red,{price(shop, size)}' for shop, size in rows]
  (folder / 'x.csv').write_text('\n'.join(['shop,size,colour,price', *lines]))
  _, *tiny = TINY
  out = done(
    'train',
    f'--task=rows:{folder / "x.csv"},target=price,task=shop,shots=4,queries=4',
    '--learner=maml:inner_steps=1,inner_learning_rate=0.01',
    '--network=mlp:width=4,depth=1',
    '--optimizer=sgd:learning_rate=0.001,momentum=0.9',
    '--steps=4',
    '--curve=none',
    *tiny,
    f'--workdir={folder / "work"}',
  )
  return folder / 'work', out


def test_rows_of_a_new_task_become_predictions_in_the_units_of_the_file(trained):
  learner = metakit.load(trained[0])
  rows = [{'size': size, 'colour': 'red'} for size in (5, '25', 45.0, 65)]
  targets = [price(9, float(row['size'])) for row in rows]
  fitted = learner.adapt(rows, targets)
  found = fitted.predict([[30, 'red'], [35, 'green']])
  assert found.shape == (2,) and (abs(found - 1100) < 300).all()  # not of mean 0
  again = learner.adapt(rows[:2], targets[:2]).extend(rows[2:], targets[2:])
  np.testing.assert_allclose(again.predict([[30, 'red'], [35, 'green']]), found, rtol=1e-5)
  with pytest.raises(ValueError, match="row 0 of x lacks column 'colour'; this"):
    fitted.predict([{'size': 5}])


def test_the_names_of_the_tasks_are_in_the_record(trained):
  record = metakit.load(trained[0]).card
  assert record['metric'] == 'loss' and record['mean'] < 20  # of targets of variance 1


def test_a_csv_file_of_rows_is_predicted_as_a_user_does(trained):
  work, _ = trained
  lines = ['size,colour,price', *[f'{size},red,{price(9, size)}' for size in (5, 25, 45, 65)]]
  (work / 'support.csv').write_text('\n'.join(lines))
  (work / 'query.csv').write_text('colour,size\nred,30\ngreen,35')
  output = work / 'predictions.csv'
  files = [f'--{name}={work / name}.csv' for name in ('support', 'query')]
  command = ['predict', f'--workdir={work}', *files, '--label=price', f'--output={output}']
  done(*command)
  found = [float(line.split(',')[-1]) for line in output.read_text().splitlines()[1:]]
  assert len(found) == 2 and all(abs(value - 1100) < 300 for value in found)
  (work / 'query.csv').write_text('size\n30')
  error = refused(run(*command, '--overwrite'))
  assert "query.csv has no column 'colour'; it has size; this learner was trained on rows" in error
