"""Made-up numbers of which every figure can be drawn."""

import numpy as np
import pandas as pd

from hardness.figures import tracking_curves
from hardness.findings.agreement import agreement as compare
from hardness.findings.generalization import Generalization
from hardness.findings.label_errors import detection
from hardness.findings.memorization import Memorization
from hardness.subsets import CONTROLS, SUBSETS


def retraining(seeds, num_controls=1) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    more = [f"{name}-control-{number + 1}" for number in range(1, num_controls) for name in CONTROLS]
    index = pd.MultiIndex.from_product(
        [map(str, range(seeds)), [*SUBSETS, *more], range(2), range(4), (*SUBSETS, "validation", "train")],
        names=["tracking_seed", "trained_on", "seed", "epoch", "measured_on"],
    )
    return pd.DataFrame(generator.random((len(index), 2)), index, ["loss", "top1"]).reset_index()


def memorizing(seeds, levels=(0.0, 0.5)) -> pd.DataFrame:
    rows = []
    for noise in levels:
        for seed in range(seeds):
            for optimizer in ("sgd", "rm3", "mine"):
                for epoch in range(4):
                    top1 = {"pristine": 0.1 + 0.2 * epoch, "train": 0.1 * epoch, "validation": 0.2}
                    top1 |= {"corrupt": 0.1 * epoch + 0.01 * seed, "corrupt-clean": 0.3} if noise else {}
                    for measured_on, value in top1.items():
                        rows.append((optimizer, noise, seed, epoch, measured_on, 1 - value, value))
    columns = ["optimizer", "noise", "seed", "epoch", "measured_on", "loss", "top1"]
    return pd.DataFrame(rows, columns=columns)


def coherent(seeds) -> pd.DataFrame:
    rows = [
        (name, str(seed), epoch, loss - 0.3 * epoch, 0.1 * epoch)
        for seed in range(seeds)
        for name, loss in (("easy", 1.5), ("hard", 2.0))
        for epoch in range(4)
    ]
    return pd.DataFrame(rows, columns=["measured_on", "seed", "epoch", "mean_loss", "coherence"])


def detecting(seeds) -> dict[str, tuple[pd.DataFrame, np.ndarray]]:
    generator = np.random.default_rng(0)
    runs = {}
    for seed in range(seeds):
        is_corrupt = np.arange(40) % 3 == 0
        columns = {name: is_corrupt + generator.random(40) for name in ("mean_loss", "el2n", "last_loss")}
        runs[str(seed)] = pd.DataFrame({"example_id": range(40), **columns}), is_corrupt
    return runs


def scoring(seeds, num_examples=60, epochs=5) -> dict[str, pd.DataFrame]:
    """Scores with a tenth never learned; the last example was unreadable."""
    generator = np.random.default_rng(0)
    tables = {}
    for seed in range(seeds):
        first = pd.Series(generator.integers(1, epochs + 1, num_examples), dtype="Int32")
        events = pd.Series(generator.integers(0, 13, num_examples), dtype="Int32")
        never = generator.random(num_examples) < 0.1
        confidence = generator.random(num_examples)
        table = pd.DataFrame(
            {
                "first_learned_epoch": first.mask(never),
                "forgetting_events": events.mask(never),
                "confidence": confidence,
                "variability": np.sqrt(confidence * (1 - confidence)) * generator.random(num_examples),
                "mean_loss": -np.log(confidence),
            }
        )
        table.iloc[-1] = None
        tables[str(seed)] = table
    return tables


def comparing(seeds) -> pd.DataFrame:
    tables = [table.fillna(5) for table in scoring(seeds).values()]
    runs = {str(seed): {"seed": seed} for seed in range(seeds)}
    return compare(tables, np.arange(60) % 3, runs)


def learned(seeds, num_classes) -> tuple:
    scores = scoring(seeds, 300)
    names = [f"${number}_<b>" * 9 for number in range(num_classes)]
    labels = {seed: np.arange(300) % num_classes for seed in scores}
    return {seed: table["first_learned_epoch"] for seed, table in scores.items()}, labels, names, 5


def logged(seeds) -> dict[str, pd.DataFrame]:
    generator = np.random.default_rng(0)
    names = [name for dashes in tracking_curves.PANELS.values() for name in dashes]
    logs = [pd.DataFrame(generator.random((4, len(names))), columns=names) for _ in range(seeds)]
    return {str(seed): log.assign(epoch=range(1, 5)) for seed, log in enumerate(logs)}


def inputs(name: str, seeds: int) -> tuple:
    """What the figure's ``prepare`` is given."""
    match name:
        case "agreement":
            return (comparing(seeds),)
        case "coherence":
            return (coherent(seeds),)
        case "controls":
            return (retraining(seeds, num_controls=4),)
        case "data_map":
            return scoring(seeds), 5
        case "equal_pristine":
            return (Memorization.of(memorizing(seeds, levels=(0.5,))).readings,)
        case "first_learned":
            return {seed: table["first_learned_epoch"] for seed, table in scoring(seeds).items()}, 5
        case "forgetting":
            return (scoring(seeds),)
        case "label_errors":
            runs = detecting(seeds)
            return pd.concat([detection(*run) for run in runs.values()]), runs
        case "learned_by_class":
            return learned(seeds, num_classes=2 if seeds == 1 else 10)
        case "noise_curves":
            return (memorizing(seeds, levels=(0.5,) if seeds == 1 else (0.0, 0.5)),)
        case "subset_bars":
            several = Generalization.of(retraining(seeds, num_controls=3))
            return ({"one": Generalization.of(retraining(seeds)), "a long one " * 20: several},)
        case "subset_curves" | "transfer":
            return (retraining(seeds, num_controls=seeds),)
        case "tracking_curves":
            return ({"one": logged(seeds), "$another_": logged(seeds)} if seeds > 1 else {"": logged(seeds)},)
    raise AssertionError(f"figures/{name}.py has no case here")
