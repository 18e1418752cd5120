"""``hardness demo``: the whole story on digits."""

import time
from pathlib import Path

from hardness.config import Demo, Memorize, Report, Retrain, Split, Track
from hardness.console import say
from hardness.stages.memorize import memorize
from hardness.stages.report import report
from hardness.stages.retrain import retrain
from hardness.stages.split import split
from hardness.stages.track import track

_SEEDS = (0, 1, 2)


def demo(config: Demo) -> Path:
    """Track three seeds, split each with and without balance, retrain, memorize, report -> the report."""
    started = time.perf_counter()
    runs = []
    for seed in _SEEDS:
        say(f"\n[{seed + 1}/{len(_SEEDS)}] tracking seed {seed}")
        out = config.runs / f"track-s{seed}"
        runs.append(track(Track(seed=seed, lr=0.005, resume=True, out=out)))
        for balance in ("none", "class"):
            path = split(Split(run=(out,), balance=balance))
            name = f"retrain-s{seed}-{balance}"
            runs.append(retrain(Retrain(split=path, lr=0.1, resume=True, out=config.runs / name)))
    say("\nlabel noise: who memorizes?")
    noisy = Memorize(noise=(0.5,), seeds=3, epochs=30, resume=True, out=config.runs / "memorize")
    runs.append(memorize(noisy))
    say("\nreport")
    report(Report(runs=tuple(runs), out=config.out, title="Easy and hard digits"))
    say(f"the demo took {time.perf_counter() - started:.0f} s")
    return config.out
