"""What suites compare with: packages that may be missing, and processes of their own."""

import functools
import math
import os
import sys

import jax
import numpy as np
import pytest

from experiments.benchmarks import packages
from experiments.benchmarks.elsewhere import arrays, elsewhere
from experiments.benchmarks.suites import in_context, peers
from metakit.networks.transformer import transformer


def test_a_missing_package_is_said_once_with_its_remedy(monkeypatch, capsys):
  monkeypatch.setitem(packages.PACKAGES, 'no_such_package', ('no-such', 'pip install no-such'))
  packages.installed.cache_clear()
  assert packages.installed('json')
  assert not packages.installed('no_such_package') and not packages.installed('no_such_package')
  said = 'note: no-such is not installed, so its cases are left out; pip install no-such\n'
  assert capsys.readouterr().err == said
  assert 'no_such_package' not in packages.versions_of_peers()


def test_a_module_is_imported_without_what_its_packages_import(monkeypatch, tmp_path):
  inner = tmp_path / 'made_up' / 'inner'
  inner.mkdir(parents=True)
  for folder in (inner.parent, inner):
    (folder / '__init__.py').write_text('import what_is_missing\n')
  (inner.parent / 'other.py').write_text('VALUE = 3\n')
  (inner / 'base.py').write_text('VALUE = 4\n')
  module = 'from made_up.other import VALUE as one\nfrom .base import VALUE as two\n'
  (inner / 'module.py').write_text(module)
  monkeypatch.syspath_prepend(tmp_path)
  for _ in range(2):  # the second time its packages are there
    found = packages.without_packages('made_up.inner.module')
    assert (found.one, found.two) == (3, 4)
  assert packages.without_packages('made_up.inner.base').VALUE == 4
  with pytest.raises(ModuleNotFoundError, match=r'no package made_up\.outer'):
    packages.without_packages('made_up.outer.module')
  for name in [name for name in sys.modules if name.startswith('made_up')]:
    del sys.modules[name]


def test_calls_run_in_a_process_of_their_own():
  """What makes the calls is dict, which another process has without an import."""
  roots = {'root': functools.partial(math.sqrt, 2.0), 'of less': functools.partial(math.sqrt, -1)}
  calls = elsewhere(dict, {'process': os.getpid, **roots})
  assert list(calls) == ['process', 'root', 'of less']
  assert calls['process'](show=True) not in (os.getpid(), None)
  assert calls['root'](show=True) == 2**0.5 and calls['root']() is None
  with pytest.raises(ChildProcessError, match='the process of builtins has failed, see above'):
    calls['of less']()
  with pytest.raises(ChildProcessError, match='has failed'):  # and it is gone
    calls['root']()


def test_what_is_computed_elsewhere_comes_back_as_arrays():
  value = arrays({'a': (1.0, [np.float32(2)]), 'b': np.arange(3)})
  assert value['a'][1][0].dtype == np.float32 and value['a'][0] == 1.0
  np.testing.assert_array_equal(value['b'], [0, 1, 2])


def test_heads_that_score_otherwise_are_not_timed():
  scores = np.array([[[1.0, 0.5], [0.2, 0.4]]])
  peers.check_scores('a', scores + 0.005, scores)
  with pytest.raises(AssertionError, match=r'a has other scores, by 0\.02 of the largest'):
    peers.check_scores('a', scores + 0.02, scores)
  classes = scores.argmax(-1)
  peers.check_scores('a', classes, classes)
  with pytest.raises(AssertionError, match='a has other scores'):
    peers.check_scores('a', classes[:, ::-1], classes)
  with pytest.raises(AssertionError, match='a has other scores'):
    peers.check_scores('a', np.nan * scores, scores)


def test_agreement_is_the_share_of_the_same_classes():
  logits = np.array([[[1.0, 0.5], [0.2, 0.4], [0.0, 1.0], [0.3, 0.1]]])  # classes 0, 1, 1, 0
  assert peers.agreement_of(logits, logits - 3) == 1
  assert peers.agreement_of(logits, np.array([[0, 1, 0, 0]])) == 0.75
  assert peers.agreement_of(logits, -logits) == 0


def test_a_question_sees_the_examples_before_its_own_and_itself():
  examples = 5
  reads = examples - 1
  for token in range(reads):
    assert not in_context.unseen(examples)[token, : token + 1].any()
    assert in_context.unseen(examples)[token, token + 1 :].all()
  for question in range(examples):
    seen = np.flatnonzero(~in_context.unseen(examples)[reads + question])
    assert seen.tolist() == [*range(question), reads + question]


def test_steps_that_differ_are_not_timed():
  right = {'a': np.array([3.0, 4.0]), 'b': np.zeros(2)}
  wrong = right | {'a': np.array([3.0, 4.05])}
  in_context.check_step('it', (1.0, right), (1.0, dict(reversed(right.items()))))
  with pytest.raises(AssertionError, match=r'it: the loss is 1, not 1\.1'):
    in_context.check_step('it', (1.0, right), (1.1, right))
  with pytest.raises(AssertionError, match=r'it: the gradient is another one, by 0\.01 of'):
    in_context.check_step('it', (1.0, wrong), (1.0, right))


@pytest.mark.slow
def test_steps_of_pytorch_have_the_losses_and_gradients_of_ours():
  pytest.importorskip('torch')
  episodes = in_context._episodes(3, 7, 4)
  network = transformer(in_context.WAYS, 8, 2, heads=in_context.HEADS)
  learners = {
    name: in_context.in_context(network, in_context.WAYS, name.removeprefix('train, '))
    for name in in_context.PYTORCH
  }
  cases = in_context._of_pytorch(learners, episodes, width=8, depth=2)
  assert [case.number for case in cases] == [3 * 7 * 2, 3 * 7]
  assert all(case.peer and case.call() is None for case in cases)


@pytest.mark.slow
def test_parameters_in_the_layout_of_pytorch_are_all_of_them():
  learner = in_context.in_context(transformer(10, 8, 2), 10)
  first = jax.tree.map(lambda leaf: leaf[0], in_context._episodes(1, 3, 4))
  params = learner.init(jax.random.key(0), first)
  turned = in_context.in_torch_layout(params)
  count = lambda leaves: sum(np.size(leaf) for leaf in leaves)
  assert count(turned.values()) == count(jax.tree.leaves(params))
  assert turned['blocks.layers.1.self_attn.in_proj_weight'].shape == (24, 8)
