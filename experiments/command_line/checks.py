"""Checks the numbers among flags."""

from absl import flags

from metakit.components.ranges import check_argument, check_number


def check_flags(values: flags.FlagValues) -> None:
  """Checks the numbers among flags as arguments, and whole ones in lists.

  The bounds that a flag is defined with are checked by absl. These let NaN pass, which is neither
  below nor above a bound.

  Raises:
    flags.IllegalFlagValueError: naming the flag.
  """
  present = (flag for flag in map(values.__getitem__, values) if flag.present)
  for flag in present:
    try:
      if isinstance(flag.value, list):
        for text in filter(str.isdecimal, map(str, flag.value)):
          check_number(f'--{flag.name}', int(text))
      elif isinstance(flag.value, float) or getattr(flag.parser, 'upper_bound', None) is None:
        check_argument(f'--{flag.name}', flag.name, flag.value, default=flag.default)
    except ValueError as error:
      raise flags.IllegalFlagValueError(str(error)) from None
