"""CLINC150 with passages beside each utterance, as a task."""

from experiments.components.class_parts import ClassParts, official
from metakit.data.clinc150 import clinc150
from metakit.data.files import check_choice
from metakit.data.parts import PARTS
from metakit.data.splits import join_parts
from metakit.data.table import ClassTable
from metakit.retrieval import with_passages

CORPORA = 'all', 'train'
SEED = 0  # of random passages


def passages_parts(
  data_dir: str,
  *,
  features: int = 1024,
  units: str = 'characters',
  k: int = 5,
  corpus: str = 'all',
  random: bool = False,
) -> ClassParts:
  """CLINC150 with passages: utterances of a corpus without labels, beside each utterance.

  Args:
    corpus: the utterances that passages are of: 'all' domains, those of tests among them, or those
      of training ('train').
    random: whether passages are drawn at random, to see what retrieval is worth.
  """
  check_choice('corpus', corpus, CORPORA)
  load = lambda part: clinc150(data_dir, part, features, units=units)

  def beside(part: str) -> ClassTable:
    parts = PARTS if corpus == 'all' else ('train',)
    bank = join_parts({each: load(each) for each in parts}).x
    return with_passages(load(part), bank, k, random=SEED if random else None)

  return official('clinc150_passages', beside)
