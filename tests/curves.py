"""Curves of retraining and of training under label noise, for estimates computed by hand."""

import pandas as pd

from hardness.subsets import SUBSETS


def retraining(easy, hard, easy_control=0.9, hard_control=0.3, seeds=3) -> pd.DataFrame:
    """Two epochs, of which only the last counts; two retrainings per tracking seed that differ by 0.02."""
    cells = {("easy", "easy"): easy, ("hard", "hard"): hard}
    cells |= {("easy-control", "easy"): easy_control, ("hard-control", "hard"): hard_control}
    rows = []
    for tracking_seed in range(seeds):
        for seed, shift in enumerate((-0.01, 0.01)):
            for trained_on in SUBSETS:
                for measured_on in (*SUBSETS, "train"):
                    top1 = cells.get((trained_on, measured_on), 0.5) + 0.001 * tracking_seed + shift
                    for epoch, value in ((1, 0.99), (2, top1)):
                        rows.append((str(tracking_seed), trained_on, seed, epoch, measured_on, value))
    columns = ["tracking_seed", "trained_on", "seed", "epoch", "measured_on", "top1"]
    return pd.DataFrame(rows, columns=columns)


def with_controls(easy, controls) -> pd.DataFrame:
    """``retraining`` with those accuracies of the easy controls on easy; hard has one control."""
    curves = retraining(easy, 0.4, easy_control=controls[0], seeds=1)
    first = curves[curves["trained_on"] == "easy-control"]
    others = [
        first.assign(
            trained_on=f"easy-control-{number}",
            top1=first["top1"] + (control - controls[0]) * (first["measured_on"] == "easy"),
        )
        for number, control in enumerate(controls[1:], start=2)
    ]
    return pd.concat([curves, *others], ignore_index=True)


def noisy(members, noise=0.5) -> pd.DataFrame:
    """(optimizer, seed) -> (pristine by epoch, corrupt by epoch)."""
    rows = []
    for (optimizer, seed), (pristine, corrupt) in members.items():
        for epoch, (p, c) in enumerate(zip(pristine, corrupt, strict=True)):
            for measured_on, top1 in (
                ("pristine", p),
                ("corrupt", c),
                ("corrupt-clean", 1 - c),
                ("train", (p + c) / 2),
            ):
                rows.append((optimizer, noise, seed, epoch, measured_on, top1))
    return pd.DataFrame(rows, columns=["optimizer", "noise", "seed", "epoch", "measured_on", "top1"])


def three_optimizers() -> pd.DataFrame:
    members = {}
    for seed in range(3):
        members["sgd", seed] = ([0.1, 0.5, 0.9], [0.1, 0.1, 0.9 + 0.01 * seed])
        members["rm3", seed] = ([0.1, 0.5, 0.9], [0.1, 0.1, 0.3])
        members["ra3", seed] = ([0.1, 0.5, 0.9], [0.1, 0.1, 0.2 + 0.01 * seed])
    return noisy(members)
