"""The suites of `experiments.benchmark`, and what times them."""
