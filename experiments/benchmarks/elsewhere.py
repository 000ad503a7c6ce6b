"""Calls in a process of its own, where a peer runs with its own threads and settings alone."""

import contextlib
import multiprocessing
from collections.abc import Callable, Mapping
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

Calls = Mapping[str, Callable[[], Any]]


def elsewhere(make: Callable[..., Calls], *arguments: Any) -> dict[str, Callable[..., Any]]:
  """Returns the calls that a function makes in another process, by their names.

  A call returns when it is done: None, or what was computed, as arrays, if it gets show=True.

  Args:
    make: of a module, so that the other process finds it.
    arguments: its arguments, which are copied.

  Raises:
    ChildProcessError: if the other process fails; it has said why.
  """
  ours, theirs = multiprocessing.Pipe()
  spawn = multiprocessing.get_context('spawn')
  spawn.Process(target=serve, args=(theirs, make, arguments), daemon=True).start()
  theirs.close()  # so that it ends here when it ends there

  def ask(name: str | None, show: bool = False) -> Any:
    try:
      ours.send((name, show))
      return ours.recv()
    except (EOFError, OSError):
      raise ChildProcessError(f'the process of {make.__module__} has failed, see above') from None

  return {name: partial(ask, name) for name in ask(None)}


def serve(connection: Connection, make: Callable[..., Calls], arguments: tuple[Any, ...]) -> None:
  """Answers requests until the connection is closed."""
  calls = make(*arguments)
  with contextlib.suppress(EOFError):
    while True:
      name, show = connection.recv()
      if name is None:
        connection.send(list(calls))
        continue
      result = calls[name]()
      connection.send(arrays(result) if show else None)


def arrays(result: Any) -> Any:
  """Returns numbers, arrays or tensors in lists, tuples and mappings as arrays in them."""
  if isinstance(result, Mapping):
    return {name: arrays(each) for name, each in result.items()}
  if isinstance(result, list | tuple):
    return [arrays(each) for each in result]
  return np.asarray(result.detach() if hasattr(result, 'detach') else result)
