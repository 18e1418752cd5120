"""The real command line in processes of its own."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = (sys.executable, "-m", "hardness")


def run(*words, cwd, **options) -> subprocess.CompletedProcess:
    return subprocess.run([*COMMAND, *map(str, words)], cwd=cwd, capture_output=True, text=True, **options)


def test_bare_track_then_score_then_split(tmp_path):
    assert run("track", cwd=tmp_path, check=True).stderr == ""
    before = (tmp_path / "runs/track-1/scores.parquet").read_bytes()
    assert "wrote runs/track-1/scores.parquet" in run("score", cwd=tmp_path, check=True).stdout
    assert (tmp_path / "runs/track-1/scores.parquet").read_bytes() == before
    told = run("split", "--quantile", "0.2", cwd=tmp_path, check=True).stdout
    assert "wrote runs/track-1/splits/q0.2.parquet" in told
    written = tmp_path / "runs/track-1/splits/q0.2.parquet"
    before = written.read_bytes()
    run("split", "--quantile", "0.2", cwd=tmp_path, check=True)
    assert written.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["track", "--model", "resnet81"], "did you mean resnet18"),
        (["track", "--noise", "2"], "expected --noise within 0..1; found 2.0; choose another"),
        (["split"], "run `hardness track` first"),
        (["report"], "expected finished runs under runs/; found none"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(tmp_path, words, told):
    answer = run(*words, cwd=tmp_path)
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert answer.stderr.startswith("hardness: expected ")
    assert told in answer.stderr
    assert answer.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_mistyped_flag_is_answered_with_the_one_meant(tmp_path):
    answer = run("track", "--optimiser", "m3", cwd=tmp_path)
    assert answer.returncode == 2
    assert "--optimizer" in answer.stderr
    assert "Traceback" not in answer.stderr


def start_and_wait(tmp_path, epochs_first, *words) -> subprocess.Popen:
    process = subprocess.Popen(
        [*COMMAND, "track", "--epochs", "60", "--out", "r", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Tests that run in a shell's background are told to ignore it, and would hand that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / f"r/dynamics/epoch={epochs_first}").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return process


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_prints_the_command_that_resumes(tmp_path, how):
    process = start_and_wait(tmp_path, 2)
    process.send_signal(how)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    command = out.splitlines()[-1].partition("go on with: hardness ")[2]
    assert "finished already" not in out
    err = run(*command.split(), cwd=tmp_path, check=True).stderr
    # Only where the signal came between an epoch's records and its checkpoint.
    assert re.fullmatch(r"(dropped the records of 1 epoch after epoch \d+ in r\n)?", err)
    assert not list((tmp_path / "r").rglob(".*.writing"))


def test_help_is_there_at_once():
    """Which is a matter of what it imports: torch, pandas and pyarrow take seconds, and must not be there."""
    heavy = "{'torch', 'pandas', 'pyarrow', 'numpy'}"
    code = f"import sys; from hardness import cli; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.slow
def test_the_demo_tells_the_whole_story(tmp_path):
    run("demo", cwd=tmp_path, check=True, env={**os.environ, "MPLBACKEND": "Agg"})
    report = tmp_path / "reports/demo"
    assert len(list((report / "figures").glob("*.png"))) == 15
    page = (report / "index.html").read_text()
    for words in ("Within-subset", "Own-subset advantage", "Noise 0.5", "(3 seeds)", "likely mislabelled"):
        assert words in page
    again = run("demo", cwd=tmp_path, check=True).stdout
    assert "17 runs: 17 done" in again
    assert Path(tmp_path / "runs/demo/memorize/curves.parquet").exists()
