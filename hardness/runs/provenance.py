"""Where a run comes from: versions, the commit, the time."""

import importlib.metadata
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

_REPORTED_VERSIONS = ("hardness-toolkit", "torch", "torchvision", "numpy", "pandas", "pyarrow")


def now(to: str = "seconds") -> str:
    return datetime.now(UTC).isoformat(timespec=to)


def versions() -> dict[str, str]:
    found = {name: importlib.metadata.version(name) for name in _REPORTED_VERSIONS}
    return {"python": platform.python_version(), **found}


def git_commit() -> str | None:
    """The commit of this source tree, marked if files have changed; None outside a checkout of hardness."""
    root = Path(__file__).parents[2]
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    if not (root / ".git").exists():
        return None
    try:
        answer = subprocess.run(describe, cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()
