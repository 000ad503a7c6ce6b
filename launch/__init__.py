"""Programs that start a run on one machine, on Slurm, on TPU VMs or on Kubernetes."""
