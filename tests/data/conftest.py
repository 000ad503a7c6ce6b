import pytest


@pytest.fixture
def cache(tmp_path_factory, monkeypatch):
  """Keeps decoded tables in a folder of the test."""
  folder = tmp_path_factory.mktemp('cache')
  monkeypatch.setenv('XDG_CACHE_HOME', str(folder))
  return folder
