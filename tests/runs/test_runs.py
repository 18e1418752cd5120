import pytest

from hardness.errors import UserError
from hardness.runs import discovery, reading, settings
from hardness.runs.folder import RunFolder
from hardness.settings.track import Track
from tests.conftest import refused


def start(out=None, **settings) -> RunFolder:
    return RunFolder("track", Track(out=out, **settings))


def test_a_run_folder_names_its_stage_settings_and_times(here):
    with start(here / "r", seed=3) as run:
        info = reading.read_info(here / "r")
        assert info["status"] == "running"
        assert info["config"]["seed"] == 3
        assert info["versions"]["torch"]
        run.log(epoch=1)
        run.update(fingerprint="abc")
    info = reading.read_info(here / "r")
    assert (info["status"], info["fingerprint"]) == ("finished", "abc")
    assert info["times"]["ended"] >= info["times"]["started"]
    assert start(here / "r", seed=3).is_finished


def test_default_folders_are_numbered(here):
    for number in (1, 2):
        with start() as run:
            run.log(epoch=1)
        assert run.path.as_posix() == f"runs/track-{number}"
    assert discovery.newest_run("track") == run.path
    with refused("no-runs", stage="retrain"):
        discovery.newest_run("retrain")


def fail(run, error):
    with run:
        run.log(epoch=1)
        raise error


def test_an_interrupted_run_prints_the_command_that_resumes_it(here, capsys):
    with pytest.raises(KeyboardInterrupt):
        fail(start(seed=2), KeyboardInterrupt)
    assert "hardness track" in (out := capsys.readouterr().out)
    assert "--seed 2" in out
    assert "--out runs/track-1" in out
    assert out.rstrip().endswith("--resume")
    with refused("unfinished-run", path=str(here / "runs/track-1"), status="interrupted"):
        start(here / "runs/track-1", seed=2)
    assert start(seed=2, resume=True).path.name == "track-1"
    assert start(seed=3, resume=True).path.name == "track-2"
    with start(here / "runs/track-1", seed=2, resume=True) as run:
        pass
    assert reading.read_info(run.path)["status"] == "finished"


def test_a_failed_run_stays_unless_it_had_not_begun(here):
    with pytest.raises(RuntimeError):
        fail(start(here / "r"), RuntimeError)
    assert reading.read_info(here / "r")["status"] == "failed"
    with refused("run-not-finished", status="failed"):
        reading.finished_info(here / "r")

    def fail_at_once():
        with start(here / "s"):
            raise UserError("too-late", "A sentence.", "A hint.")

    with refused("too-late"):
        fail_at_once()
    assert not (here / "s").exists()


def test_another_run_or_other_files_are_refused(here):
    with start(here / "r"):
        pass
    with refused("other-settings", setting="seed", found=0, value=1):
        start(here / "r", seed=1)
    with refused("other-stage", found="track", stage="split"):
        RunFolder("split", Track(out=here / "r"))
    (here / "mine").mkdir()
    (here / "mine" / "thesis.txt").touch()
    with refused("path-occupied", path=str(here / "mine")):
        start(here / "mine")
    assert (here / "mine" / "thesis.txt").exists()


def test_operational_settings_do_not_make_it_another_run(here):
    with start(here / "r", workers=0):
        pass
    assert start(here / "r", workers=1, resume=True).is_finished


def test_a_second_process_is_refused(here):
    assert not reading.is_in_use(here / "r")
    with start(here / "r"):
        assert reading.is_in_use(here / "r")
        second = start(here / "r", resume=True)
        with refused("run-in-use", path=str(here / "r")):
            second.__enter__()
    assert not reading.is_in_use(here / "r")


def test_a_run_that_another_process_finished_in_between_is_not_overwritten(here):
    first, second = start(here / "r", seed=0), start(here / "r", seed=1)
    with first:
        pass
    with refused("run-changed"):
        second.__enter__()
    assert reading.read_info(here / "r")["config"]["seed"] == 0


def test_the_command_that_resumes_starts_as_many_processes(here):
    with start(here / "r") as run:
        pass
    info = reading.read_info(run.path) | {"num_ranks": 6, "num_local_ranks": 3}
    command = settings.resume_command(run.path, info)
    assert command.startswith("torchrun --nnodes 2 --nproc-per-node 3 -m hardness track ")
    # An older version did not store the number of processes per machine.
    del info["num_local_ranks"]
    assert settings.resume_command(run.path, info).startswith("torchrun --nproc-per-node 6 -m hardness ")


def test_the_log_drops_an_incomplete_line_and_epochs_that_are_trained_again(here):
    with start(here / "r") as run:
        for epoch in (1, 2, 3):
            run.log(epoch=epoch)
        with (run.path / "log.jsonl").open("a") as file:
            file.write('{"epoch": 4')
        run.keep_log(lambda line: line["epoch"] <= 2)
    assert [line["epoch"] for line in reading.read_log(run.path)] == [1, 2]


def test_a_broken_run_json_is_refused(here):
    (here / "run.json").write_text("{")
    with pytest.raises(UserError, match=r"\[invalid-json\]"):
        reading.read_info(here)
    with refused("not-a-run", run=str(here / "nowhere")):
        reading.read_info(here / "nowhere")


def test_the_resume_command_keeps_a_zero(here):
    with start(momentum=0.0) as run:
        command = settings.resume_command(run.path, run.info)
        assert "--momentum 0.0" in command
        assert "--noise 0.0" in command
        assert "--given-labels" not in command


def test_a_run_that_was_started_on_other_data_is_refused_with_both_fingerprints(here):
    with start(here / "r") as run:
        run.update(fingerprint="abc")
        with refused("resumed-differently", what="fingerprint", found="abc", value="def"):
            run.update(fingerprint="def")
        run.update(data={"image_shape": [3, 32, 32], "class_names": ["cat"]})
        run.update(data={"image_shape": [3, 32, 32], "class_names": ["dog"]})
        with refused("resumed-differently", what="image shape", value=[3, 64, 64]):
            run.update(data={"image_shape": [3, 64, 64]})
    assert reading.read_info(here / "r")["fingerprint"] == "abc"


@pytest.mark.parametrize("text", ['{"a": 1}', "[]", "{", '{"format_version": "9"}'])
def test_folders_of_other_programs_are_skipped(here, text):
    (here / "runs/foreign").mkdir(parents=True)
    (here / "runs/foreign/run.json").write_text(text)
    assert discovery.finished_runs() == {}
    with pytest.raises(UserError):
        reading.finished_info(here / "runs/foreign")
