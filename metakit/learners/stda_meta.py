"""STDA-Meta: MAML whose features do not tell which source domain they are of.

Maoxiang Sun, Weilong Ding, Tianpu Zhang, Zijian Liu, Mengda Xing, STDA-Meta: A Meta-Learning
Framework for Few-Shot Traffic Prediction, 2023, arXiv:2310.20223. Implemented: the initialisation
is meta-learned on source domains as by MAML, and adversarial to a classifier of domains behind a
layer that reverses the gradient (metakit.learners.dann). Deviations: any network in place of the
spatio-temporal one; the classifier tells source domains apart and sees no target domain, of which
nothing is known in training here; its loss is of the initialisation, before the inner steps.

Changes in a task: the network.
"""

import jax
import jax.numpy as jnp

from metakit.absent import guarded
from metakit.keys import stream
from metakit.learners.adversary import check_adversary, domain_loss, domain_of
from metakit.learners.descent import Descent, by_descent
from metakit.models import Model, drawing, draws_of
from metakit.networks.last_layer import with_last_layer
from metakit.networks.mlp import mlp
from metakit.objectives import cross_entropy
from metakit.types import Episode, Examples, Key, MetaLearner, Metrics, Objective, Params, join


def stda_meta(
  embedding: Model,
  num_outputs: int,
  descent: Descent,
  *,
  domains: int = 8,
  weight: float = 0.1,
  width: int = 64,
  objective: Objective = cross_entropy,
  statistics: str | None = None,
) -> MetaLearner:
  """MAML from an initialisation whose features do not tell which training domain it is.

  Args:
    embedding: x [examples, ...] -> features [examples, features].
    num_outputs: outputs of the task.
    descent: how it descends on the labelled support, with an optimizer.
    domains: training domains, as many as episode.info tells apart (see metakit.learners.adversary).
    weight: of the reversed gradient beside that of the queries; 0 is MAML.
    width: units of the hidden layer of the classifier of domains.
    objective: loss of the inner steps and of the queries.
    statistics: see metakit.learners.descent.

  Returns:
    A MetaLearner whose params are {'network', 'classifier'}, and whose fitted are the adapted
    parameters of the network. Its metric 'domain_accuracy' is that of the classifier in training.

  Raises:
    ValueError: for fewer than two domains, a negative weight, or a descent or statistics that do
      not fit; when the loss is traced, for episodes of no domain, or of other ones.

  >>> import optax
  >>> from metakit.networks import mlp
  >>> stda_meta(mlp(), 1, Descent(optax.sgd(0.1)), domains=4).protocol
  'inductive'
  """
  check_adversary(domains, weight)
  whole, classifier = with_last_layer(embedding, num_outputs), mlp(domains, width, 1)

  def init(key: Key, episode: Episode) -> Params:
    network = whole.init(stream(key, 'network'), episode.support.x)
    features = jnp.zeros((1, len(network['head']['kernel'])))
    return {'network': network, 'classifier': classifier.init(stream(key, 'domain'), features)}

  maml = by_descent(
    whole,
    descent,
    objective=objective,
    statistics=statistics,
    init=init,
    split=lambda params, support: (params['network'], {}),
  )

  def loss(key: Key, params: Params, episode: Episode) -> tuple[jax.Array, Metrics]:
    domain = domain_of(episode.info, domains)
    value, metrics = maml.loss(key, params, episode)
    both = join(*(Examples(part.x, None, part.weight) for part in episode[:2]))
    apply = drawing(embedding.apply, draws_of(embedding, key))
    z = apply(params['network']['body'], both.x, weight=both.weight)
    against, told = domain_loss(
      classifier, params['classifier'], z, examples=both, domain=domain, weight=weight
    )
    return value + against, {**metrics, **told}

  return guarded(maml._replace(loss=loss))
