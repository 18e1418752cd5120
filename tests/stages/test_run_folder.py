import pytest

from hardness.config import Track
from hardness.errors import UserError
from hardness.stages import run_folder
from hardness.stages.run_folder import RunFolder


def start(out=None, **settings) -> RunFolder:
    return RunFolder("track", Track(out=out, **settings))


def test_a_run_says_what_it_is(here):
    with start(here / "r", seed=3) as run:
        info = run_folder.read_info(here / "r")
        assert info["status"] == "running"
        assert info["config"]["seed"] == 3
        assert info["versions"]["torch"]
        run.log(epoch=1)
        run.update(fingerprint="abc")
    info = run_folder.read_info(here / "r")
    assert (info["status"], info["fingerprint"]) == ("finished", "abc")
    assert info["times"]["ended"] >= info["times"]["started"]
    assert start(here / "r", seed=3).is_finished


def test_default_folders_are_numbered(here):
    for number in (1, 2):
        with start() as run:
            run.log(epoch=1)
        assert run.path.as_posix() == f"runs/track-{number}"
    assert run_folder.newest_run("track") == run.path
    with pytest.raises(UserError, match="a finished run of retrain"):
        run_folder.newest_run("retrain")


def fail(run, error):
    with run:
        run.log(epoch=1)
        raise error


def test_an_interrupted_run_goes_on_with_resume_and_says_how(here, capsys):
    with pytest.raises(KeyboardInterrupt):
        fail(start(seed=2), KeyboardInterrupt)
    assert "hardness track" in (told := capsys.readouterr().out)
    assert "--seed 2" in told
    assert "--out runs/track-1" in told
    assert told.rstrip().endswith("--resume")
    with pytest.raises(UserError, match=r"interrupted since .* add --resume"):
        start(here / "runs/track-1", seed=2)
    assert start(seed=2, resume=True).path.name == "track-1"
    assert start(seed=3, resume=True).path.name == "track-2"
    with start(here / "runs/track-1", seed=2, resume=True) as run:
        pass
    assert run_folder.read_info(run.path)["status"] == "finished"


def test_a_failure_is_on_record_and_one_before_the_beginning_leaves_nothing(here):
    with pytest.raises(RuntimeError):
        fail(start(here / "r"), RuntimeError)
    assert run_folder.read_info(here / "r")["status"] == "failed"
    with pytest.raises(UserError, match="one that is failed"):
        run_folder.finished_info(here / "r")

    def fail_at_once():
        with start(here / "s"):
            raise UserError("a", "b", "c")

    with pytest.raises(UserError):
        fail_at_once()
    assert not (here / "s").exists()


def test_another_run_or_other_files_are_refused(here):
    with start(here / "r"):
        pass
    with pytest.raises(UserError, match=r"expected seed 1 in .*found a run with seed 0"):
        start(here / "r", seed=1)
    with pytest.raises(UserError, match="a run of split"):
        RunFolder("split", Track(out=here / "r"))
    (here / "mine").mkdir()
    (here / "mine" / "thesis.txt").touch()
    with pytest.raises(UserError, match="something else in it"):
        start(here / "mine")
    assert (here / "mine" / "thesis.txt").exists()


def test_where_it_goes_does_not_make_it_another_run(here):
    with start(here / "r", workers=0):
        pass
    assert start(here / "r", workers=1, resume=True).is_finished


def test_a_second_process_is_refused(here):
    assert not run_folder.is_in_use(here / "r")
    with start(here / "r"):
        assert run_folder.is_in_use(here / "r")
        second = start(here / "r", resume=True)
        with pytest.raises(UserError, match="another process"):
            second.__enter__()
    assert not run_folder.is_in_use(here / "r")


def test_a_run_that_came_and_went_since_we_looked_is_not_written_over(here):
    first, second = start(here / "r", seed=0), start(here / "r", seed=1)
    with first:
        pass
    with pytest.raises(UserError, match="another process's"):
        second.__enter__()
    assert run_folder.read_info(here / "r")["config"]["seed"] == 0


def test_the_command_that_resumes_starts_as_many_processes(here):
    with start(here / "r") as run:
        pass
    info = run_folder.read_info(run.path) | {"num_ranks": 6, "num_local_ranks": 3}
    command = run_folder.resume_command(run.path, info)
    assert command.startswith("torchrun --nnodes 2 --nproc-per-node 3 -m hardness track ")
    # An older version did not say how many there were on a machine.
    del info["num_local_ranks"]
    assert run_folder.resume_command(run.path, info).startswith("torchrun --nproc-per-node 6 -m hardness ")


def test_the_log_forgets_half_a_line_and_what_is_made_again(here):
    with start(here / "r") as run:
        for epoch in (1, 2, 3):
            run.log(epoch=epoch)
        with (run.path / "log.jsonl").open("a") as file:
            file.write('{"epoch": 4')
        run.keep_log(lambda line: line["epoch"] <= 2)
    assert [line["epoch"] for line in run_folder.read_log(run.path)] == [1, 2]


def test_a_broken_run_json_is_refused(here):
    (here / "run.json").write_text("{")
    with pytest.raises(UserError, match=r"\[invalid-json\]"):
        run_folder.read_info(here)
    with pytest.raises(UserError, match="no folder"):
        run_folder.read_info(here / "nowhere")


def test_the_command_that_resumes_keeps_a_zero(here):
    with start(momentum=0.0) as run:
        command = run_folder.resume_command(run.path, run.info)
        assert "--momentum 0.0" in command
        assert "--noise 0.0" in command
        assert "--given-labels" not in command


def test_a_run_begun_on_other_data_is_refused_with_both_fingerprints(here):
    with start(here / "r") as run:
        run.update(fingerprint="abc")
        with pytest.raises(UserError, match=r"data set abc, with which .* found data set def"):
            run.update(fingerprint="def")
    assert run_folder.read_info(here / "r")["fingerprint"] == "abc"


@pytest.mark.parametrize("text", ['{"a": 1}', "[]", "{", '{"format_version": "9"}'])
def test_a_strangers_run_json_stands_in_nobodys_way(here, text):
    (here / "runs/foreign").mkdir(parents=True)
    (here / "runs/foreign/run.json").write_text(text)
    assert run_folder.finished_runs() == {}
    with pytest.raises(UserError):
        run_folder.finished_info(here / "runs/foreign")
