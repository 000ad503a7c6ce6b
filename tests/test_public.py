"""What a bare `import metakit` offers: everything public, and nothing before it is asked for."""

import ast
import doctest
import importlib
import importlib.metadata
import inspect
import pkgutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import metakit

PACKAGE = Path(metakit.__file__).parent
ROOT = Path(__file__).parents[1]


def test_every_public_name_is_reached_from_metakit_alone():
  """In a process of its own: elsewhere modules are there because others imported them."""
  program = """
    import sys
    import metakit
    late = [name for name in ('flax', 'optax', 'orbax', 'PIL') if name in sys.modules]
    assert not late, late
    assert set(metakit.__all__) <= set(dir(metakit))
    for name in reversed(metakit.__all__):
      assert getattr(metakit, name) is getattr(metakit, name) is not None
    assert callable(metakit.evaluate) and callable(metakit.evaluation.judge_gain)
    assert callable(metakit.episodes.few_shot) and callable(metakit.heads.prototypes)
  """
  command = [sys.executable, '-c', textwrap.dedent(program)]
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr


def test_only_what_is_public_is_listed():
  others = {name for name in dir(metakit) if not name.startswith('__')} - set(metakit.__all__)
  assert not others and '__version__' in dir(metakit)


def test_a_module_that_was_imported_first_hides_no_function():
  for name in metakit.__all__:
    module = PACKAGE / f'{name}.py'
    assert not (module.exists() and callable(getattr(metakit, name))), name


# Functions that take more than three arguments by position, with the reason.
BY_POSITION = {
  'the values that make a training, in the order of the README': (
    *('train.init_state', 'train.init_state_for', 'training.begin', 'dispatch.make_dispatch'),
  ),
  'like jax.random': ('episodes.draws.uniform', 'episodes.draws.integers'),
  'a Judge: see metakit.evaluation': (
    *('evaluation.judges.judge_queries', 'evaluation.judges.judge_prefixes'),
    *('evaluation.judges.judge_gain', 'evaluation.judges.judge_meta_gradient'),
    *('evaluation.ranking.judge_roc_auc', 'evaluation.orders.log_density'),
    *('evaluation.in_context.judge_regret', 'evaluation.densities.judge_density'),
  ),
  'a learner, and then what its own functions take': (
    *('evaluation.in_context.regret', 'evaluation.judges.predict_prefixes'),
  ),
  'the update of an InnerOptimizer': ('learners.maml_plus_plus.update',),
}


def public_functions():
  """All functions and methods of the library without an underscore, by their dotted names."""
  for found in pkgutil.walk_packages(metakit.__path__, 'metakit.'):
    module = importlib.import_module(found.name)
    for name, value in vars(module).items():
      if name.startswith('_') or getattr(value, '__module__', None) != found.name:
        continue
      dotted = f'{found.name}.{name}'.removeprefix('metakit.')
      if not inspect.isclass(value) and callable(value):
        yield dotted, value, 3
      elif inspect.isclass(value):
        methods = {m: f for m, f in vars(value).items() if inspect.isfunction(f) and m[0] != '_'}
        yield from ((f'{dotted}.{method}', function, 4) for method, function in methods.items())


def test_arguments_after_the_third_have_names():
  by_position = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
  found, looked_at = set(), 0
  for name, function, most in public_functions():
    parameters = inspect.signature(function).parameters.values()
    looked_at += 1
    if sum(each.kind in by_position for each in parameters) > most:
      found.add(name)
  assert looked_at > 300
  assert found == {name for names in BY_POSITION.values() for name in names}


def used_by(tree):
  """The dotted names that a file imports, and the attributes that it takes of them."""
  bound = {
    alias.asname or alias.name: f'{node.module}.{alias.name}'
    for node in ast.walk(tree)
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
  }
  yield from bound.values()
  for node in ast.walk(tree):
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
      yield f'{bound.get(node.value.id)}.{node.attr}'


def test_arguments_after_the_third_have_names_in_what_commands_share():
  """Of the functions of experiments and launch that another file uses."""
  trees = {
    file.relative_to(ROOT).with_suffix('').as_posix().replace('/', '.'): ast.parse(file.read_text())
    for room in ('experiments', 'launch', 'tests')
    for file in (ROOT / room).rglob('*.py')
  }
  used = {name for tree in trees.values() for name in used_by(tree)}
  functions = {
    f'{module}.{node.name}': node.args
    for module, tree in trees.items()
    for node in tree.body
    if isinstance(node, ast.FunctionDef) and module.split('.')[0] != 'tests'
  }
  shared = {name: arguments for name, arguments in functions.items() if name in used}
  assert len(shared) > 200
  assert not {name for name, a in shared.items() if len(a.posonlyargs + a.args) > 3}


# Examples that read data sets, which not every machine has, or that draw for seconds.
NOT_RUN = {f'data.{name}' for name in ('clinc150', 'mnist', 'omniglot', 'omniglot_runs')}
NOT_RUN |= {f'data.{name}' for name in ('cifar100', 'cifar_fs', 'fc100', 'mini_imagenet')}
NOT_RUN |= {'data.fashion_mnist', 'data.kmnist', 'data.glyphs', 'data.tfds_table'}


def factories():
  """The functions that metakit, or `__all__` of one of its packages, names; dotted names."""
  reached = {name: getattr(metakit, name) for name in metakit.__all__}
  packages = {name: value for name, value in reached.items() if hasattr(value, '__all__')}
  for package, module in packages.items():
    reached |= {f'{package}.{name}': getattr(module, name) for name in module.__all__}
  return {name: value for name, value in reached.items() if inspect.isfunction(value)}


def examples_of(function):
  return doctest.DocTestParser().get_examples(inspect.getdoc(function) or '')


def test_every_public_function_has_an_example_with_a_result():
  """pytest --doctest-modules runs them."""
  examples = {name: examples_of(function) for name, function in factories().items()}
  assert len(examples) > 100 and {'load', 'heads.ridge', 'evaluation.calibrate'} <= set(examples)
  lacking = sorted(name for name, each in examples.items() if not any(e.want for e in each))
  assert not lacking, 'their docstrings need an example, with a result that a reader learns from'
  skipped = {n for n, each in examples.items() if any(doctest.SKIP in e.options for e in each)}
  assert skipped == NOT_RUN


def test_an_unknown_name_is_an_attribute_error():
  with pytest.raises(AttributeError, match="'metakit' has no attribute 'maml'"):
    metakit.maml  # noqa: B018
  assert not hasattr(metakit, '_nothing')


def test_the_version_is_that_of_the_package():
  assert metakit.__version__ == importlib.metadata.version('metakit')
  assert (PACKAGE / 'py.typed').is_file()


MISTAKES = {
  'metakit.init_state(learner, optimizer, key, 3)': 'Sampler',
  'metakit.make_dispatch(learner, optimizer, train, keys, 4)': 'positional arguments',
  'metakit.episodes.few_shot(table, way=5)': 'way',
  'metakit.evaluate(learner, key)': 'evaluate',
  'metakit.make_train': 'make_train',
}


@pytest.mark.slow
def test_a_wrong_argument_is_an_error_of_types(tmp_path):
  """As an editor sees it, which has the packages as they are installed."""
  api = pytest.importorskip('mypy.api')
  known = """
    import jax, optax
    import metakit
    def f(
      learner: metakit.MetaLearner,
      optimizer: optax.GradientTransformation,
      key: jax.Array,
      keys: metakit.Roots,
      train: metakit.EpisodeSource,
      table: metakit.data.ClassTable,
    ) -> None:
      state = metakit.init_state(learner, optimizer, key, train)
      dispatch = metakit.make_dispatch(learner, optimizer, train, keys, tasks_per_step=4)
      state, _ = dispatch(3, state)
      metakit.episodes.relabel(lambda key: train(key), ways=5)
  """
  file = tmp_path / 'user.py'
  right = textwrap.dedent(known).strip()
  file.write_text('\n'.join([right, *(f'  {line}' for line in MISTAKES)]))
  said, _, _ = api.run([str(file), '--ignore-missing-imports', '--no-error-summary'])
  first = len(right.splitlines()) + 1
  for number, word in enumerate(MISTAKES.values(), first):
    lines = [line for line in said.splitlines() if f'user.py:{number}:' in line]
    assert any(word in line for line in lines), (number, said)
  assert not [line for line in said.splitlines() if int(line.split(':')[1]) < first], said
