#!/usr/bin/env bash
# A render on a Slurm cluster: it starts Ray on the nodes of one allocation, for one job.
#
# Starts: a Ray head and a worker on every node of the allocation (below: 2 nodes with one GPU each, for 4 hours), and the
#         render on the first node; everything ends with the job.
# Costs:  nodes times hours, as your cluster accounts them.
#
#   make submit cluster=slurm conf=poster image=me.jpg output.dir=/shared/dreams/poster
#   make attach cluster=slurm job=ID
#   make cluster-status cluster=slurm
#
# The #SBATCH lines below are defaults. Any long option of sbatch replaces them:
#   sbatch.nodes=8 sbatch.time=12:00:00 sbatch.partition=gpu sbatch.account=mine sbatch.gpus-per-node=0
# Without make, from the project's directory: sbatch --nodes=8 cluster/slurm.sh conf=poster output.dir=/shared/poster.
# All nodes must see the project's directory with its .venv (make setup EXTRAS=cuda), the picture, and output.dir; that may
# be s3://... as in the clouds. Three minutes before the time limit, and when Slurm takes the nodes away, the render saves
# the canvas, and the job is queued again and goes on from there, so long renders work with a short time limit. make stop
# saves, then cancels the job; plain scancel leaves it 30 s for that (Slurm's KillWait). The same command goes on.
#
#SBATCH --job-name=pareidolia
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=48G
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=pareidolia-%j.log
set -euo pipefail

python=${RENDER_PYTHON:-${SLURM_SUBMIT_DIR:-$PWD}/.venv/bin/python}
if [ ! -x "$python" ]; then
  echo "render: $python: not there; make setup EXTRAS=cuda in the project's directory, on a shared file system" >&2
  exit 2
fi
# The words of the make command that sent the job, which Slurm passes on: the job has them as arguments already.
unset RENDER_OVERRIDES
# This process becomes the program, which hears Slurm's signals. Until it does, the signal must not end the job.
trap '' USR1
exec "$python" -m render.cluster.slurm_job "$@"
