#!/usr/bin/env bash
# A training of two processes in a real Slurm of this one machine, started by launch.slurm: told to
# end ahead of the limit it saves, goes back to the queue, and continues. About five minutes.
#
#   tests/launch/real_slurm.sh FOLDER    # as root on Debian, from the repository; installs slurm-wlm
#
# FOLDER/logs holds what the job said. Prints what was seen, and ends with 0 if it is as it should be.
set -euo pipefail
folder="$(realpath -m "${1:?give a folder}")"
host="$(hostname -s)"
command -v slurmctld > /dev/null || apt-get install -qq -y slurm-wlm munge > /dev/null
mkdir -p "$folder/state" "$folder/spool" /etc/slurm

cat > /etc/slurm/slurm.conf << CONF
ClusterName=here
SlurmctldHost=$host
SlurmUser=root
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
NodeName=$host CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES State=UP
CONF
mkdir -p /run/munge && chown munge: /run/munge
pgrep -x munged > /dev/null || runuser -u munge -- munged
pgrep -x slurmctld > /dev/null || slurmctld
pgrep -x slurmd > /dev/null || slurmd
trap 'pkill -x slurmd; pkill -x slurmctld' EXIT
sleep 5

# The limit is two minutes, the signal comes after one; the training would take longer.
python -m launch.slurm --nodes=1 --tasks_per_node=2 --time=00:02:00 --seconds_ahead=60 \
  --job_name=real --file="$folder/real.sbatch" --logs="$folder/logs" -- \
  python -m experiments.train --parallel=shard_map --task=glyphs:ways=5,shots=1,queries=5 \
  --network=conv4:width=16 --tasks_per_step=4 --steps=100000 --save_every=100000 \
  --validate_every=100000 --workdir="$folder/run"
until grep -qs 'continuing .* at step' "$folder"/logs/real-*.log; do
  squeue --noheader --name=real | grep -q . || break
  sleep 2
done
echo "$(slurmctld -V), $(scontrol show job 2> /dev/null | grep -o 'Restarts=[0-9]*')"
scancel --name=real
sort -u "$folder"/logs/real-*.log | grep -E 'told to end|continuing'
grep -q 'is saved; the same command continues' "$folder"/logs/real-*.log
grep -q 'continuing .* at step' "$folder"/logs/real-*.log
