"""The command of experiments/tables/results_table.py, under the name it has always had."""

from experiments.tables.results_table import command

if __name__ == '__main__':
  command()
