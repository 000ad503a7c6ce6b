"""The command of experiments/tables/heads_table.py, under the name it has always had."""

from experiments.tables.heads_table import command

if __name__ == '__main__':
  command()
