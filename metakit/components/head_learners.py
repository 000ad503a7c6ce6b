"""Heads as components, and as learners: a network that embeds, and a head that classifies."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp

from metakit import heads
from metakit.components.descent_learners import (
  check_classifies,
  in_words_of_specs,
  statistics_of,
)
from metakit.components.docstrings import document, meanings, summary
from metakit.components.specs import Factories, build, parse
from metakit.learners.embedded import embedded
from metakit.learners.pretrained import pretrained
from metakit.losses import icnn, proto_triplet, with_losses
from metakit.models import Model
from metakit.types import MetaLearner, Objective, Params

HEAD_SUPPLIED = ('num_outputs', 'objective')
LOSSES: dict[str, Callable[[int], Any]] = {
  'icnn': lambda ways: icnn(),
  'proto_triplet': proto_triplet,
}
QUARTER_TURNS = [partial(jnp.rot90, k=turns, axes=(1, 2)) for turns in range(4)]  # of images


def head_component(make: Callable[..., MetaLearner]) -> Callable[..., MetaLearner]:
  """Returns the factory of a head, whose arguments a spec may set.

  Two arguments are added. `how` says how features are normalised (metakit.heads.normalised), unless
  the head has an argument of this name. `losses` names losses that training adds, joined by +.
  """
  takes = inspect.signature(make).parameters

  def head(
    num_outputs: int,
    objective: Objective,
    how: str = 'un',
    losses: str | None = None,
    **given: Any,
  ) -> MetaLearner:
    check_classifies(make.__name__, objective)
    extra = {'objective': objective, 'how': how}
    plain = make(num_outputs, **given, **{k: v for k, v in extra.items() if k in takes})
    normal = plain if how == 'un' or 'how' in takes else heads.normalised(plain, how)
    chosen = [named_loss(name, num_outputs) for name in (losses or '').split('+') if name]
    return with_losses(normal, chosen) if chosen else normal

  usual = {k: p for k, p in inspect.signature(head).parameters.items() if p.kind != p.VAR_KEYWORD}
  parameters = {name: p for name, p in takes.items() if name not in ('ways', 'objective')}
  _keep_signature(head, usual | parameters)
  said = {'how': meanings(heads.normalised)['how'], 'losses': meanings(named_loss)['name']}
  document(head, summary(make), said | meanings(make))
  return head


def named_loss(name: str, ways: int) -> Any:
  """Returns a loss of features.

  Args:
    name: losses that training adds, icnn or proto_triplet, joined by +.
    ways: classes of an episode.
  """
  if name not in LOSSES:
    raise ValueError(f'losses={name!r} is unknown; use {" or ".join(LOSSES)}, joined by +')
  return LOSSES[name](ways)


def on_network(head: Callable[..., MetaLearner]) -> Callable[..., MetaLearner]:
  """Returns the factory of a learner with such a head; `protocol` is that of the network."""

  def learner(
    network: Callable[[int | None], Model],
    num_outputs: int,
    objective: Objective,
    protocol: str = 'inductive',
    **given: Any,
  ) -> MetaLearner:
    classifier = head(num_outputs, objective, **given)
    with in_words_of_specs():
      return embedded(network(None), classifier, statistics_of(protocol))

  usual = inspect.signature(learner).parameters
  kept = {name: p for name, p in usual.items() if p.kind != p.VAR_KEYWORD}
  _keep_signature(learner, kept | dict(inspect.signature(head).parameters))
  document(
    learner, summary(head), meanings(head) | {'protocol': meanings(pretrained_learner)['protocol']}
  )
  return learner


def _keep_signature(function: Any, parameters: dict[str, inspect.Parameter]) -> None:
  named = [p.replace(kind=p.KEYWORD_ONLY) for p in parameters.values()]
  function.__signature__ = inspect.Signature(named)


# `normalised` is the argument `how`; the learner of the head `prototypes` has its paper's name.
HEADS: Factories = {
  'prototypical' if name == 'prototypes' else name: head_component(getattr(heads, name))
  for name in heads.__all__
  if name != 'normalised'
}


def no_teacher() -> None:
  """None: for a training that learns from labels alone."""


def pretrained_learner(
  network: Callable[[int | None], Model],
  num_outputs: int,
  objective: Objective,
  *,
  num_classes: Callable[[], int],
  head: str = 'prototypical',
  how: str | None = None,
  until: int | None = None,
  cosine: bool = True,
  scale: float = 16.0,
  rotations: bool = False,
  turning: float = 0.0,
  alpha: float = 0.5,
  temperature: float = 4.0,
  protocol: str = 'inductive',
  teacher: Callable[[], Params | None] = no_teacher,
) -> MetaLearner:
  """Ordinary training on all training classes, which episodes may follow; then any head.

  With `rotations`, every quarter turn of a training class is a class of its own (self-supervised
  label augmentation, Lee et al. 2020). With `turning`, how often an image is turned is a task
  beside the classes (Gidaris et al. 2019). Both are for data whose classes are not turned already,
  such as omniglot:rotations=false. With --teacher it learns from the answers of an earlier run too
  (self-distillation, Tian et al. 2020).

  Args:
    head: name of the head of test episodes: any other learner that is a head.
    how: how features are normalised for the head; none for its usual way.
    until: steps of ordinary training, before those on episodes; none for all steps.
    cosine: whether the last layer compares directions alone (normalised softmax).
    scale: factor of the cosines.
    rotations: whether quarter turns of training images are further classes.
    turning: weight of telling quarter turns apart beside the classes; 0 for none.
    alpha: weight of the labels beside a --teacher, whose answers have the weight 1 - alpha.
    temperature: of the answers of a --teacher and its student.
    protocol: protocol of the network, 'inductive' or 'transductive'.
    teacher: () -> the params to learn from too, or None. No spec can set it.
  """
  if rotations and turning:
    raise ValueError('rotations=true and turning are two uses of quarter turns; use one of them')
  classifier = build(
    parse('head', HEADS, f'{head}:how={how}' if how else head, supplied=HEAD_SUPPLIED),
    num_outputs=num_outputs,
    objective=objective,
  )
  with in_words_of_specs():
    return pretrained(
      network(None),
      classifier,
      num_classes(),
      until=until,
      cosine=cosine,
      scale=scale,
      transforms=QUARTER_TURNS if rotations or turning else (),
      auxiliary=turning or None,
      teacher=teacher(),
      alpha=alpha,
      temperature=temperature,
      statistics=statistics_of(protocol),
    )


BY_HEAD: Factories = {name: on_network(head) for name, head in HEADS.items()}
BY_HEAD = {**BY_HEAD, 'pretrained': pretrained_learner}
