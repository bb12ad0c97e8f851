#!/bin/bash

# Parameters
#SBATCH --comment=isoflop:0123:20260101-000000-abcdef:worker-0
#SBATCH --cpus-per-task=2
#SBATCH --job-name=isoflop-study
#SBATCH --mem=8GB
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output='/studies/my study/log/%j_0_log.out'
#SBATCH --partition=batch
#SBATCH --requeue
#SBATCH --signal=USR2@90
#SBATCH --time=30

# setup
export PYTHONPATH='/studies/my study/code/0123'

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output '/studies/my study/log/%j_%t_log.out' --cpus-per-task=2 apptainer exec --nv /path/to/isoflop.sif python3 -P -m isoflop.launching.task '/studies/my study' 20260101-000000-abcdef worker-0
code=$?


# teardown
exit $code