"""Programs that start a run on one machine, on Slurm, on TPU VMs or on Kubernetes."""

from launch.interrupts import handle_imports

handle_imports()
