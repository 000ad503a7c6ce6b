"""Time series as tasks: windows of the past, and what follows."""

import numpy as np
import pytest

from experiments.components.tasks import TASKS
from metakit.components.specs import build, parse
from metakit.data.series import series
from tests.data.real import real_data

WIDE = 'day,oslo_t,rome_t,oslo_wind\n' + ''.join(f'{d},{d},{100 + d},x\n' for d in range(11))


def written(folder, text=WIDE):
  (folder / 'x.csv').write_text(text)
  return folder / 'x.csv'


def test_windows_of_a_series_are_followed_by_their_targets(tmp_path):
  table = series(written(tmp_path), '*_t', past=3, future=2)
  assert table.names == ('oslo_t', 'rome_t') and table.counts.tolist() == [2, 2]
  assert table.x.tolist() == [[0, 1, 2], [5, 6, 7], [100, 101, 102], [105, 106, 107]]
  assert table.y.tolist() == [[3, 4], [8, 9], [103, 104], [108, 109]]
  closer = series(tmp_path / 'x.csv', 'oslo_t+rome*', past=3, stride=1)
  assert closer.counts.tolist() == [8, 8] and closer.x[1].tolist() == [1, 2, 3]
  assert closer.encoding == {'names': ['t-3', 't-2', 't-1']}


def test_series_may_stand_one_below_the_other_and_have_gaps(tmp_path):
  rows = [f'{place},{d if (place, d) != ("b", 2) else ""}' for d in range(8) for place in 'ab']
  table = series(written(tmp_path, '\n'.join(['place,t', *rows])), 't', series='place', past=1)
  assert table.names == ('a', 'b') and table.counts.tolist() == [4, 3]
  assert table.x[:, 0].tolist() == [0, 2, 4, 6, 0, 4, 6]
  assert (table.y == table.x + 1).all()


MISTAKES = {
  'no columns': ({}, 'which columns are series. columns=._temp, say, of .day., .oslo_t., .rome_t'),
  'no such columns': ({'columns': '*_rain'}, "no column '._rain' .*; use columns=COLUMN"),
  'no numbers': ({'columns': 'oslo*'}, "row 1 has 'x' in column 'oslo_wind', which is a series"),
  'too long windows': (
    {'columns': '*_t', 'past': 11},
    'oslo_t, rome_t without a window of',
  ),
  'no past': ({'columns': '*_t', 'past': 0}, 'past=0 is not positive'),
  'several columns of values': ({'columns': '*_t', 'series': 'day'}, 'has to be one column'),
  'no series': ({'columns': 'rome_t', 'series': 'town'}, "no column 'town' .*; use series=COLUMN"),
}


@pytest.mark.parametrize('mistake', MISTAKES)
def test_a_mistake_gets_one_line(tmp_path, mistake):
  arguments, said = MISTAKES[mistake]
  with pytest.raises(ValueError, match=said) as error:
    series(written(tmp_path), **arguments)
  assert '\n' not in str(error.value)


def test_weather_stations_are_tasks_and_none_is_in_two_parts():
  path = real_data('weather_europe') / 'weather_prediction_dataset.csv.gz'
  spec = f'series:{path},columns=*_temp_mean,past=5,future=2'
  task = build(parse('task', TASKS, spec), data_dir='', budget=1e9)
  tables = [task.table(part) for part in ('train', 'validation', 'test')]
  stations = [name for table in tables for name in table.names]
  assert len(stations) == len(set(stations)) > 15 and 'OSLO_temp_mean' in stations
  assert {count for table in tables for count in table.counts.tolist()} == {3654 // 7}
  np.testing.assert_allclose([tables[0].x.std(), tables[0].y.std()], 1, rtol=1e-3)
  assert (task.num_outputs, tables[2].y.shape[1]) == (2, 2)
  assert 'examples of 5 columns (t-5, t-4, t-3, t-2, t-1) in 18 tasks (522 each)' in task.said()
