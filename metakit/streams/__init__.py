"""Streams: tasks that arrive one after the other, and what learning each of them takes."""

from metakit.streams.events import Event, Stream, error_of, make_stream
from metakit.streams.made import made_stream
from metakit.streams.running import Log, run_stream
from metakit.streams.strategies import (
  Learned,
  Strategy,
  adapting,
  dynamic_knn,
  independent,
  meta_initialised,
  previous,
)
from metakit.streams.tuning import Tuning

__all__ = [
  'Event',
  'Learned',
  'Log',
  'Strategy',
  'Stream',
  'Tuning',
  'adapting',
  'dynamic_knn',
  'error_of',
  'independent',
  'made_stream',
  'make_stream',
  'meta_initialised',
  'previous',
  'run_stream',
]
