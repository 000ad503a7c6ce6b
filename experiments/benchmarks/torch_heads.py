"""EasyFSL's heads with their own settings, as its evaluation calls them: an episode at a time."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from experiments.benchmarks.packages import without_packages

CLASSES = {  # its class, and the module that it is in
  'PrototypicalNetworks': 'prototypical_networks',
  'SimpleShot': 'simple_shot',
  'BDCSPN': 'bd_cspn',
  'LaplacianShot': 'laplacian_shot',
  'TIM': 'tim',
  'Finetune': 'finetune',
  'TransductiveFinetuning': 'transductive_finetuning',
  'PTMAP': 'pt_map',
}


def easyfsl_heads(*episodes: np.ndarray) -> Mapping[str, Callable[[], Any]]:
  """Returns the heads by their names. A call returns scores [episodes, queries, ways].

  Args:
    episodes: support [episodes, examples, features], its labels [episodes, examples], and queries
      [episodes, queries, features].
  """
  support, labels, query = map(torch.from_numpy, episodes)
  tensors = support, labels.long(), query
  return {
    f'EasyFSL, {name}': partial(
      _judge, getattr(without_packages(f'easyfsl.methods.{module}'), name)(), tensors
    )
    for name, module in CLASSES.items()
  }


def _judge(head: Any, episodes: tuple[torch.Tensor, ...]) -> torch.Tensor:
  scores = []
  with torch.no_grad():
    for support, labels, query in zip(*episodes, strict=True):
      head.process_support_set(support, labels)
      scores.append(head(query))
  return torch.stack(scores)
