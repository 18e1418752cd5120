"""The sections of a report: which runs belong together, and what is said of them."""

from pathlib import Path

import pandas as pd
import pytest

from hardness import files
from hardness.page.describe import (
    described,
    grouped,
)
from hardness.page.reproduce import commands
from hardness.page.section import Section
from hardness.page.sections import all_sections
from hardness.runs.reading import finished_info
from hardness.settings.report import Report
from hardness.stages.track import Track, track
from tests.figures.made_up import memorizing
from tests.made_runs import tracked_run
from tests.words import is_told, leaves, numbers_in


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    """The bootstrap intervals of agreement are not in a report."""
    monkeypatch.setattr("hardness.findings.agreement.RESAMPLES", 3)


def sections_of(*runs: Path) -> dict[str, list[Section]]:
    """Question -> its sections; all numbers in the words of each are among its numbers."""
    found = {}
    for section in all_sections({run: finished_info(run) for run in runs}):
        found.setdefault(section.title, []).append(section)
        words = section.words
        known = leaves([*map(vars, section.estimates.values()), words.numbers])
        shown = numbers_in(" ".join([words.headline, *words.sentences, *words.cautions]))
        assert [each for each in shown if not is_told(each, known)] == []
    return found


def test_only_the_tracking_seed_may_differ_within_a_group(here):
    runs = [
        tracked_run(here / f"{seed}{schedule}{copy}", epochs=1, seed=seed, schedule=schedule)
        for seed, schedule, copy in (
            (0, "constant", ""),
            (1, "constant", ""),
            (1, "constant", "b"),
            (2, "cosine", ""),
        )
    ]
    sections = sections_of(*runs)
    learned = sections["When are examples first learned?"]
    # The copy is not a third seed.
    assert [section.estimates["never learned"].num_seeds for section in learned] == [2, 1, 1]
    assert learned[0].settings.endswith("records, 0constant and 1constant")
    assert learned[1].settings.endswith("records, 1constantb")
    assert "cosine" in learned[2].settings
    drawn = sections["Do the scores agree?"][0].drawings[0].table
    pairs = drawn[drawn["kind"] == "runs"].groupby("differs")["num_pairs"].unique().map(list)
    assert pairs.to_dict() == {"seed": [2], "schedule+seed": [3], "nothing": [1]}


def test_runs_of_one_data_set_and_its_labels_are_compared(here, made_run):
    other = tracked_run(here / "<b>other", model="small_cnn", seed=1)
    noisy = tracked_run(here / "noisy", epochs=1, noise=0.5)
    compared, alone = sections_of(made_run, other, noisy)["Do the scores agree?"]
    assert [[each.name for each in section.drawings] for section in (compared, alone)] == [
        ["agreement-1"],
        ["agreement-2"],
    ]
    assert "2 runs of mlp, small_cnn with sgdm" in compared.settings
    assert "of labels corrupt, evaluation-mode records, one run of mlp" in alone.settings
    assert any("differ in model+seed (1 pair)" in sentence for sentence in compared.words.sentences)
    one, two = (pd.read_parquet(run / "scores.parquet")["mean_loss"] for run in (made_run, other))
    drawn = compared.drawings[0].table.query("kind == 'runs' and scope == 'plain'")
    expected = one.corr(two, method="spearman")
    assert drawn.set_index("score_a")["spearman"]["mean_loss"] == pytest.approx(expected, abs=1e-5)
    # After one epoch nothing varies.
    assert alone.words.sentences[0].endswith(": variability.")


def write_coherence(run: Path, groups: dict[str, float], epochs: range, num_examples: int) -> None:
    """Group -> its coherence at epoch 0, which falls by 0.01 per epoch, as does the loss by 0.5."""
    columns = ["layer", "measured_on", "epoch", "mean_loss", "coherence", "num_examples"]
    rows = [
        ("whole network", name, epoch, 3 - 0.5 * epoch, start - 0.01 * epoch, num_examples)
        for epoch in epochs
        for name, start in groups.items()
    ]
    fingerprint = finished_info(run)["fingerprint"]
    files.write_table(run / "coherence.parquet", pd.DataFrame(rows, columns=columns), fingerprint)


def test_coherence_and_label_errors_have_a_section_if_they_were_measured(here):
    # Measuring coherence does not change training: such runs are in one group with others.
    runs = [
        tracked_run(here / f"s{seed}", epochs=3, noise=0.3, seed=seed, noise_seed=seed, **settings)
        for seed, settings in enumerate([{"coherence_every": 1, "coherence_sample": 30}] * 2 + [{}])
    ]
    for run, pristine in zip(runs, (0.3, 0.5), strict=False):
        write_coherence(run, {"pristine": pristine, "corrupt": 0.1}, range(4), 30)
    sections = sections_of(*runs)
    (gradients,) = sections["Are the gradients of easy examples more coherent?"]
    assert "label noise 0.3" in gradients.settings
    assert "30 examples per group" in gradients.settings
    across = gradients.estimates["pristine - corrupt: over training"]
    assert (across.mean, across.num_seeds) == (pytest.approx(0.3), 2)
    (labels,) = sections["Which scores detect wrong labels?"]
    assert labels.estimates["aum: auroc"].num_seeds == 3
    assert labels.estimates["aum: auroc"].mean > 0.9
    names = [drawing.name for drawing in gradients.drawings + labels.drawings]
    assert names == ["coherence-1", "label-errors-1"]


def test_runs_with_different_coherence_measurements(here):
    """One only before training, one with other groups, one whose only corrupt example forms no group."""
    common = {"epochs": 2, "noise": 0.3, "coherence_sample": 20}
    first = tracked_run(here / "first", **common, coherence_every=5)
    write_coherence(first, {"pristine": 0.3, "corrupt": 0.1}, range(1), 20)
    second = tracked_run(here / "second", **common, seed=1, checkpoint_every=2)
    write_coherence(second, {"easy": 0.3, "hard": 0.1}, range(1, 3), 10)
    labels = pd.read_parquet(first / "examples.parquet")["clean_label"].copy()
    labels[0] = (labels[0] + 1) % 10
    pd.DataFrame({"example_id": range(1437), "label": labels}).to_csv(here / "one.csv", index=False)
    third = track(Track(epochs=1, given_labels=here / "one.csv", coherence_every=1, out=here / "third"))
    assert set(pd.read_parquet(third / "coherence.parquet")["measured_on"]) == {"train"}
    gradients = sections_of(first, second, third)["Are the gradients of easy examples more coherent?"]
    assert len(gradients) == 2
    assert gradients[0].estimates["easy - hard: over training"].num_seeds == 1


def test_several_settings_are_in_the_same_axes(here, made_run):
    other = tracked_run(here / "other", epochs=2, model="small_cnn")
    (section,) = sections_of(made_run, other)["Comparison of settings"]
    table = section.drawings[0].table
    assert list(table["group"].unique()) == ["mlp, 6 epochs", "small_cnn, 2 epochs"]
    scores = pd.read_parquet(made_run / "scores.parquet")
    learned = table.query("group == 'mlp, 6 epochs' and value == 'learned' and epoch == 6")
    assert learned["mean"].tolist() == pytest.approx([scores["first_learned_epoch"].notna().mean()])
    assert "Comparison of settings" not in sections_of(made_run)


def info_of(stage="track", seed=0, **settings) -> dict:
    """The parts of run.json that grouping reads."""
    config = {"data": "digits", "model": "mlp", "optimizer": "sgdm", "lr": 0.1, "batch_size": 8, "epochs": 2}
    data = {"num_train": 10, "class_names": ["a", "b"], "image_shape": [1, 8, 8]}
    info = {"stage": stage, "fingerprint": "f", "record_mode": "eval", "data": data, "seed": seed}
    return info | {"config": {**config, "noise": 0.0, "noise_seed": 0, **settings}}


def retrained_info(seed, **tracked) -> dict:
    info = info_of("retrain", seeds=3)
    return info | {"tracking_seed": str(seed), "split": {}, "tracked": {"model": "mlp", **tracked}}


def groups_of(*infos: dict) -> list[list[str]]:
    """The groups of runs called a, b, c, ..."""
    runs = {Path(name): info for name, info in zip("abcdef", infos, strict=False)}
    return [[path.name for path in group] for group in grouped(runs, infos[0]["stage"])]


def test_settings_that_an_older_run_lacks_have_their_default():
    newer = info_of(seed=1, augment="none", precision="auto", coherence_sample=256)
    assert groups_of(info_of(), newer) == [["a", "b"]]
    assert groups_of(info_of(), info_of(seed=1, augment="crop-flip")) == [["a"], ["b"]]


def test_the_device_and_the_location_of_the_data_do_not_matter():
    assert groups_of(info_of(device="cpu"), info_of(seed=1, device="cuda", data="packed:x")) == [["a", "b"]]


def test_the_same_seed_with_other_label_noise_is_not_another_seed():
    noisy = [info_of(seed=seed, noise=0.5, noise_seed=labels) for seed, labels in ((0, 0), (1, 1), (0, 2))]
    assert groups_of(*noisy) == [["a", "b"], ["c"]]
    assert groups_of(retrained_info(0, noise_seed=0), retrained_info(1, noise_seed=1)) == [["a", "b"]]
    assert groups_of(retrained_info(0, epochs=1), retrained_info(1, epochs=2)) == [["a"], ["b"]]


def test_groups_never_have_the_same_description():
    infos = [info_of(augment="none"), info_of(augment="crop-flip", seed=1), info_of(lr=0.2)]
    runs = {Path(name): info for name, info in zip("abc", infos, strict=True)}
    texts = [text for _, text in described(runs, "track")]
    ends = ("augment none", "augment crop-flip", "records")
    assert all(text.endswith(end) for text, end in zip(texts, ends, strict=True))
    assert len(set(texts)) == 3
    tracked = {Path(str(epochs)): retrained_info(0, epochs=epochs) for epochs in (1, 2)}
    texts = [text for _, text in described(tracked, "retrain")]
    assert [text[-16:] for text in texts] == ["tracked epochs 1", "tracked epochs 2"]


def memorized_info(rates=None, **settings) -> dict:
    """Of a run of memorize; ``rates``: by search."""
    searched = {"lr": None, "lr_from": ["searched"]} if rates else {}
    config = {"optimizers": ["sgd"], "noise": [0.5], "seeds": 1, "given_labels": None}
    info = info_of("memorize", **{**config, **searched, **settings})
    del info["config"]["optimizer"]
    return info | {"learning_rates": rates or {}, "labels_fingerprint": "l", "device": "cpu"}


def test_runs_of_memorize_that_differ_only_in_their_networks_are_one_group():
    one = memorized_info()
    others = [
        memorized_info(optimizers=["m3"], seeds=3, out="elsewhere"),
        memorized_info(noise=[0.0]) | {"labels_fingerprint": "of other levels"},
    ]
    assert groups_of(one, *others) == [["a", "b", "c"]]
    # A network that the group has already is in another group.
    assert groups_of(one, memorized_info(seeds=2), *others) == [["a", "c", "d"], ["b"]]
    assert groups_of(one, one, others[0], others[0]) == [["a", "c"], ["b", "d"]]
    for other in (
        memorized_info(optimizers=["m3"], lr=0.2),
        memorized_info(optimizers=["m3"], epochs=3),
        memorized_info(optimizers=["m3"], noise_seed=1),
        memorized_info({"m3": 0.1}, optimizers=["m3"]),
        memorized_info(optimizers=["m3"]) | {"fingerprint": "g"},
    ):
        assert groups_of(one, other) == [["a"], ["b"]]
    given = [memorized_info(noise=[0.0], optimizers=[name], given_labels=name) for name in ("sgd", "m3")]
    assert groups_of(*given) == [["a", "b"]]
    assert groups_of(given[0], given[1] | {"labels_fingerprint": "k"}) == [["a"], ["b"]]


def test_learning_rates_by_search_are_one_group_and_are_described():
    infos = [
        memorized_info({"sgd": 0.1}),
        memorized_info({"m3": 0.2}, optimizers=["m3"], lr_from=["others"]),
        memorized_info({"m3": 0.4}, optimizers=["m3"], noise=[0.25]),
    ]
    runs = {Path(name): info for name, info in zip("abc", infos, strict=True)}
    ((group, text),) = described(runs, "memorize")
    assert list(group) == list(runs)
    assert "mlp, lr of each by search: sgd 0.1; m3 0.2 or 0.4, batch 8, 2 epochs" in text
    fixed = {Path(name): memorized_info(lr=lr) for name, lr in (("a", 0.1), ("b", 0.2))}
    assert ["lr 0.1" in text for _, text in described(fixed, "memorize")] == [
        True,
        False,
    ]


def test_the_runs_of_a_grid_are_one_section(here):
    curves = memorizing(3, levels=(0.0, 0.25, 0.5)).assign(top5=1.0)
    runs = {}
    for name, optimizers, noise, seeds in (
        ("high", ["rm3"], [0.5], 3),
        ("low", ["rm3"], [0.25], 3),
        ("sgd", ["sgd"], [0.0, 0.25, 0.5], 2),
        ("mine", ["mine"], [0.5], 1),
    ):
        mine = curves["optimizer"].isin(optimizers) & curves["noise"].isin(noise) & (curves["seed"] < seeds)
        (here / name).mkdir()
        files.write_table(here / name / "curves.parquet", curves[mine], "f")
        rates = dict.fromkeys(optimizers, 0.1)
        runs[here / name] = memorized_info(rates, optimizers=optimizers, noise=noise, seeds=seeds)
    (section,) = all_sections(runs)
    assert section.runs == list(runs)
    assert section.estimates["noise 0.25: sgd - rm3 at the maximum"].num_seeds == 2
    assert section.estimates["noise 0.5: mine at the maximum"].num_seeds == 1
    assert [name for name in section.estimates if name.startswith("noise 0:")] == ["noise 0: sgd train"]
    assert [sentence[:9] for sentence in section.words.sentences[:2]] == ["Noise 0: ", "Noise 0.2"]
    across, drawn = (drawing.table for drawing in section.drawings)
    assert across.groupby("noise")["optimizer"].unique().map(set).to_dict() == {
        0.25: {"sgd", "rm3"},
        0.5: {"sgd", "rm3", "mine"},
    }
    of_rm3 = drawn.query(
        "optimizer == 'rm3' and noise == 0.5 and measured_on == 'corrupt' and value == 'top1'"
    )
    assert of_rm3["mean"].tolist() == pytest.approx([0.1 * epoch + 0.01 for epoch in range(4)])
    for drawing in section.drawings:
        (legend,) = drawing.module.draw(drawing.table, "t").legends
        assert {text.get_text() for text in legend.get_texts()} == {"sgd", "rm3", "mine"}


def test_commands_of_the_runs_that_searched_a_learning_rate_come_first(here):
    def made(name, info):
        (here / name).mkdir()
        info |= {"format_version": files.FORMAT_VERSION, "status": "finished", "times": {}, "versions": {}}
        info |= {"git_commit": None}
        files.write_json(here / name / "run.json", info)
        return info

    for name, lr in (("a", 0.1), ("b", 0.2)):
        made(name, memorized_info(lr=lr))
    made("again", memorized_info({"sgd": 0.2}, lr_from=["a", "b"]))
    last = made("last", memorized_info({"sgd": 0.2}, lr_from=["again", "b", "gone"]))
    runs = {Path("b"): memorized_info(lr=0.2), Path("last"): last}
    typed = commands(Report(), runs)
    outs = [command.split("--out ")[1].split()[0] for command in typed]
    assert outs == ["b", "a", "again", "last", "reports/report"]
    assert "--lr-from again b gone" in typed[3]
    assert " --lr 0.1" in typed[1]
