"""Trained learners, for predictions on anyone's examples.

trained = metakit.load('omniglot-prototypical')
fitted = trained.adapt(pictures, labels)
fitted.predict(others)
"""

from metakit.trained.exported import export
from metakit.trained.inputs import Inputs
from metakit.trained.made_of import MadeOf
from metakit.trained.stored import load, save
from metakit.trained.trained import Fitted, Trained

__all__ = ['Fitted', 'Inputs', 'MadeOf', 'Trained', 'export', 'load', 'save']
