r"""Predicts your own examples with a trained learner, which first learns from a few of each class.

  python -m experiments.predict --workdir=runs/mine --support=photos --query=new \
      --output=predictions.csv
  python -m experiments.predict --workdir=runs/intents --support=known.csv --query=asked.csv \
      --output=predictions.csv --label=intent

Pictures: the support is a folder with a folder a class, the query a folder of pictures. If those
lie in folders of the names of classes, the accuracy is said. Or both are CSV files with the columns
path (beside the file) and label. Texts: CSV files with the columns text and label. Numbers: CSV
files with a column for each number, and label; columns called id, name, path, file or text only
name the rows. A query may leave out the label, or some of the labels.

The output has a line for each query: its class, the probability, and a column for each class. In a
regression it has the predicted numbers. A page with the pictures is written beside it (.html).
"""

from absl import flags

from experiments.command_line.flags import options_of_flags
from experiments.command_line.runtime import run
from experiments.runs.predict import Options, predict
from metakit.keys import MAX_SEED

if __name__ == '__main__':
  flags.DEFINE_string(
    'workdir',
    None,
    'the trained learner: the folder of a run, one of its checkpoints, a .safetensors file, or a '
    'name of metakit.zoo.names()',
    required=True,
  )
  flags.DEFINE_string(
    'support', None, 'examples to learn from: a folder or a CSV file', required=True
  )
  flags.DEFINE_string('query', None, 'examples to predict: a folder or a CSV file', required=True)
  flags.DEFINE_string('output', 'predictions.csv', 'CSV file to write; its page ends in .html')
  flags.DEFINE_bool('overwrite', False, 'replace an output that exists')
  flags.DEFINE_list(
    'label', ['label'], 'column of the label in CSV files; of a regression, one for each number'
  )
  flags.DEFINE_integer(
    'seed', 0, 'of learners that draw at random', lower_bound=0, upper_bound=MAX_SEED
  )
  run(lambda: predict(options_of_flags(Options)), __doc__)
