"""What a user can mend is one line."""

import pytest

from experiments.runtime import BAD_INPUT, one_line_errors


@pytest.mark.parametrize(('said', 'line'), [('', 'MemoryError'), ('no\nroom', 'no room')])
def test_no_memory_is_one_line(capsys, said, line):
  with pytest.raises(SystemExit) as end, one_line_errors(*BAD_INPUT):
    raise MemoryError(said)
  assert end.value.code == 1
  assert capsys.readouterr().err.startswith(f'error: out of memory ({line}); use ')
