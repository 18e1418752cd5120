"""The Slurm script of the README, with stand-ins for the commands of a cluster of one node."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hardness.runs.reading import read_info

README = Path(__file__).parents[2] / "pipelines" / "README.md"
COMMANDS = {
    "scontrol": 'echo localhost; echo "$@" >> calls',
    "srun": 'shift; exec "$@"',
    "torchrun": f'exec "{sys.executable}" -m torch.distributed.run "$@"',
}


@pytest.mark.slow
def test_the_slurm_script_tracks(here):
    (script,) = re.findall(r"```bash\n(.*?)```", README.read_text(), re.DOTALL)
    small = "--data digits --model mlp --epochs 1"
    script = re.sub(r"--data \S+ --model \S+ --epochs \d+", small, script)
    assert small in script
    Path("track.sh").write_text(script)
    for name, body in COMMANDS.items():
        Path(name).write_text(f"#!/bin/sh\n{body}\n")
        Path(name).chmod(0o755)
    slurm = {"JOB_ID": "7", "JOB_NODELIST": "localhost", "NNODES": "1", "GPUS_ON_NODE": "2"}
    environment = {**os.environ, **{f"SLURM_{name}": value for name, value in slurm.items()}}
    environment |= {"PATH": f"{here}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}

    done = subprocess.run(["bash", "track.sh"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    info = read_info(Path("runs/imagenet"))
    assert (info["status"], info["num_ranks"]) == ("finished", 2)
    assert info["config"]["batch_size"] == 256
    assert Path("calls").read_text().splitlines() == ["show hostnames localhost"]
    # A job that is requeued runs the same script again.
    assert "--resume" in script
