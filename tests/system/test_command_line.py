"""The command line in processes of its own; two of them are started as users do, the others are forked."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import assert_refused
from tests.processes import Answer, run, start


def start_really(*words, cwd) -> Answer:
    done = subprocess.run([sys.executable, "-m", "hardness", *words], cwd=cwd, capture_output=True, text=True)
    return Answer(done.returncode, done.stdout, done.stderr)


def test_bare_track_then_score_then_split(tmp_path):
    assert start_really("track", cwd=tmp_path)[::2] == (0, "")
    scores = tmp_path / "runs/track-1/scores.parquet"
    before = scores.read_bytes()
    assert "runs/track-1/scores.parquet" in run("score", cwd=tmp_path, check=True).out
    assert scores.read_bytes() == before
    split = tmp_path / "runs/track-1/splits/q0.2.parquet"
    assert "runs/track-1/splits/q0.2.parquet" in run("split", "--quantile", 0.2, cwd=tmp_path, check=True).out
    before = split.read_bytes()
    run("split", "--quantile", 0.2, cwd=tmp_path, check=True)
    assert split.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["track", "--model", "resnet81"], "unknown-name", "Did you mean resnet18"),
        (["track", "--noise", "2"], "out-of-range", "--noise must be between 0 and 1 (got 2.0)."),
        (["split"], "no-runs", "hardness track"),
        (["report"], "no-runs", "runs/"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(tmp_path, words, code, told):
    answer = (start_really if words == ["split"] else run)(*words, cwd=tmp_path)
    assert_refused(answer, code, told)
    assert answer.out == ""
    assert answer.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_mistyped_flag_is_answered_with_the_one_meant(tmp_path):
    answer = run("track", "--optimiser", "m3", cwd=tmp_path)
    assert answer.status == 2
    assert "--optimizer" in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_prints_the_command_that_resumes(tmp_path, how):
    process = start("track", "--epochs", 25, "--out", "r", cwd=tmp_path)
    while not (tmp_path / "r/dynamics/epoch=2").exists():
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(how)
    answer = process.wait()
    assert (answer.status, answer.err) == (130, "")
    command = answer.out.splitlines()[-1].partition(" hardness ")[2]
    err = run(*command.split(), cwd=tmp_path, check=True).err
    # Only where the signal came between an epoch's records and its checkpoint.
    assert re.fullmatch(r"(dropped the records of 1 epoch after epoch \d+ in r\n)?", err)
    assert not list((tmp_path / "r").rglob(".*.writing"))


@pytest.mark.slow
def test_the_demo_does_the_complete_analysis(tmp_path):
    run("demo", cwd=tmp_path, check=True, timeout=900)
    report = tmp_path / "reports/demo"
    assert len(list((report / "figures").glob("*.png"))) == 15
    page = (report / "index.html").read_text()
    for words in ("Within-subset", "Own-subset advantage", "Noise 0.5", "(3 seeds)"):
        assert words in page
    # A second call finds everything finished.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.parquet")}
    run("demo", cwd=tmp_path, check=True, timeout=900)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.parquet")} == before
    assert Path(tmp_path / "runs/demo/memorize/curves.parquet").exists()
