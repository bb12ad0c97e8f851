#!/bin/bash

# Parameters
#SBATCH --array=0-9%4
#SBATCH --comment=isoflop:0123:20260101-000000-abcdef:worker-0
#SBATCH --cpus-per-task=64
#SBATCH --gpus-per-node=4
#SBATCH --job-name=isoflop-study
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output='/studies/my study/log/%A_%a_0_log.out'
#SBATCH --partition=batch
#SBATCH --requeue
#SBATCH --signal=USR2@90
#SBATCH --time=360

# setup
export PYTHONPATH='/studies/my study/code/0123'

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output '/studies/my study/log/%A_%a_%t_log.out' --cpus-per-task=64 apptainer exec --nv /path/to/isoflop.sif python3 -P -m isoflop.launching.task '/studies/my study' 20260101-000000-abcdef worker-0
code=$?


# teardown
exit $code