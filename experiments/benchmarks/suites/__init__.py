"""Suites: a module has cases, and names its suites in SUITES."""
