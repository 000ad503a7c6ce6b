"""A real disk that is too small."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
  """Mounts a disk of that size in `folder`; skips the test if this user may not."""
  disk = folder / 'disk'
  disk.mkdir()
  mount = ['mount', '-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', str(disk)]
  if subprocess.run(mount, capture_output=True).returncode:
    pytest.skip('this test mounts a small disk, which this user may not')
  try:
    yield disk
  finally:
    subprocess.run(['umount', '-l', disk], check=True)
