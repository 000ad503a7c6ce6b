import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from metakit import roots, task_key
from metakit.costs import collectives, product_flops
from metakit.devices import AXIS, PARALLEL, spread, spread_table, task_mesh
from metakit.dispatch import make_dispatch, train_until
from metakit.divergence import NonFiniteLoss, check_finite
from metakit.learners import prototypical
from metakit.models import identity
from metakit.sources import gather_rows, on_host, place
from metakit.train import TrainState, init_state, make_train_step
from metakit.types import Episode, Examples
from tests import tiny

TASKS = 8
ROOTS = roots(0)
# Never Adam: it hides a gradient that is too large by a constant factor. With momentum, so that
# there is a state to lose.
SGD = optax.sgd(0.05, momentum=0.9)
# The same is quick for another row: batch statistics, an inner loop, and what draws.
DEAR = pytest.mark.slow


@functools.cache
def first_state(learner, optimizer):
  make = jax.jit(lambda: init_state(learner, optimizer, ROOTS.init, tiny.source()))
  return jax.device_get(make())


def start(learner, optimizer=SGD, parallel='none'):
  """A state of the test's own, since a dispatch donates it; where each dispatch leaves it."""
  return spread(jax.tree.map(np.array, first_state(learner, optimizer)), parallel)


tiny_source = functools.cache(tiny.source)


@functools.cache
def dispatch_of(name, parallel='none', on_device=True):
  """One for all tests that need nothing else; they ask for `AT_ONCE` steps, one program."""
  learner, source = tiny.learners()[name], tiny_source(on_device)
  return make_dispatch(learner, SGD, source, ROOTS, tasks_per_step=TASKS, parallel=parallel)


AT_ONCE = 2


@functools.cache
def trained(name, parallel, steps=20):
  """The state after so many steps, and the metrics of each."""
  dispatch, data = dispatch_of(name, parallel), tiny_source().data
  state, metrics = start(tiny.learners()[name], parallel=parallel), []
  for _ in range(steps // AT_ONCE):
    state, each = dispatch.sampled(AT_ONCE, state, data)
    metrics.append(each)
  return state, jax.tree.map(lambda *parts: np.concatenate(parts), *metrics)


def steps(stop, at_a_time):
  """Arguments of train_until from step 0."""
  report = lambda *_: None
  return {'first': 0, 'stop': stop, 'steps_per_dispatch': at_a_time, 'on_metrics': report}


def assert_close(a, b, tolerance=2e-6):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance), a, b)


def test_the_meta_gradient_is_the_mean_over_tasks_one_by_one():
  learner, source = tiny.learners()['maml'], tiny.source()
  state = start(learner)
  keys = [task_key(ROOTS.train, 0, i) for i in range(3)]
  whole = jax.jit(lambda k: gather_rows(source.plan(k), source.data))
  episodes = [whole(k) for k in keys]
  gradient = jax.jit(jax.grad(lambda p, k, e: learner.loss(k, p, e)[0]))
  one_by_one = [gradient(state.params, k, e) for k, e in zip(keys, episodes, strict=True)]
  mean = jax.tree.map(lambda *g: sum(map(np.asarray, g)) / 3, *one_by_one)
  expected = jax.tree.map(lambda p, g: np.asarray(p) - 0.05 * g, state.params, mean)
  batch = jax.tree.map(lambda *leaves: np.stack(leaves), *episodes)
  after, _ = jax.jit(make_train_step(learner, SGD))(state, jnp.stack(keys), batch)
  assert_close(after.params, expected)
  assert after.step == 1


def test_tasks_in_groups_are_the_tasks_at_once():
  learner, source = tiny.learners()['drawing'], tiny.source()
  after = lambda at_once: jax.tree.leaves(
    make_dispatch(learner, SGD, source, ROOTS, tasks_per_step=TASKS, tasks_at_once=at_once).sampled(
      4, start(learner), source.data
    )
  )
  usual = jax.tree.leaves(trained('drawing', 'none', 4))
  for at_once in (1, 4):
    assert_close(after(at_once), usual, 1e-5)


@pytest.mark.parametrize('at_once', [0, 3, 16])
def test_groups_that_do_not_divide_the_tasks_are_refused(at_once):
  learner, source = tiny.learners()['mlp'], tiny.source()
  match = f'tasks_at_once={at_once} does not divide the 8 tasks of a device; use a divisor'
  with pytest.raises(ValueError, match=match):
    make_dispatch(learner, SGD, source, ROOTS, tasks_per_step=TASKS, tasks_at_once=at_once)


@pytest.mark.parametrize(
  ('parallel', 'name'),
  [
    *(('shard_map', 'prototypical'), ('shard_map', 'drawing'), ('pmap', 'drawing')),
    *(pytest.param('shard_map', name, marks=DEAR) for name in ('maml', 'in_context')),
    *(pytest.param('pmap', name, marks=DEAR) for name in ('prototypical', 'maml', 'in_context')),
  ],
)
def test_eight_devices_equal_one(name, parallel):
  one, metrics = trained(name, 'none')
  eight, spread_metrics = trained(name, parallel)
  assert jax.device_count() == 8
  assert_close(eight.params, one.params)
  assert_close(spread_metrics, metrics, 1e-5)


@pytest.mark.parametrize(
  'name', ['prototypical', *(pytest.param(n, marks=DEAR) for n in ('maml', 'in_context'))]
)
def test_eight_devices_do_no_more_work_than_one(name):
  """Matrix products of all devices together: what is not shared out would be done eight times."""
  learner, source = tiny.learners()[name], tiny_source()

  def work(parallel):
    sampled = dispatch_of(name, parallel).sampled
    state = start(learner, parallel=parallel)
    return product_flops(lambda state: sampled(AT_ONCE, state, source.data), state)

  assert work('shard_map') == work('none') > 0


def test_compiled_step_gathers_nothing():
  learner, sampled = tiny.learners()['maml'], dispatch_of('maml', 'shard_map').sampled
  state = start(learner, parallel='shard_map')
  text = sampled.lower(AT_ONCE, state, tiny_source().data).compile().as_text()
  assert collectives(text) == {'all-reduce': 1}


@DEAR  # the fault that tests/faults plants is caught above
def test_a_planted_gradient_that_is_summed_over_devices_is_caught(monkeypatch):
  """With check_vma, shard_map sums gradients with respect to what all devices share."""
  checked = lambda *given, check_vma, **more: SHARD_MAP(*given, **more)
  monkeypatch.setattr(jax, 'shard_map', checked)
  learner, source = tiny.learners()['maml'], tiny.source()
  dispatch = make_dispatch(learner, SGD, source, ROOTS, tasks_per_step=TASKS, parallel='shard_map')
  planted, _ = dispatch.sampled(AT_ONCE, start(learner), source.data)
  with pytest.raises(AssertionError):
    assert_close(planted.params, trained('maml', 'none', AT_ONCE)[0].params)


SHARD_MAP = jax.shard_map


def test_a_planted_task_axis_that_the_partitioner_splits_is_caught():
  """Kernels of each task's own under vmap: the partitioner gathers those of all devices."""
  tasks = NamedSharding(task_mesh(jax.devices()), PartitionSpec(AXIS))
  given = jnp.ones((TASKS, 4, 8, 8, 3)), jnp.ones((TASKS, 3, 3, 3, 5))
  layer = lambda x, kernel: jax.lax.conv_general_dilated(
    x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )
  step = jax.jit(jax.vmap(layer), in_shardings=(tasks, tasks), out_shardings=tasks)
  assert collectives(step.lower(*given).compile().as_text())['all-gather'] > 0


def test_one_dispatch_of_many_steps_equals_many_dispatches():
  learner, source, dispatch = tiny.learners()['mlp'], tiny_source(), dispatch_of('mlp')
  together, _ = dispatch.sampled(6, start(learner), source.data)
  apart = start(learner)
  for _ in range(3):
    apart, _ = dispatch.sampled(2, apart, source.data)
  assert_close(together, apart, 1e-6)


@pytest.mark.parametrize(
  ('parallel', 'stop'),
  [('none', 5), pytest.param('pmap', 4, marks=DEAR), ('shard_map', 4)],
)
def test_training_from_the_host_equals_training_from_the_device(parallel, stop):
  learner = tiny.learners()['drawing']
  ends = []
  for on_device in (True, False):
    dispatch = dispatch_of('drawing', parallel, on_device)
    seen = []
    record = lambda first, metrics, seen=seen: seen.append((first, len(metrics['loss'])))
    ends.append(
      train_until(
        dispatch,
        start(learner, parallel=parallel),
        tiny_source(on_device),
        first=0,
        stop=stop,
        steps_per_dispatch=AT_ONCE,
        on_metrics=record,
      )
    )
    assert seen == [(0, 2), (2, 2), (4, 1)][: -(-stop // 2)]
  assert_close(*ends, 1e-6)


@pytest.mark.parametrize('parallel', [pytest.param('none', marks=DEAR), 'shard_map'])
def test_a_call_trains_on_the_source_of_its_own(parallel, monkeypatch):
  """With a table on the device, on the host, and one that is too large for the device."""
  learner = tiny.learners()['drawing']
  sharing = {'tasks_per_step': TASKS, 'parallel': parallel}
  ends = [trained('drawing', parallel, 4)]
  for on_device, budget in ((True, 0), (False, 1 << 30), (False, 0)):
    monkeypatch.setattr('metakit.dispatch.place', functools.partial(place, budget_bytes=budget))
    dispatch = dispatch_of('drawing', parallel, on_device)
    if budget:
      dispatch = make_dispatch(learner, SGD, tiny_source(False), ROOTS, **sharing)
    assert on_host(dispatch.placed()) == (not on_device and budget == 0)
    state, first = dispatch(AT_ONCE, start(learner, parallel=parallel))
    state, last = dispatch(AT_ONCE, state)
    ends.append((state, jax.tree.map(lambda a, b: np.concatenate([a, b]), first, last)))
  for end in ends[1:]:
    assert_close(end, ends[0], 1e-5)


def test_a_sampler_of_whole_episodes_trains_as_a_source_does():
  learner, source = tiny.learners()['mlp'], tiny_source()
  sampler = lambda key: source(key)
  expected = dispatch_of('mlp')(AT_ONCE, start(learner))
  dispatch = make_dispatch(learner, SGD, sampler, ROOTS, tasks_per_step=TASKS)
  first = jax.jit(lambda: init_state(learner, SGD, ROOTS.init, sampler))()
  assert_close(dispatch(AT_ONCE, first), expected, 1e-6)


def test_a_table_is_an_argument_of_what_is_compiled():
  """Never a constant of the program, which would hold a copy of it."""
  learner, source, dispatch = tiny.learners()['mlp'], tiny_source(), dispatch_of('mlp')
  lowered = dispatch.sampled.lower(AT_ONCE, start(learner), source.data)
  assert 'tensor<96x8x8x1xui8>' in lowered.as_text().partition(') ->')[0]  # among the arguments
  constants = [line for line in lowered.as_text().splitlines() if 'constant' in line]
  assert constants and not any('96x8x8x1' in line for line in constants)


every_way = pytest.mark.parametrize(
  'parallel', [pytest.param(p, marks=[DEAR] * (p == 'shard_map')) for p in PARALLEL]
)


@pytest.fixture
def compilations():
  """Counts programs that are compiled."""
  seen = []
  note = lambda event, seconds, **_: seen.append(event) if 'backend_compile' in event else None
  jax.monitoring.register_event_duration_secs_listener(note)
  yield seen
  jax.monitoring.unregister_event_duration_listener(note)


@every_way
def test_nothing_is_compiled_or_sent_to_a_device_after_the_first_dispatch(parallel, compilations):
  learner, counts, dispatch = tiny.learners()['mlp'], [], dispatch_of('mlp', parallel)
  source = spread_table(tiny_source(), parallel)
  jax.jit(lambda: 0)()
  assert compilations  # it counts

  def counted(*given):
    result = dispatch.sampled(*given)
    counts.append(len(compilations))
    return result

  state = start(learner, parallel=parallel)  # as a run that continues
  counting = dispatch._replace(sampled=counted)
  train_until(counting, state, source, **steps(12, AT_ONCE))  # raises if something is sent
  assert counts[0] == counts[-1] and len(counts) == 6


def test_a_table_that_each_dispatch_would_send_is_refused():
  learner, source, dispatch = tiny.learners()['mlp'], tiny_source(), dispatch_of('mlp')
  sent = dispatch._replace(
    sampled=lambda n, state, data: dispatch.sampled(n, state, np.asarray(data))
  )
  with pytest.raises(jax.errors.JaxRuntimeError, match='Disallowed host-to-device transfer'):
    train_until(sent, start(learner), source, **steps(4, AT_ONCE))


@every_way
def test_the_state_is_donated(parallel):
  states, sampled = [start(tiny.learners()['mlp'])], dispatch_of('mlp', parallel).sampled
  states = jax.tree.map(jnp.array, states)
  for _ in range(2):  # the first is on one device, the second where the first call left it
    states.append(sampled(AT_ONCE, states[-1], tiny_source().data)[0])
  assert all(leaf.is_deleted() for leaf in jax.tree.leaves(states[:2]))


def test_every_task_and_step_has_a_learner_key_of_its_own():
  learner, source = tiny.learners()['mlp'], tiny.source()
  draw = jax.random.uniform
  drawing = learner._replace(loss=lambda k, p, e: (learner.loss(k, p, e)[0], {'drawn': draw(k)}))
  dispatch = make_dispatch(drawing, SGD, source, ROOTS, tasks_per_step=TASKS)
  _, metrics = dispatch.sampled(3, start(learner), source.data)
  one = lambda step, i: draw(task_key(ROOTS.learner, step, i))
  drawn = jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))(np.arange(3), np.arange(TASKS))
  expected = np.mean(drawn, axis=1)
  np.testing.assert_allclose(metrics['drawn'], expected, rtol=1e-6)


@DEAR  # steps by hand are quick
def test_training_lowers_the_loss():
  learner, source = tiny.learners()['mlp'], tiny.source()
  adam = optax.adam(1e-2)
  dispatch = make_dispatch(learner, adam, source, ROOTS, tasks_per_step=TASKS)
  _, metrics = dispatch.sampled(40, start(learner, adam), source.data)
  assert metrics['loss'][-5:].mean() < 0.7 * metrics['loss'][:5].mean()


def test_a_loss_that_is_not_finite_names_its_steps():
  learner, source = tiny.learners()['maml'], tiny.source()
  huge = optax.sgd(1e30)
  dispatch = make_dispatch(learner, huge, source, ROOTS, tasks_per_step=TASKS)
  with pytest.raises(NonFiniteLoss, match=r'diverges at steps 1 to 4; .* or lower the outer'):
    train_until(dispatch, start(learner, huge), source, **steps(20, 5))


def test_a_single_bad_step_is_named_alone():
  metrics = {'loss': np.array([1.0, 2.0, 3.0]), 'gradient_norm': np.array([1.0, np.inf, 1.0])}
  with pytest.raises(NonFiniteLoss, match=r'not finite at step 11;'):
    check_finite(10, metrics)
  with pytest.raises(NonFiniteLoss, match='the inner loop diverges at step 11; lower the inner'):
    check_finite(10, metrics | {'adaptation_norm': np.array([1.0, np.inf, 1.0])})
  with pytest.raises(NonFiniteLoss, match=r'the gradient is not finite at step 11; .*eps_root'):
    check_finite(10, metrics | {'adaptation_norm': np.ones(3)})
  with pytest.raises(NonFiniteLoss, match='the loss or its gradient'):
    bad = {'adaptation_norm': np.ones(3), 'loss': np.array([1.0, np.nan, 1.0])}
    check_finite(10, metrics | bad)
  check_finite(10, metrics | {'gradient_norm': np.ones(3)})


def of_mlp(source, **sharing):
  return make_dispatch(tiny.learners()['mlp'], SGD, source, ROOTS, **sharing)


@pytest.mark.parametrize('tasks, parallel', [(12, 'pmap'), (4, 'shard_map'), (0, 'none')])
def test_tasks_that_cannot_be_spread_are_refused(tasks, parallel):
  source = tiny.source()
  with pytest.raises(ValueError, match=f'tasks_per_step={tasks}'):
    of_mlp(source, tasks_per_step=tasks, parallel=parallel)


def test_an_unknown_way_to_map_is_refused():
  with pytest.raises(ValueError, match='none, pmap, shard_map'):
    of_mlp(tiny.source(), tasks_per_step=8, parallel='xmap')


def test_a_schedule_plans_each_step():
  """Its step is the training step, in every dispatch, and `plan` is for all else."""
  marked = lambda step: lambda key: tiny.source().plan(key)._replace(info=step)
  source = tiny.source().replace(schedule=marked)
  dispatch = of_mlp(source, tasks_per_step=TASKS)
  np.testing.assert_array_equal(dispatch.plan(3, 5).info, np.repeat([[5], [6], [7]], TASKS, axis=1))


def test_gradients_of_many_tasks_are_summed_in_float32():
  """In bfloat16 a sum no longer grows beyond 256 times what is added."""
  episode = Episode(*2 * [Examples(np.zeros((1, 1), np.float32), np.zeros(1, np.int32))])
  learner = prototypical(identity, 2)._replace(
    loss=lambda key, params, episode: (params['w'], {}),
  )
  tasks = jax.tree.map(lambda leaf: np.repeat(leaf[None], 512, 0), episode)
  keys = jax.jit(jax.vmap(lambda i: task_key(roots(0).learner, 0, i)))(np.arange(512))
  optimizer, params = optax.sgd(1.0), {'w': jnp.zeros((), jnp.bfloat16)}
  state = TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))
  state, _ = jax.jit(make_train_step(learner, optimizer, tasks_at_once=1))(state, keys, tasks)
  assert state.params['w'] == -1 and state.params['w'].dtype == jnp.bfloat16


def test_the_outer_optimizer_keeps_its_state():
  """Two steps with momentum by hand; the loss has the slope 1 everywhere."""
  learner = tiny.learners()['mlp']._replace(loss=lambda key, params, e: (params['w'], {}))
  params = {'w': jnp.zeros(())}
  state = TrainState(jnp.zeros((), jnp.int32), params, SGD.init(params))
  dispatch = make_dispatch(learner, SGD, tiny.source(), ROOTS, tasks_per_step=TASKS)
  state, _ = dispatch.sampled(2, state, tiny.source().data)
  np.testing.assert_allclose(state.params['w'], -0.05 * (1 + 1.9), rtol=1e-6)


def test_every_step_plans_its_own_tasks():
  source = tiny.source()
  planned, plan = dispatch_of('mlp').plan(AT_ONCE, 5), jax.jit(source.plan)
  for row, step in enumerate((5, 6)):
    for i in (0, 7):
      expected = plan(task_key(ROOTS.train, step, i))
      np.testing.assert_array_equal(planned.support.x[row, i], expected.support.x)
      np.testing.assert_array_equal(planned.query.x[row, i], expected.query.x)
