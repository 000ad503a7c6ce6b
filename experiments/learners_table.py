"""The command of experiments/tables/learners_table.py, under the name it has always had."""

from experiments.tables.learners_table import command

if __name__ == '__main__':
  command()
