"""Codes for more classes than a learner tells apart.

A code gives each class one of few symbols; a learner of symbols is fitted for each code. They are
error-correcting output codes with several symbols (Dietterich and Bakiri 1995, JAIR 2; Allwein,
Schapire and Singer 2000, JMLR 1). What differs: `decode`.
"""

import numpy as np

DRAWS = 50  # of which the code is kept that tells the closest two classes best apart
STEPS = 100  # that find probabilities
LEAST = 1e-9  # probability of a symbol


def draw_codes(generator: np.random.Generator, classes: int, symbols: int) -> np.ndarray:
  """Returns the symbol of each class in each code, [codes, classes] int.

  Each code has about as many classes of each symbol. There are twice as many codes as it takes to
  name the classes, and any two classes differ in one code at least.

  Args:
    generator: draws them.
    classes: more than symbols.
    symbols: 2 or more.

  >>> codes = draw_codes(np.random.default_rng(0), 30, 10)
  >>> codes.shape, np.bincount(codes[0]).tolist()
  ((4, 30), [3, 3, 3, 3, 3, 3, 3, 3, 3, 3])
  """
  length = 2
  while symbols**length < classes:
    length += 1
  length *= 2
  while True:
    draws = [_draw(generator, length, classes, symbols) for _ in range(DRAWS)]
    apart = [_least_distance(codes) for codes in draws]
    if max(apart):
      return draws[int(np.argmax(apart))]
    length += 1


def _draw(generator: np.random.Generator, length: int, classes: int, symbols: int) -> np.ndarray:
  return np.stack([generator.permutation(classes) % symbols for _ in range(length)])


def _least_distance(codes: np.ndarray) -> int:
  """Returns in how many codes the closest two classes differ."""
  words = codes.T
  return int(min((words[i] != words[i + 1 :]).sum(1).min() for i in range(len(words) - 1)))


def decode(codes: np.ndarray, likely: np.ndarray) -> np.ndarray:
  """Returns the probabilities of classes, [rows, classes].

  Of all whose sums over the classes of a symbol are what the codes say, they are those of greatest
  entropy. If the codes contradict one another, the sums are as close as they can be in the
  Kullback-Leibler divergence. Each step corrects the sums of all codes at once.

  Args:
    codes: see draw_codes.
    likely: the probability of each symbol in each code, [codes, rows, symbols].

  >>> codes = np.array([[0, 0, 1, 1], [0, 1, 0, 1]])  # four classes told apart by two bits
  >>> bits = np.array([[[0.9, 0.1]], [[0.2, 0.8]]])
  >>> decode(codes, bits).round(2).tolist()
  [[0.18, 0.72, 0.02, 0.08]]
  """
  classes, symbols = codes.shape[1], likely.shape[2]
  member = 1.0 * (codes[:, :, None] == np.arange(symbols))  # [codes, classes, symbols]
  said = np.log(np.maximum(likely, LEAST))
  p = np.full((likely.shape[1], classes), 1 / classes)
  for _ in range(STEPS):
    sums = np.maximum(np.einsum('rc,lcs->lrs', p, member), np.finfo(float).tiny)
    logits = np.log(np.maximum(p, np.finfo(float).tiny))
    logits += np.einsum('lrs,lcs->rc', said - np.log(sums), member) / len(codes)
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
  return p
