"""The command of experiments/tables/benchmark_table.py, under the name it has always had."""

from experiments.tables.benchmark_table import command

if __name__ == '__main__':
  command()
