"""``hardness split``: easy and hard subsets of a tracked run, and their matched controls."""

import errno
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from hardness import files, seeding
from hardness.console import say, table, warn
from hardness.dynamics import store
from hardness.dynamics.own_runs import complete, completed_info, is_own
from hardness.dynamics.scores import scores
from hardness.errors import UserError
from hardness.runs.discovery import newest_run
from hardness.runs.folder import occupied
from hardness.runs.reading import (
    check_alike,
    check_same,
    check_scored,
    epoch_of,
    has_logits,
    image_folder,
    read_info,
)
from hardness.runs.settings import SPLITTING, split_of
from hardness.settings.split import Split
from hardness.subsets import (
    CONTROLS,
    FOLDS,
    SUBSETS,
    Cut,
    class_difference,
    cut_learned_by,
    cut_quantile,
    draw_folds,
    form,
    one_class_subsets,
    rank,
)

_LISTED_CLASSES = 20


def split(config: Split) -> Path:
    """Write RUN/splits/NAME.parquet -> its path. The same command writes the same bytes."""
    runs = config.run or (newest_run("track"),)
    infos = [completed_info(run, "track") for run in runs]
    fingerprint = infos[0]["fingerprint"]
    check_alike(runs, infos)
    if config.rule == "learned-by" and infos[0]["record_mode"] != "eval":
        sentence = "--rule learned-by needs records of evaluation mode; {run} has {mode} records."
        values = {"run": str(runs[0]), "mode": infos[0]["record_mode"]}
        raise UserError("not-eval-records", sentence, "Track with --record eval.", **values)
    examples = files.read_table(runs[0] / "examples.parquet", fingerprint).to_pandas()
    weights_of = [check_scored(run, config.by, fingerprint) for run in runs]
    check_same(epoch_of(config.by), runs, weights_of)
    needed = list(dict.fromkeys(["example_id", config.by, "mean_loss"]))
    tables = [files.read_table(run / "scores.parquet", fingerprint, needed).to_pandas() for run in runs]
    seed = seeding.derive(config.seed, "split", *(info["seed"] for info in infos))
    settings = {name: getattr(config, name) for name in SPLITTING}
    settings |= {"runs": [run.name for run in runs], "tracking_seeds": [info["seed"] for info in infos]}
    if config.drop_twins:
        tables, settings["num_twins"] = _without_duplicates(tables, infos[0])
    subsets, cut = _form(config, examples, tables, runs[0], seed)

    path = Split.output(vars(replace(config, run=runs)))
    if path.exists() and (found := split_of({"split": files.table_settings(path)})) != settings:
        differs = next(name for name in settings if found.get(name) != settings[name])
        sentence = "{path} is a split with {setting} {found}, not {value}."
        values = {"setting": differs, "found": found.get(differs), "value": settings[differs]}
        raise UserError("other-split", sentence, "Choose another --name.", path=str(path), **values)
    if config.materialize is not None:
        _materialize(config, subsets, examples, infos[0])
    files.write_table(path, subsets, fingerprint, settings)
    class_names = infos[0]["data"]["class_names"]
    _describe(subsets, cut, class_names, len(runs))
    if has_logits(infos[0]):
        _warn_of_classes(config, subsets, cut, class_names)
    say(f"wrote {path}")
    return path


def subsets_of(
    run: str | Path, quantile: float = 0.2, by: str = "first_learned_epoch", balance: str = "none"
) -> pd.DataFrame:
    """The subsets of a run of track, or of a Recorder's folder: the public ``hardness.split``.

    Returns example_id, key, label, score, subset, fold; (example_id, subset) is unique.
    """
    run = Path(run)
    table = scores(run, names=[by, "mean_loss"])
    info = complete(run) if is_own(run) else read_info(run)
    examples = files.read_table(run / "examples.parquet").to_pandas()
    config = Split(run=(run,), quantile=quantile, by=by, balance=balance)
    seed = seeding.derive(config.seed, "split", info["seed"])
    subsets, cut = _form(config, examples, [table], run, seed)
    if has_logits(info):
        _warn_of_classes(config, subsets, cut, info["data"]["class_names"])
    return subsets


def _without_duplicates(tables: list[pd.DataFrame], info: dict) -> tuple[list[pd.DataFrame], int]:
    """Drop unreadable examples, and all but the first of near-duplicates -> (tables, number dropped)."""
    # Nothing else in this stage needs torch.
    from hardness.probes.tracked_run import load_unread
    from hardness.resources import num_workers

    workers = num_workers()
    data = load_unread(info, workers)
    ids = np.flatnonzero(np.logical_and.reduce([table["mean_loss"].notna() for table in tables]))
    _, first = np.unique(data.adapter.near_duplicates(data.train, workers)[ids], return_index=True)
    num_twins = len(ids) - len(first)
    say(f"Dropped {num_twins} of {len(ids)} images: near-duplicates of others that are kept")
    return [table.iloc[np.sort(ids[first])] for table in tables], num_twins


def _form(
    config: Split, examples: pd.DataFrame, tables: list[pd.DataFrame], run: Path, seed: int
) -> tuple[pd.DataFrame, Cut]:
    ranked = rank(tables, config.by)
    ids = ranked["example_id"].to_numpy()
    classes = examples["given_label"].to_numpy()[ids]
    test_fraction, sizes = config.test_fraction, None
    if config.rule == "learned-by":
        epochs = store.recorded_epochs(run)
        if config.epoch not in epochs:
            sentence = "{run} has no records of epoch {epoch}: it has {num_epochs} epochs."
            values = {"run": str(run), "epoch": config.epoch, "num_epochs": len(epochs)}
            raise UserError("epoch-not-recorded", sentence, "Choose another --epoch.", **values)
        sizes = (config.train_size, config.test_size)
        test_fraction = config.test_size / sum(sizes)
        is_correct = store.read_epoch(run, config.epoch).is_correct[ids]
        cut = cut_learned_by(is_correct, *sizes, config.epoch)
    else:
        cut = cut_quantile(ranked, classes, config.quantile, config.balance == "class")
    is_test = draw_folds(cut.group, classes, test_fraction, seeding.generator(seed, "folds"), sizes or (1, 1))
    stream = seeding.generator(seed, "controls")
    subsets = form(cut.group, classes, is_test, stream, sizes, config.controls)
    # Each subset in the order of its ids.
    positions = np.concatenate([chosen[np.argsort(ids[chosen])] for chosen in subsets.values()])
    table = pd.DataFrame(
        {
            "example_id": ids[positions],
            "key": examples["key"].array.take(ids[positions]),
            "label": classes[positions],
            "score": ranked["score"].to_numpy()[positions],
            "subset": pd.Series(list(subsets)).array.repeat([len(chosen) for chosen in subsets.values()]),
            "fold": pd.Series(FOLDS).array.take(is_test[positions].astype(int)),
        }
    )
    return table, cut


def _describe(subsets: pd.DataFrame, cut: Cut, class_names: list[str], num_runs: int) -> None:
    """Print sizes, class histograms, ties and overlaps; warn if a comparison may mislead."""
    counts = subsets.groupby(["subset", "fold"]).size().unstack()
    members = {name: ids.to_numpy() for name, ids in subsets.groupby("subset")["example_id"]}
    rows = []
    for name in SUBSETS:
        matched = next((subset for subset, control in CONTROLS.items() if control == name), None)
        overlap = f"{np.isin(members[name], members[matched]).mean():.3f}" if matched else ""
        tied = f"{cut.tied_share[name]:.3f}" if name in cut.tied_share else ""
        rows.append([name, *(counts.loc[name, fold] for fold in FOLDS), tied, overlap])
    pooled = f" (mean rank of {num_runs} runs)" if num_runs > 1 else ""
    if num_more := (len(members) - len(SUBSETS)) // len(CONTROLS):
        say(f"{num_more} more controls of easy and of hard were drawn (not shown)")
    table(f"Subsets{pooled}", ["subset", *FOLDS, "tied at the border", "overlap with its subset"], rows)

    labels = range(len(class_names))
    histogram = pd.crosstab(subsets["label"], subsets["subset"])
    histogram = histogram.reindex(index=labels, columns=SUBSETS, fill_value=0)
    difference = (histogram["easy"] - histogram["hard"]).abs()
    shown = difference.sort_values(ascending=False, kind="stable").index[:_LISTED_CLASSES].sort_values()
    more = "" if len(shown) == len(class_names) else f" (the {len(shown)} that differ most)"
    rows = [[class_names[label], *histogram.loc[label]] for label in shown]
    table(f"Examples per class{more}", ["class", *SUBSETS], rows)
    for name, share in cut.tied_share.items():
        if share > 0.5:
            warn(
                f"{share:.0%} of subset {name} are tied with examples outside it, so mean loss decided: "
                "track for more epochs, or choose another --by"
            )
    p_value = class_difference(histogram["easy"].to_numpy(), histogram["hard"].to_numpy())
    if p_value < 0.01:
        warn(
            f"easy and hard have different class histograms (chi-squared test, p = {p_value:.1g}): "
            "compare them with their class-matched controls, or use --balance class"
        )


def _warn_of_classes(config: Split, subsets: pd.DataFrame, cut: Cut, class_names: list[str]) -> None:
    """Warn about subsets with a single class, and classes that are too small."""
    of_class: dict[int, list[str]] = {}
    for name, label in one_class_subsets(subsets).items():
        of_class.setdefault(label, []).append(name)
    for label, names in of_class.items():
        warn(
            f"all training examples of {', '.join(names)} are of one class, "
            f"{class_names[label]}: accuracy on them is not meaningful"
        )
    if len(cut.left_out):
        listed = [class_names[label] for label in cut.left_out[:_LISTED_CLASSES]]
        more = len(cut.left_out) - len(listed)
        warn(
            f"--balance class left out {len(cut.left_out)} class{'es' if len(cut.left_out) > 1 else ''} with "
            f"fewer than {math.ceil(1 / config.quantile - 1e-6)} examples, the minimum at quantile "
            f"{config.quantile:g}: {', '.join(listed)}" + (f" and {more} more" if more else "")
        )


def _materialize(config: Split, subsets: pd.DataFrame, examples: pd.DataFrame, info: dict) -> None:
    """Write SUBSET/train|val/CLASS/FILE to ``config.materialize``; the class is that of the given label."""
    target, root = config.materialize, image_folder(info, "--materialize", "Remove it.")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise occupied("--materialize", target)
    put = {
        "hard": os.link,
        "symbolic": lambda source, path: path.symlink_to(source.resolve()),
        "copy": shutil.copyfile,
    }[config.link]
    class_names = info["data"]["class_names"]
    clean_labels = examples["clean_label"].to_numpy()
    written = target.parent / f".{target.name}.writing"
    shutil.rmtree(written, ignore_errors=True)
    try:
        for row in subsets.itertuples():
            key = PurePosixPath(row.key)
            if key.is_absolute() or ".." in key.parts:
                sentence, hint = "The key {key!r} is outside the data set's folder.", "Track the run again."
                raise UserError("key-outside-folder", sentence, hint, key=row.key)
            # Files of other class folders, or of subfolders, may have the same name.
            may_clash = clean_labels[row.example_id] != row.label or len(key.parts) > 3
            name = f"{row.example_id}-{key.name}" if may_clash else key.name
            fold = "train" if row.fold == "train" else "val"
            path = written / row.subset / fold / class_names[row.label] / name
            path.parent.mkdir(parents=True, exist_ok=True)
            put(root / key, path)
        if target.exists():
            target.rmdir()
        written.rename(target)
    except OSError as error:
        if error.errno == errno.EXDEV:
            sentence = "{path} is not on the file system of the images, as hard links require."
            raise UserError("other-file-system", sentence, "Use --link copy.", path=str(target)) from error
        raise
    finally:
        shutil.rmtree(written, ignore_errors=True)
    say(f"wrote {len(subsets)} files under {target}")
