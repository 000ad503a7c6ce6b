"""The header of a preset: what it is, its command, and where its settings come from."""

import re

import pytest

from tests.experiments.commands import REPOSITORY

PRESETS = sorted((REPOSITORY / 'experiments' / 'presets').glob('*.flags'))
FORM = re.compile(
  r'(# What: .*\n)(#   .*\n)*'
  r'# Command: python -m experiments\.\w+ --flagfile=experiments/presets/(\w+)\.flags.*\n'
  r'(# Variant: .*\n)*(# Tuning: experiments/results/tuning\.md\n)?(#= .*\n)*(--\w+=?.*\n)+'
)


@pytest.mark.parametrize('preset', PRESETS, ids=lambda preset: preset.stem)
def test_the_header_has_a_fixed_form(preset):
  header = FORM.fullmatch(preset.read_text(encoding='utf-8'))
  assert header is not None
  assert header[3] == preset.stem


def test_a_preset_that_was_tuned_has_its_table():
  page = (REPOSITORY / 'experiments' / 'results' / 'tuning.md').read_text(encoding='utf-8')
  titles = set(re.findall(r'^## (\w+)$', page, re.MULTILINE))
  tuned = {preset.stem for preset in PRESETS if '\n# Tuning: ' in preset.read_text()}
  assert titles <= tuned
