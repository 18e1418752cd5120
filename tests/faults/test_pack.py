"""After SIGKILL at any file, packing again gives the bytes of a pack that was never interrupted."""

import signal
from functools import partial

import pytest

from hardness.settings.pack import Pack
from hardness.stages import pack as stage
from tests import processes
from tests.faults import pack

NAMES = [*(f"train-{n:05d}.arrow" for n in range(5)), *(f"val-{n:05d}.arrow" for n in range(3)), "pack.json"]


@pytest.mark.parametrize("is_renamed", [False, True])
@pytest.mark.parametrize("number", range(1, len(NAMES) + 1))
def test_packing_killed_at_a_file(image_folder, tmp_path, monkeypatch, number, is_renamed):
    monkeypatch.setattr(stage, "_SHARD_BYTES", pack.SHARD_BYTES)
    words = ["pack", "--data", f"imagefolder:{image_folder}", "--workers", 2, "--out", "killed"]
    answer = processes.run(*words, cwd=tmp_path, before=partial(pack.kill_at, number, is_renamed))
    assert answer.status == -signal.SIGKILL
    left = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "killed").glob("[!.]*")}
    assert sorted(left) == sorted(NAMES[: number - (not is_renamed)])
    contents = []
    for name in ("killed", "whole"):
        folder = stage.pack(Pack(data=f"imagefolder:{image_folder}", workers=2, out=tmp_path / name))
        contents.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert contents[0] == contents[1]
    assert sorted(contents[1]) == sorted(NAMES)
    # What was there is not written again.
    assert {name: (tmp_path / "killed" / name).stat().st_mtime_ns for name in left} == left
