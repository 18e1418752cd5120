from dataclasses import dataclass


@dataclass
class Cost:
    seconds: float
    bytes: int


def costs(runs):
    return {r: Cost(1.0, 1) for r in runs}


def duration(s):
    return f"{s:.0f} s"


def num_epochs(run):
    return 0
