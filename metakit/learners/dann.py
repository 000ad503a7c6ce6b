"""DANN: features by which a classifier cannot tell domains apart.

Yaroslav Ganin, Evgeniya Ustinova, Hana Ajakan, Pascal Germain, Hugo Larochelle, François
Laviolette, Mario Marchand, Victor Lempitsky, Domain-Adversarial Training of Neural Networks, JMLR
17(59), 2016, arXiv:1505.07818. Implemented: gradient reversal (section 4). The classifier of
domains minimises its loss, and the features maximise it, beside the loss of the labels. Deviations:
there are many training domains and no target domain, as in domain generalisation (Gulrajani,
Lopez-Paz 2021, arXiv:2007.01434); the weight of the reversed gradient is a constant, without a
schedule.

Changes in a task: nothing.
"""

import jax
import jax.numpy as jnp

from metakit.absent import guarded
from metakit.keys import stream
from metakit.learners.adversary import check_adversary, domain_loss, domain_of
from metakit.learners.erm import erm
from metakit.models import Model, drawing, draws_of
from metakit.networks.last_layer import linear, with_last_layer
from metakit.networks.mlp import mlp
from metakit.objectives import cross_entropy
from metakit.types import Episode, Examples, Key, MetaLearner, Metrics, Objective, Params, join


def dann(
  embedding: Model,
  num_outputs: int,
  *,
  domains: int = 8,
  weight: float = 0.1,
  width: int = 64,
  objective: Objective = cross_entropy,
  statistics: str = 'training',
) -> MetaLearner:
  """Learns the queries of all domains from features that do not tell which domain it is.

  Args:
    embedding: x [examples, ...] -> features [examples, features].
    num_outputs: outputs, which mean the same in all domains.
    domains: training domains, as many as episode.info['domain'] [domains] bool tells apart.
    weight: of the reversed gradient beside that of the labels; 0 for none.
    width: units of the hidden layer of the classifier of domains.
    objective: loss of the labels.
    statistics: see metakit.learners.erm.

  Returns:
    A MetaLearner whose params are {'network', 'classifier'}. Its metric 'domain_accuracy' is that
    of the classifier in training. No label of the support has an effect; its inputs have one in
    training.

  Raises:
    ValueError: for fewer than two domains, a negative weight or statistics that do not fit; when
      the loss is traced, for episodes of no domain, or of other ones.

  >>> from metakit.networks import conv4
  >>> dann(conv4(), num_outputs=10).protocol
  'inductive'
  """
  check_adversary(domains, weight)
  whole, classifier = with_last_layer(embedding, num_outputs), mlp(domains, width, 1)
  plain = erm(whole, objective=objective, statistics=statistics)

  def init(key: Key, episode: Episode) -> Params:
    network = plain.init(stream(key, 'network'), episode)
    features = jnp.zeros((1, len(network['head']['kernel'])))
    return {'network': network, 'classifier': classifier.init(stream(key, 'domain'), features)}

  def loss(key: Key, params: Params, episode: Episode) -> tuple[jax.Array, Metrics]:
    domain, network = domain_of(episode.info, domains), params['network']
    both = join(*(Examples(part.x, None, part.weight) for part in episode[:2]))
    apply = drawing(embedding.apply, draws_of(embedding, key))
    z = apply(network['body'], both.x, weight=both.weight)
    of_query = linear(network['head'], z[-len(episode.query.y) :])
    value, metrics = objective(of_query, episode.query)
    against, told = domain_loss(
      classifier, params['classifier'], z, examples=both, domain=domain, weight=weight
    )
    return value + against, {**metrics, **told}

  def calibrate(params: Params, episodes: Episode) -> Params:
    return {**params, 'network': plain.calibrate(params['network'], episodes)}

  return guarded(
    plain._replace(
      init=init,
      adapt=lambda key, params, support: params['network'],
      loss=loss,
      calibrate=calibrate,
    ),
    unlabelled=True,
  )
