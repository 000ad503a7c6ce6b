"""Learners as estimators of scikit-learn: pip install 'metakit[sklearn]'.

from metakit.estimators import FewShotClassifier, TabularClassifier
FewShotClassifier().fit(features, labels)  # numbers, such as the features of any network
FewShotClassifier('prototypical:distance=cosine').fit(features, labels)  # by another head
FewShotClassifier('omniglot-prototypical').fit(pictures, labels)  # a name of the zoo
FewShotClassifier(metakit.load('runs/mine')).fit(pictures, labels)
TabularClassifier().fit(frame, labels)  # a table: numbers, categories, missing cells

They work in pipelines, searches and cross-validation.
"""

try:
  import sklearn as _  # noqa: F401
except ModuleNotFoundError as error:
  raise ImportError(
    "metakit.estimators needs scikit-learn; pip install 'metakit[sklearn]'"
  ) from error

from metakit.estimators.few_shot import FewShotClassifier, FewShotRegressor
from metakit.estimators.few_shot import head_on_features as head_on_features
from metakit.estimators.tabular import TabularClassifier, TabularRegressor

__all__ = ['FewShotClassifier', 'FewShotRegressor', 'TabularClassifier', 'TabularRegressor']
