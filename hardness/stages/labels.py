"""``hardness labels``: the labels of a tracked run that are likely wrong."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hardness import files
from hardness.console import say, table
from hardness.dynamics import store
from hardness.dynamics.own_runs import completed_info
from hardness.dynamics.pool import ranks
from hardness.findings.label_errors import can_be_judged, detection
from hardness.registry import source_of
from hardness.runs.discovery import newest_run
from hardness.runs.folder import occupied
from hardness.runs.reading import check_scored
from hardness.settings.labels import Labels


def labels(config: Labels) -> Path:
    """Write RUN/labels.parquet, the most suspicious label first -> its path.

    Columns: example_id, key, given_label, suggested_label, score, rank (1: the most suspicious). The
    suggestion is the network's last prediction other than the given label; null if there is none. If the
    clean labels are known (label noise, --given-labels), prints how well each score finds the corrupt ones.
    """
    run = config.run or newest_run("track")
    info = completed_info(run, "track")
    class_names = info["data"]["class_names"]
    found, scores, examples = _ranked(run, info["fingerprint"], config.by)
    path = run / "labels.parquet"
    files.write_table(path, found, info["fingerprint"], {"by": config.by})
    top = found.head(config.top)
    # "": no suggestion.
    names = {-1: "", **dict(enumerate(class_names))}
    given, suggested = (
        top[name].fillna(-1).astype(int).map(names) for name in ("given_label", "suggested_label")
    )
    shown = ["never learned" if pd.isna(score) else f"{score:.4g}" for score in top["score"]]
    title = f"The {len(top)} most suspicious of {len(found):,} labels, by {config.by}"
    rows = zip(top["key"], given, suggested, shown, strict=True)
    table(title, ["key", "given", "suggested", config.by], rows)
    if config.csv is not None:
        named = top.assign(given_label=given, suggested_label=suggested)
        _write_csv(config.csv, named, _image_paths(info, examples))
    if "is_corrupt" in examples and can_be_judged(scores, examples["is_corrupt"].to_numpy()):
        _judge(found, scores, examples)
    say(f"wrote {path}")
    return path


_HEADER = ["rank", "path", "key", "example_id", "given_label", "suggested_label", "score"]


def _write_csv(path: Path, named: pd.DataFrame, image_paths: pd.Series | None) -> None:
    # Only an older list is overwritten; it may lack paths.
    if path.exists() and not (
        path.is_file() and path.read_bytes().startswith((b"rank,path,key,", b"rank,key,"))
    ):
        raise occupied("--csv", path)
    if image_paths is not None:
        named = named.assign(path=image_paths[named["example_id"]].to_numpy())
    with files.replacing(path) as temporary:
        named[[name for name in _HEADER if name in named]].to_csv(temporary, index=False)
    say(f"wrote {path}")


def _image_paths(info: dict[str, Any], examples: pd.DataFrame) -> pd.Series | None:
    """Of every example; None if they are not image files of their own."""
    if "image_path" in examples:
        return examples["image_path"]
    data = info["config"]["data"]
    if not data or not source_of(data).is_image_folder:
        return None
    return f"{Path(source_of(data).place).absolute()}/" + examples["key"]


def suspicious(run: str | Path, by: str = "aum") -> pd.DataFrame:
    """The labels of a run, the most suspicious first, as in labels.parquet: the public ``hardness.labels``.

    run: a run of track, or a Recorder's folder. by: the score; the hardest examples are the most suspicious.
    Raises ``UserError`` if the run is not finished or has no such score.
    """
    found, _, _ = _ranked(Path(run), completed_info(Path(run), "track")["fingerprint"], by)
    return found


def _ranked(run: Path, fingerprint: str, by: str) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """(the table of labels.parquet, scores.parquet, examples.parquet)."""
    check_scored(run, by, fingerprint)
    scores = files.read_table(run / "scores.parquet", fingerprint).to_pandas()
    examples = files.read_table(run / "examples.parquet", fingerprint).to_pandas()
    found = examples[["example_id", "key", "given_label"]]
    found = found.assign(suggested_label=_suggested(run, fingerprint), score=scores[by])
    # Ties are broken by example id.
    found["rank"] = (-pd.Series(ranks(scores, by))).rank(method="first")
    found = found[found["rank"].notna()].sort_values("rank").astype({"rank": "int64"})
    return found, scores, examples


def _suggested(run: Path, fingerprint: str) -> pd.Series:
    """(N,): the last prediction other than the given label, null where there is none."""
    found = None
    for _, records in store.read_epochs(run, fingerprint):
        found = np.full(len(records.loss), -1) if found is None else found
        differs = records.is_readable & ~records.is_correct & ("logits" in records.known)
        found[differs] = records.prediction[differs]
    return pd.Series(pd.arrays.IntegerArray(found, found < 0))


def _judge(found: pd.DataFrame, scores: pd.DataFrame, examples: pd.DataFrame) -> None:
    judged = detection(scores, examples["is_corrupt"].to_numpy())
    num_corrupt, num_examples = judged.loc[0, ["num_corrupt", "num_examples"]]
    best_first = judged.sort_values("average_precision", ascending=False).itertuples()
    rows = [[row.score, f"{row.auroc:.3f}", f"{row.average_precision:.3f}"] for row in best_first]
    title = f"Detection of the {num_corrupt:,} corrupt labels among {num_examples:,}, by score"
    table(title, ["score", "AUROC", "average precision"], rows)
    suspects = found.head(num_corrupt)
    truth = examples.loc[suspects["example_id"]]
    corrupt = truth["is_corrupt"].to_numpy()
    is_right = (suspects["suggested_label"] == truth["clean_label"].to_numpy()).fillna(False)
    line = f"Of the {num_corrupt:,} most suspicious labels, {corrupt.mean():.3f} are corrupt"
    if corrupt.any():
        line += f"; for {is_right[corrupt].mean():.3f} of these, the suggested label is the clean one"
    say(line)
