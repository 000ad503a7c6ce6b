"""A classifier of domains whose gradient is reversed, and what learners know of a domain.

Yaroslav Ganin et al., Domain-Adversarial Training of Neural Networks, JMLR 17(59), 2016,
arXiv:1505.07818, section 4.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from metakit.models import Model
from metakit.objectives import weighted_mean
from metakit.types import Examples, Metrics, Params

NO_DOMAIN = (
  'training episodes do not say of which domain they are; use task domains, or sampler one_domain, '
  'without mixed episodes'
)


def domain_of(info: Any, domains: int, argument: str = 'domains') -> jax.Array:
  """Returns [domains] bool, True at the domain of an episode.

  Args:
    info: that of the episode. It has 'domain' [domains] bool, or 'task' [] int, as the episodes of
      a table of regressions do.
    domains: how many there should be.
    argument: what the learner calls their number, for messages.

  Raises:
    ValueError: if the episode does not say of which domain it is, or of other ones.

  >>> domain_of({'domain': jnp.array([False, True])}, domains=2).tolist()
  [False, True]
  >>> domain_of({'task': jnp.array(0)}, domains=2).tolist()
  [True, False]
  """
  known = info if isinstance(info, dict) else {}
  if 'domain' in known:
    domain = jnp.asarray(known['domain'])
    if len(domain) != domains:
      raise ValueError(
        f'{argument}={domains}, and training is on {len(domain)} domains; use '
        f'{argument}={len(domain)}'
      )
    return domain
  if 'task' not in known:
    raise ValueError(NO_DOMAIN)
  task = known['task']
  if not isinstance(task, jax.core.Tracer) and int(task) >= domains:
    raise ValueError(
      f'{argument}={domains}, and an episode is of task {int(task)}; use {argument}>{int(task)}'
    )
  return jnp.arange(domains) == task


def reverse(x: jax.Array, weight: float) -> jax.Array:
  """Returns x, with the gradient -weight.

  >>> float(reverse(jnp.array(3.0), 0.5)), float(jax.grad(reverse)(3.0, 0.5))
  (3.0, -0.5)
  """

  @jax.custom_jvp
  def same(x: jax.Array) -> jax.Array:
    return x

  same.defjvp(lambda primals, tangents: (primals[0], -weight * tangents[0]))
  return same(x)


def domain_loss(
  classifier: Model,
  params: Params,
  z: jax.Array,
  *,
  examples: Examples,
  domain: jax.Array,
  weight: float,
) -> tuple[jax.Array, Metrics]:
  """Returns the cross-entropy of a classifier of domains, whose gradient is reversed in z.

  Args:
    classifier: features -> logits [examples, domains].
    params: of the classifier.
    z: features [examples, width].
    examples: those that the features are of, whose weights say which of them count.
    domain: [domains] bool, see `domain_of`.
    weight: of the reversed gradient.

  Returns:
    The loss in nats, and 'domain_accuracy', a fraction.

  >>> from metakit.models import identity
  >>> z, domain = jnp.zeros((3, 2)), jnp.array([False, True])
  >>> examples = Examples(z, None)
  >>> loss, _ = domain_loss(identity, {}, z, examples=examples, domain=domain, weight=1.0)
  >>> print(f'{loss:.4f}')  # log 2
  0.6931
  """
  logits = classifier.apply(params, reverse(z, weight))
  logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
  losses = -jnp.where(domain, jax.nn.log_softmax(logits), 0).sum(-1)
  hits = (logits.argmax(-1) == domain.argmax()).astype(logits.dtype)
  mean = lambda values: weighted_mean(values, examples.weight)
  return mean(losses), {'domain_accuracy': mean(hits)}


def check_adversary(domains: int, weight: float) -> None:
  """Raises ValueError for fewer than two domains, or a weight that makes no sense.

  >>> check_adversary(domains=2, weight=0.0)
  """
  if domains < 2:
    raise ValueError(f'domains={domains} leaves nothing to tell apart; use 2 or more')
  if not 0 <= weight < math.inf:
    raise ValueError(f'weight={weight} of the reversed gradient is negative; use weight>=0')
