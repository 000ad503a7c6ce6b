"""When a training stops to save: by the clock, which starts anew with every save."""

from metakit.interruptions import interruptions


def test_a_save_is_due_after_so_many_seconds_and_not_again_before_as_many():
  now = [100.0]
  with interruptions(60, lambda: now[0]) as stop:
    due = []
    for seconds in (100, 159, 160, 161):
      now[0] = seconds
      due.append(stop.due())
    assert due == [False, False, True, True] and not stop.preempted()
    stop.saved()
    due = []
    for seconds in (162, 220, 221):
      now[0] = seconds
      due.append(stop.due())
    assert due == [False, False, True]


def test_zero_seconds_are_never_over():
  now = [0.0]
  with interruptions(0, lambda: now[0]) as stop:
    now[0] = 1e9
    assert not stop.due()
