"""One process of a training of the diffusion model: `torchrun --nproc-per-node 2 -m ops.generate JOB.json`."""

import sys
from pathlib import Path

from ops.runtime import prepare_worker_threads

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: torchrun --nproc-per-node N -m ops.generate JOB.json")
    prepare_worker_threads()  # before torch is imported
    from ops.generate.launch import run_job

    run_job(Path(sys.argv[1]))
