"""Commands: python -m experiments.NAME."""

from launch.interrupts import handle_imports

handle_imports()
