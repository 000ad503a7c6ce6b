"""The class split of Omniglot after Vinyals et al. 2016, as (alphabet, first, last character).

Vinyals et al. did not publish their split; these are the files of Snell et al. 2017
(github.com/jakesnell/prototypical-networks, data/omniglot/splits/vinyals), in their order: 1,200
characters for training, of which the last 172 are the validation part, and 423 for the test. No
alphabet but Gurmukhi is in two parts. 'trainval' is 'train' and 'validation'.
"""

_TRAIN = (
  ('Angelic', 1, 20),
  ('Grantha', 1, 43),
  ('N_Ko', 1, 33),
  ('Aurek-Besh', 1, 26),
  ('Japanese_(hiragana)', 1, 52),
  ('Malay_(Jawi_-_Arabic)', 1, 40),
  ('Asomtavruli_(Georgian)', 1, 40),
  ('Sanskrit', 1, 42),
  ('Ojibwe_(Canadian_Aboriginal_Syllabics)', 1, 14),
  ('Korean', 1, 40),
  ('Arcadian', 1, 26),
  ('Greek', 1, 24),
  ('Alphabet_of_the_Magi', 1, 20),
  ('Blackfoot_(Canadian_Aboriginal_Syllabics)', 1, 14),
  ('Futurama', 1, 26),
  ('Gurmukhi', 1, 41),
  ('Tagalog', 1, 17),
  ('Anglo-Saxon_Futhorc', 1, 29),
  ('Braille', 1, 26),
  ('Cyrillic', 1, 33),
  ('Burmese_(Myanmar)', 1, 34),
  ('Avesta', 1, 26),
  ('Gujarati', 1, 48),
  ('Ge_ez', 1, 26),
  ('Syriac_(Estrangelo)', 1, 23),
  ('Atlantean', 1, 26),
  ('Japanese_(katakana)', 1, 47),
  ('Balinese', 1, 24),
  ('Atemayar_Qelisayer', 1, 26),
  ('Glagolitic', 1, 45),
  ('Tifinagh', 1, 55),
  ('Latin', 1, 26),
  ('Inuktitut_(Canadian_Aboriginal_Syllabics)', 1, 16),
)
_VALIDATION = (
  ('Hebrew', 1, 22),
  ('Mkhedruli_(Georgian)', 1, 41),
  ('Armenian', 1, 41),
  ('Early_Aramaic', 1, 22),
  ('Bengali', 1, 46),
)
_TEST = (
  ('Gurmukhi', 42, 45),
  ('Kannada', 1, 41),
  ('Keble', 1, 26),
  ('Malayalam', 1, 47),
  ('Manipuri', 1, 40),
  ('Mongolian', 1, 30),
  ('Old_Church_Slavonic_(Cyrillic)', 1, 45),
  ('Oriya', 1, 46),
  ('Syriac_(Serto)', 1, 23),
  ('Sylheti', 1, 28),
  ('Tengwar', 1, 25),
  ('Tibetan', 1, 42),
  ('ULOG', 1, 26),
)

VINYALS = {
  'train': _TRAIN,
  'validation': _VALIDATION,
  'trainval': _TRAIN + _VALIDATION,
  'test': _TEST,
}
