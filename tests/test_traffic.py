"""What a compiled program moves and sends: closed forms, and XLA's own count where it has one."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from metakit.devices import AXIS, task_mesh
from metakit.traffic import Sent, sent_bytes, traffic

X, W = np.ones((64, 32), np.float32), np.ones((32, 32), np.float32)


def compiled(function, *arguments):
  return jax.jit(function).lower(*arguments).compile()


def test_a_sum_over_devices_sends_its_operand_as_often_as_its_loop_runs():
  """Two devices have [3, 5] float32 each, 60 bytes, and sum them four times."""
  mesh = task_mesh(jax.devices()[:2])

  def shared(x):
    again = lambda x, _: (jax.lax.psum(jax.numpy.sin(x), AXIS), None)
    return jax.lax.scan(again, x, None, length=4)[0]

  spec = PartitionSpec(AXIS)
  wrapped = jax.shard_map(shared, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
  found = traffic(compiled(wrapped, np.ones((6, 5), np.float32)).as_text())
  assert found.collectives == {'all-reduce': Sent(4, 240)} and found.loops == (4,)
  assert sent_bytes(found.collectives, 2) == 240  # each sends half of it twice


@pytest.mark.parametrize(
  'kind, bytes_of_four',
  [
    ('all-reduce', 150),
    ('all-gather', 300),
    ('reduce-scatter', 75),
    ('all-to-all', 75),
    ('collective-permute', 100),
  ],
)
def test_devices_in_a_ring_send_parts(kind, bytes_of_four):
  assert sent_bytes({kind: Sent(2, 100)}, 4) == bytes_of_four
  assert sent_bytes({'all-reduce': Sent(2, 100)}, 1) == 0


def test_without_loops_it_is_the_count_of_xla():
  program = compiled(lambda x, w: np.float32(2) * (x @ w).sum(0), X, W)
  found = traffic(program.as_text())
  assert found.moved == program.cost_analysis()['bytes accessed'] and found.loops == ()


def test_a_loop_counts_as_often_as_it_runs():
  power = lambda n: lambda x, w: jax.lax.scan(lambda x, _: (x @ w, None), x, length=n)[0]
  moved = [traffic(compiled(power(n), X, W).as_text()).moved for n in (10, 20, 30)]
  round_of = X.nbytes * 2 + W.nbytes
  assert moved[2] - moved[1] == moved[1] - moved[0]
  # XLA may copy what goes round, and there is a counter.
  assert round_of <= (moved[1] - moved[0]) / 10 <= round_of + 2 * X.nbytes + 100


FUSED = """HloModule made
%fused (param_0: f32[100,8], param_1: s32[], param_2: f32[1,8]) -> (f32[1,8], f32[100,8]) {
  %param_0 = f32[100,8]{1,0} parameter(0)
  %param_1 = s32[] parameter(1)
  %param_2 = f32[1,8]{1,0} parameter(2)
  %zero = s32[] constant(0)
  %row = f32[1,8]{1,0} dynamic-slice(%param_0, %param_1, %zero), dynamic_slice_sizes={1,8}
  %new = f32[100,8]{1,0} dynamic-update-slice(%param_0, %param_2, %param_1, %zero)
  ROOT %both = (f32[1,8]{1,0}, f32[100,8]{1,0}) tuple(%row, %new)
}
%less (given: (s32[], f32[100,8])) -> pred[] {
  %given = (s32[], f32[100,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%given), index=0
  %last = s32[] constant(7)
  ROOT %lt = pred[] compare(%i, %last), direction=LT
}
%body (given: (s32[], f32[100,8])) -> (s32[], f32[100,8]) {
  %given = (s32[], f32[100,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%given), index=0
  %all = f32[100,8]{1,0} get-tuple-element(%given), index=1
  %one = f32[1,8]{1,0} constant({...})
  %part = (f32[1,8]{1,0}, f32[100,8]{1,0}) fusion(%all, %i, %one), kind=kLoop, calls=%fused
  %next = f32[100,8]{1,0} get-tuple-element(%part), index=1
  ROOT %pair = (s32[], f32[100,8]{1,0}) tuple(%i, %next)
}
ENTRY %main (x: (s32[], f32[100,8])) -> (s32[], f32[100,8]) {
  %x = (s32[], f32[100,8]{1,0}) parameter(0)
  ROOT %loop = (s32[], f32[100,8]{1,0}) while(%x), condition=%less, body=%body, \
backend_config={"known_trip_count":{"n":"7"}}
}
"""


def test_a_row_that_is_sliced_or_changed_in_place_is_not_the_whole_array():
  """Of each round: a row read, its number, a row given, a row written twice."""
  assert traffic(FUSED).moved == 7 * (32 + 4 + 32 + 32 + 32)
  assert traffic(FUSED.replace('"7"', '"70"')).moved == 10 * traffic(FUSED).moved


def test_a_program_for_a_tpu_has_the_condition_of_a_loop_alone():
  assert traffic(FUSED.replace('known_trip', '')).loops == traffic(FUSED).loops == (7,)
  assert traffic(FUSED.replace('known_trip', '').replace('constant(7)', 'constant(3)')).loops == (
    3,
  )


def test_a_loop_of_unknown_length_counts_once():
  unknown = FUSED.replace('known_trip', '').replace('direction=LT', 'direction=GT')
  assert traffic(unknown).loops == (1,)
  assert traffic(unknown.replace('condition=%less, ', '')).loops == (1,)


TILED = """HloModule made
ENTRY %main (x: f32[3,5]) -> f32[3,5] {
  %x = f32[3,5]{1,0:T(8,128)} parameter(0)
  %near = f32[3,5]{1,0:T(8,128)S(1)} copy(%x)
  ROOT %far = bf16[5,300]{0,1:T(8,128)(2,1)} custom-call(%near), custom_call_target="made"
}
"""


def test_tiles_count_with_their_padding_and_what_stays_on_the_chip_does_not():
  assert traffic(TILED).moved == 4 * 8 * 128 + 2 * 128 * 304  # of the second, axis 0 is fastest
  assert traffic(TILED, padded=False).moved == 4 * 15 + 2 * 1500


def test_a_text_that_is_no_program_is_refused():
  with pytest.raises(ValueError, match=r'no text of a compiled program; use compiled.as_text\(\)'):
    traffic('{}')
