"""No number of a command line is NaN, infinite, out of its range or too large for a device."""

import re

import pytest
from absl import flags

from experiments.command_line.checks import check_flags
from experiments.command_line.flags import define_name
from experiments.command_line.help import KINDS
from experiments.command_line.runtime import check_named
from experiments.runs.setup import make_optimizer
from metakit.components.descent_learners import make_inner_optimizer
from metakit.components.ranges import SIGNED
from metakit.components.specs import arguments_of, parse, write_spec
from metakit.keys import MAX_SEED


def is_number(default):
  return isinstance(default, int | float) and not isinstance(default, bool)


NUMBERS = [
  (kind, name, argument, parameter.default)
  for kind in KINDS
  for name, factory in kind.factories.items()
  for argument, parameter in arguments_of(factory, kind.supplied).items()
  if is_number(parameter.default)
]


def refused(kind, name, argument, value):
  with pytest.raises(ValueError) as error:
    read = parse(kind.title, kind.factories, f'{name}:{argument}={value}', supplied=kind.supplied)
    kind.factories[name](**{argument: read.arguments[argument]})  # may be a text, as widths may
  return str(error.value)


@pytest.mark.parametrize('value', ['nan', 'inf', '-inf', '1e39', str(10**39)])
def test_no_argument_is_what_a_device_cannot_hold(value):
  for kind, name, argument, default in NUMBERS:
    said = refused(kind, name, argument, value)
    assert f'{argument}=' in said, said
    is_whole = isinstance(default, int) and not value.isdigit()
    assert is_whole or 'not finite' in said or 'exceeds the largest' in said, said


def test_no_argument_is_negative_but_a_coordinate():
  for kind, name, argument, default in NUMBERS:
    if argument not in SIGNED and default >= 0:
      assert re.search(
        'is negative|is out of range|is not positive', refused(kind, name, argument, -1)
      )


@pytest.mark.parametrize(
  ('title', 'spec', 'rule'),
  [
    ('optimizers', 'adam:learning_rate=-1', 'learning_rate > 0'),
    ('optimizers', 'sgd:learning_rate=0', 'learning_rate > 0'),
    ('optimizers', 'adam:b1=2', '0 <= b1 < 1'),
    ('optimizers', 'adam:b2=1', '0 <= b2 < 1'),
    ('optimizers', 'sgd:momentum=1.5', '0 <= momentum < 1'),
    ('optimizers', 'rmsprop:decay=1', '0 <= decay < 1'),
    ('optimizers', 'adamw:weight_decay=-0.1', 'is negative; use '),
    ('optimizers', 'adamw:mask=1', "mask='1' is not of type NoneType"),
    ('learners', 'maml:inner_learning_rate=0', 'inner_learning_rate > 0'),
    ('learners', 'maml:test_steps=-1', 'is negative; use '),
    ('networks', 'mlp:depth=1000000', 'depth <= 1000'),
    ('schedules', 'cosine:final=1.5', '0 <= final <= 1'),
    ('tasks', 'projected:fixed_labels=1.1', '0 <= fixed_labels <= 1'),
    ('tasks', 'sinusoid:amplitude=-1..5', 'is negative; use '),
    ('tasks', 'sinusoid:amplitude=5..0.1', 'write the smaller number first'),
    ('tasks', 'sinusoid:phase=0..nan', 'not finite'),
  ],
)
def test_what_an_argument_may_be_is_said(title, spec, rule):
  kind = next(kind for kind in KINDS if kind.title == title)
  with pytest.raises(ValueError, match=r'.') as error:
    parse(title, kind.factories, spec, supplied=kind.supplied)
  assert rule in str(error.value)


def test_what_was_right_stays_right():
  """Every component as stored in full, and the ends of ranges."""
  for kind in KINDS:
    for name, factory in kind.factories.items():
      usual = {a: p.default for a, p in arguments_of(factory, kind.supplied).items()}
      assert (
        parse(kind.title, kind.factories, write_spec(name, usual), supplied=kind.supplied).arguments
        == usual
      )
  optimizers = next(kind for kind in KINDS if kind.title == 'optimizers')
  for spec in ('adam:b1=0,eps=0', 'optimistic_gradient_descent:beta=1.5', 'sgd:momentum=none'):
    assert parse('optimizer', optimizers.factories, spec).name


def test_an_inner_optimizer_and_a_clip_are_checked_too():
  with pytest.raises(ValueError, match='learning_rate > 0'):
    make_inner_optimizer('adam', -1.0)
  given = {'optimizer': 'adam', 'schedule': 'constant', 'steps': 2, 'clip_norm': float('nan')}
  with pytest.raises(ValueError, match='clip_norm=nan is not finite'):
    make_optimizer(given)


@pytest.mark.parametrize(('steps', 'warmup'), [(1, 0), (200, 19)])
def test_a_warm_up_as_long_as_the_training_names_the_remedy(steps, warmup):
  """Of a preset, say, that is tried for a step."""
  given = {'optimizer': 'adam', 'steps': steps, 'clip_norm': 0.0}
  remedy = f'cosine:warmup={warmup}'
  said = f'warmup=300 .* {steps} steps; use --steps above 300, or --schedule={remedy} '
  with pytest.raises(ValueError, match=said):
    make_optimizer({**given, 'schedule': 'cosine:warmup=300'})
  make_optimizer({**given, 'schedule': remedy})


@pytest.mark.parametrize('flag', ['task', 'test_task', 'learner', 'network', 'head'])
def test_an_empty_spec_is_not_taken_for_the_default(flag):
  """As of a variable of a shell that is not set."""
  values = flags.FlagValues()
  define = flags.DEFINE_multi_string if flag == 'head' else flags.DEFINE_string
  define(flag, None, '', flag_values=values)
  values(['binary'])
  check_named(values)
  values(['binary', f'--{flag}=maml'])
  check_named(values)
  kind = flag.removeprefix('test_')
  values.unparse_flags()
  values(['binary', f'--{flag}='])
  with pytest.raises(flags.IllegalFlagValueError, match=f'--{flag}= is empty; give a {kind}, or'):
    check_named(values)


@pytest.mark.parametrize(
  'name', ['/../../x', '../x', 'a/b', '..', '', 'a\nb', '.hidden', 'x' * 101]
)
def test_a_name_of_files_leads_to_no_other_folder(name):
  values = flags.FlagValues()
  define_name('evaluation', '', values)
  with pytest.raises(flags.IllegalFlagValueError, match='is part of file names'):
    values(['binary', f'--name={name}'])
  assert values(['binary', '--name=20way_v1.5']) == ['binary']


def parsed(argument):
  """Parses a flag of a command line, as a binary does."""
  values = flags.FlagValues()
  number = {'lower_bound': 0, 'flag_values': values}
  flags.DEFINE_float('save_minutes', 10.0, '', **number)
  flags.DEFINE_float('seconds', 300.0, '', upper_bound=1e6, **number)
  flags.DEFINE_float('learning_rate', 1e-3, '', flag_values=values)
  flags.DEFINE_integer('steps', 800, '', **number)
  flags.DEFINE_integer('seed', 0, '', upper_bound=MAX_SEED, **number)
  flags.DEFINE_list('widths', ['16', '32'], '', flag_values=values)
  flags.DEFINE_list('names', ['a', '1'], '', flag_values=values)
  values(['binary', argument])
  check_flags(values)
  return values


@pytest.mark.parametrize(
  ('argument', 'said'),
  [
    ('--save_minutes=nan', '--save_minutes=nan is not finite'),
    ('--seconds=nan', '--seconds=nan is not finite'),
    ('--save_minutes=inf', '--save_minutes=inf is not finite'),
    ('--learning_rate=-1', 'use learning_rate > 0'),
    (f'--steps={10**30}', 'exceeds the largest number on a device, 2147483647 (int32)'),
    (f'--widths={2**31}', 'exceeds the largest'),
  ],
)
def test_a_flag_is_checked(argument, said):
  with pytest.raises(flags.IllegalFlagValueError) as error:
    parsed(argument)
  assert said in str(error.value)


@pytest.mark.parametrize(
  'argument', ['--save_minutes=0', f'--steps={2**31 - 1}', f'--seed={MAX_SEED}', '--names=b']
)
def test_a_flag_in_its_range_is_taken(argument):
  assert parsed(argument)
