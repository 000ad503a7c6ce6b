"""The platform that functions are traced for, which may be one that this process does not have."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import jax

_TARGET: ContextVar[str | None] = ContextVar('platform', default=None)


def target_platform() -> str:
  """Returns the platform that functions are traced for; see `compiling_for`."""
  return _TARGET.get() or jax.default_backend()


@contextlib.contextmanager
def compiling_for(name: str) -> Iterator[None]:
  """Within the block, functions are traced for devices that this process does not have."""
  token = _TARGET.set(name)
  try:
    yield
  finally:
    _TARGET.reset(token)
