"""Networks as Models; the only place that defines Linen modules."""

from metakit.networks.conv4 import conv4
from metakit.networks.mlp import mlp
from metakit.networks.recurrent import recurrent
from metakit.networks.resnet12 import resnet12
from metakit.networks.transformer import transformer

__all__ = ['conv4', 'mlp', 'recurrent', 'resnet12', 'transformer']
