#!/bin/bash
# Pretraining on SLURM that survives its time limit: sbatch 04_slurm.sh
# Two minutes before the limit srun's tasks get SIGTERM; twoview saves after the step it is in, and the job queues itself again.
#SBATCH --nodes=2 --ntasks-per-node=8 --gpus-per-node=8 --cpus-per-task=8
#SBATCH --time=24:00:00 --signal=TERM@120 --requeue --open-mode=append --output=pretrain.log

srun --ntasks-per-node 8 --cpus-per-task "$SLURM_CPUS_PER_TASK" twoview pretrain PAIRS --objective croco --precision bf16 --out run
code=$?
[ $code = 143 ] && exec scontrol requeue "$SLURM_JOB_ID" # stopped and saved
exit $code
