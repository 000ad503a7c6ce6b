"""The command of experiments/tables/launch_table.py, under the name it has always had."""

from experiments.tables.launch_table import command

if __name__ == '__main__':
  command()
