"""The classes of CIFAR-100, their superclasses, and which of them the few-shot splits hold out.

Superclasses: Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images. CIFAR-FS:
Bertinetto, Henriques, Torr, Vedaldi 2019, arXiv:1805.08136, its 16 classes of validation and 20 of
the test; the other 64 train. FC100: Oreshkin, Rodriguez, Lacoste 2018, arXiv:1805.10123, of whose
20 superclasses 4 validate, 4 test and 12 train. Both as Torchmeta (Deleu et al. 2019,
arXiv:1909.06576) lists them.
"""

_SUPERCLASSES = """
  aquatic_mammals: beaver dolphin otter seal whale
  fish: aquarium_fish flatfish ray shark trout
  flowers: orchid poppy rose sunflower tulip
  food_containers: bottle bowl can cup plate
  fruit_and_vegetables: apple mushroom orange pear sweet_pepper
  household_electrical_devices: clock keyboard lamp telephone television
  household_furniture: bed chair couch table wardrobe
  insects: bee beetle butterfly caterpillar cockroach
  large_carnivores: bear leopard lion tiger wolf
  large_man-made_outdoor_things: bridge castle house road skyscraper
  large_natural_outdoor_scenes: cloud forest mountain plain sea
  large_omnivores_and_herbivores: camel cattle chimpanzee elephant kangaroo
  medium_mammals: fox porcupine possum raccoon skunk
  non-insect_invertebrates: crab lobster snail spider worm
  people: baby boy girl man woman
  reptiles: crocodile dinosaur lizard snake turtle
  small_mammals: hamster mouse rabbit shrew squirrel
  trees: maple_tree oak_tree palm_tree pine_tree willow_tree
  vehicles_1: bicycle bus motorcycle pickup_truck train
  vehicles_2: lawn_mower rocket streetcar tank tractor
"""
_CIFAR_FS_VALIDATION = """
  beaver beetle butterfly camel cattle crab crocodile flatfish lamp maple_tree motorcycle otter
  sea shark television tractor
"""
_CIFAR_FS_TEST = """
  baby bed bicycle chimpanzee fox leopard man pickup_truck plain poppy rocket rose snail
  sweet_pepper table telephone wardrobe whale woman worm
"""
_FC100_VALIDATION = """
  large_carnivores large_omnivores_and_herbivores non-insect_invertebrates small_mammals
"""
_FC100_TEST = """
  aquatic_mammals insects medium_mammals people
"""

SUPERCLASSES = {
  line.split(': ')[0].strip(): tuple(line.split(': ')[1].split())
  for line in _SUPERCLASSES.strip().splitlines()
}
SUPERCLASS = {name: group for group, names in SUPERCLASSES.items() for name in names}
# Numbered as the official labels are, which is in order of the names.
CLASSES = tuple(sorted(SUPERCLASS))


def _parts(validation: str, test: str) -> dict[str, tuple[str, ...]]:
  """Returns the classes of each part. Those of two are named, by class or superclass."""
  in_part = lambda name, words: not {name, SUPERCLASS[name]}.isdisjoint(words.split())
  parts = {
    part: tuple(name for name in CLASSES if in_part(name, words))
    for part, words in (('validation', validation), ('test', test))
  }
  held_out = {*parts['validation'], *parts['test']}
  return {'train': tuple(name for name in CLASSES if name not in held_out), **parts}


CIFAR_FS = _parts(_CIFAR_FS_VALIDATION, _CIFAR_FS_TEST)
FC100 = _parts(_FC100_VALIDATION, _FC100_TEST)
