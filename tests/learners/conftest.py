"""Laws run row by row: what the program of a row computed is kept for that row alone."""

from pathlib import Path

from tests.learners.rows import LEARNERS

LAWS = Path(__file__).with_name('test_laws.py')


def pytest_collection_modifyitems(items):
  places = [i for i, item in enumerate(items) if item.path == LAWS]
  numbers = {name: number for number, name in enumerate(LEARNERS)}
  row = lambda item: numbers[item.callspec.params['name']] if hasattr(item, 'callspec') else -1
  for place, item in zip(places, sorted((items[i] for i in places), key=row), strict=True):
    items[place] = item
