"""Heads as components: each is a learner whose network embeds and whose head classifies."""

import inspect
from collections.abc import Callable
from typing import Any

from experiments.descent_learners import check_classifies
from experiments.specs import Factories
from metakit import heads
from metakit.learners.embedded import embedded
from metakit.models import Model
from metakit.types import MetaLearner, Objective

SUPPLIED = ('ways', 'objective')


def on_network(head: Callable[..., MetaLearner]) -> Callable[..., MetaLearner]:
  """Returns the factory of a learner with such a head, whose arguments a spec may set.

  Beside the head's own there are `protocol`, of the network (metakit.learners.embedded), and `how`
  features are normalised (metakit.heads.normalised) unless the head has an argument of this name.
  """
  takes = inspect.signature(head).parameters

  def learner(
    network: Callable[[int | None], Model],
    num_outputs: int,
    objective: Objective,
    protocol: str = 'inductive',
    **given: Any,
  ) -> MetaLearner:
    check_classifies(head.__name__, objective)
    how = 'un' if 'how' in takes else given.pop('how')
    given |= {'objective': objective} if 'objective' in takes else {}
    made = head(num_outputs, **given)
    return embedded(network(None), made if how == 'un' else heads.normalised(made, how), protocol)

  own = [p for p in inspect.signature(learner).parameters.values() if p.kind != p.VAR_KEYWORD]
  if 'how' not in takes:
    how = inspect.Parameter('how', inspect.Parameter.KEYWORD_ONLY, default='un', annotation=str)
    own.append(how)
  settable = [p for name, p in takes.items() if name not in SUPPLIED]
  learner.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [p.replace(kind=p.KEYWORD_ONLY) for p in (*own, *settable)]
  )
  return learner


# `prototypical` is the learner of the head `prototypes`; `normalised` is the argument `how`.
BY_HEAD: Factories = {
  name: on_network(getattr(heads, name))
  for name in heads.__all__
  if name not in ('prototypes', 'normalised')
} | {'prototypical': on_network(heads.prototypes)}
