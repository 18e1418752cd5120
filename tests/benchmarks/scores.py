"""The page of the scores: their definitions, from the registry, and their measured costs.

python -m tests.benchmarks.scores [--smoke] > reports/scores/README.md
"""

import argparse
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from hardness import datasets, models
from hardness.config import Data
from hardness.datasets.examples import DataSet
from hardness.datasets.images import ImageAdapter, in_memory
from hardness.dynamics.scores import FREE, SCORES, ScoreEntry, scores
from hardness.dynamics.store import read_epochs
from hardness.probes.grand import last_layer_norm
from hardness.probes.tracked_model import TrackedModel
from hardness.resources import Resources
from hardness.stages.track import Track, track
from hardness.training import checkpoint
from hardness.training.job import Job
from tests.benchmarks.recorder import generate
from tests.benchmarks.timing import in_turn, machine, seconds

CPU = torch.device("cpu")


def synthetic_images(num_examples: int, size: int) -> DataSet:
    """Smooth random images of ten classes; each class has its own pattern."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (num_examples,), generator=generator)
    coarse = torch.rand(10, 3, 4, 4, generator=generator)[labels]
    coarse = coarse + 0.8 * torch.rand(num_examples, 3, 4, 4, generator=generator)
    images = torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear").div_(1.8).mul_(255).byte()
    train = in_memory(images, labels, "train")
    names = [str(number) for number in range(10)]
    return DataSet(train, train, names, ImageAdapter((3, size, size), [0.5] * 3, [0.25] * 3))


def tracked_model(run: Path, model: str, data: DataSet, config: Track) -> TrackedModel:
    job = Job.of(config, data, Resources(), examples=data.train, ids=data.train.ids)
    return TrackedModel(run, job, models.build(model, data, seed=0).eval())


def free_costs(num_examples: int, epochs: int) -> dict[str, float]:
    """Nanoseconds per record of the arithmetic of each free score, and of reading the records (key "")."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder), num_examples, epochs)
        read = list(read_epochs(Path(folder)))

        def score(name: str) -> None:
            accumulator = SCORES[name].accumulator(num_examples)
            for epoch, records in read:
                # Scores share values such as probabilities; here each score computes them itself.
                vars(records).pop("probability", None)
                accumulator.add(epoch, records)
            accumulator.result()

        tasks = {name: lambda name=name: score(name) for name in FREE}
        tasks[""] = lambda: [None for _ in read_epochs(Path(folder))]
        found = in_turn(tasks, rounds=3)
    return {name: 1e9 * taken / (num_examples * epochs) for name, taken in found.items()}


def share_of_tracking(epochs: int) -> tuple[float, float]:
    """Seconds for tracking digits, and for all free scores of its records, in one process."""
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        run = Path(folder) / "run"
        taken = seconds(lambda: track(Track(epochs=epochs, model="small_cnn", out=run)))
        return taken, seconds(lambda: scores(run))


def network_costs(tracked: TrackedModel, rounds: int) -> dict[str, float]:
    """Seconds of each probe except self-confidence, and of a forward pass (key "")."""
    tasks = {
        name: lambda score=score: compute(score, tracked)
        for name, score in SCORES.items()
        if score.needs_network
    }
    del tasks["self_confidence"]
    tasks[""] = lambda: list(tracked.predictions())
    return in_turn(tasks, rounds)


def compute(score: ScoreEntry, tracked: TrackedModel) -> np.ndarray:
    return score.load()(tracked)


def self_confidence_cost(epochs: int, rounds: int) -> float:
    """The cost relative to tracking the run itself."""
    data = datasets.load(Data(), model="mlp")
    config = Track(epochs=epochs, lr=0.005)

    def score() -> None:
        with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
            compute(SCORES["self_confidence"], tracked_model(Path(folder), "mlp", data, config))

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
            track(Track(epochs=epochs, lr=0.005, out=Path(folder) / "run"))

    found = in_turn({"score": score, "run": run}, rounds)
    return found["score"] / found["run"]


def trained(folder: Path, model: str, epochs: int) -> TrackedModel:
    """A tracked run of digits, with its trained weights."""
    config = Track(model=model, epochs=epochs, lr=0.005, out=folder / model)
    with redirect_stdout(sys.stderr):
        run = track(config)
    tracked = tracked_model(run, model, datasets.load(Data(), model=model), config)
    checkpoint.load_weights(run, tracked.model, CPU)
    return tracked


def closed_form_rows(folder: Path, smoke: bool) -> list[str]:
    epochs = 1 if smoke else 5
    cases = {"mlp, digits of 8 x 8": trained(folder, "mlp", epochs)}
    if not smoke:
        cases["small_cnn, digits of 8 x 8"] = trained(folder, "small_cnn", epochs)
        for model, num_examples, size in (("small_cnn", 500, 64), ("resnet18", 100, 64)):
            data = synthetic_images(num_examples, size)
            name = f"{model}, images of {size} x {size}, before training"
            cases[name] = tracked_model(folder, model, data, Track())
    rows = []
    for name, tracked in cases.items():
        names = ("grand", "grand_last_layer")
        tasks = {each: lambda each=each, tracked=tracked: compute(SCORES[each], tracked) for each in names}
        tasks[""] = lambda tracked=tracked: list(tracked.predictions())
        batches = list(tracked.features())
        tasks["form"] = lambda batches=batches: [last_layer_norm(*batch) for batch in batches]
        found = in_turn(tasks, rounds=1 if smoke else 3)
        exact, last = (found[each] / len(tracked.examples) * 1e3 for each in names)
        agreement = spearmanr(*(compute(SCORES[each], tracked) for each in names)).statistic
        ratio = found["grand"] / found["grand_last_layer"]
        passes = found["grand"] / found[""], found["grand_last_layer"] / found[""]
        rows.append(
            f"| {name} | {exact:.3f} ({passes[0]:.0f}) | {last:.4f} ({passes[1]:.1f}) | **{ratio:.0f}** | "
            f"{found['grand'] / found['form']:,.0f} | {agreement:.3f} |"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--smoke", action="store_true", help="small sizes and few rounds, to check that it runs"
    )
    smoke = parser.parse_args().smoke
    free = free_costs(*((2_000, 2) if smoke else (1_281_167, 6)))
    data = synthetic_images(*((60, 16) if smoke else (2_000, 32)))
    with tempfile.TemporaryDirectory() as folder:
        network = network_costs(tracked_model(Path(folder), "small_cnn", data, Track()), 1 if smoke else 3)
        closed = closed_form_rows(Path(folder), smoke)
    folds = self_confidence_cost(*((1, 1) if smoke else (10, 3)))
    tracking, scoring = share_of_tracking(1 if smoke else 20)
    print(_HEAD.format(machine=machine(), num_images=len(data.train), size=data.adapter.input_shape[1]))
    for score in SCORES.values():
        harder = "larger" if score.sign > 0 else "smaller"
        if score.name in free:
            cost = f"{free[score.name]:.1f} ns per record"
        elif score.name == "self_confidence":
            cost = f"{folds:.1f} x the time of the tracked run"
        else:
            taken = network[score.name]
            milliseconds = 1e3 * taken / len(data.train)
            cost = f"{milliseconds:.3f} ms per example, {taken / network['']:.1f} forward passes"
        print(f"### {score.name}\n\n{score.summary} `{score.formula}`\n")
        print(f"- {score.range}; {harder} is harder. {score.source}.\n- {score.use}\n- Cost: {cost}.\n")
    print("## Cost of the free scores relative to tracking\n")
    print(
        f"Reading takes {free['']:.1f} ns per record, and the {len(FREE)} free scores take another "
        f"{sum(free[name] for name in FREE):.1f} ns together. Tracking `small_cnn` on digits takes "
        f"{tracking:.2f} s, all free scores of its records {scoring:.3f} s: **{scoring / tracking:.2%}**.\n"
    )
    print("## GraNd: exact and last-layer\n")
    print(_CLOSED_FORM)
    print("| | exact | last layer | speedup | speedup without its forward pass | correlation |")
    print("| --- | --: | --: | --: | --: | --: |")
    print("\n".join(closed))


_HEAD = """# The scores

Written by `python -m tests.benchmarks.scores` from the registry, `hardness.dynamics.scores.SCORES`.
{machine} Values are medians; compared values were timed in turn.

p is the probability of the given label y, z are the logits, L is the loss, t is one of T epochs.
Never-learned examples have no first-learned epoch, learned epoch or forgetting count, and rank as the
hardest; unreadable ones have no score at all. *Free scores* need only the records, also those of your own
training loop; for the others, `hardness score --run R --with NAME` evaluates the tracked network. The costs
of free scores are for 1,281,167 generated examples; those of the others are for {num_images:,} images of
{size} x {size} pixels and `small_cnn`.
"""

_CLOSED_FORM = """\
*exact*, *last layer*: milliseconds per example (and the equivalent number of forward passes). *speedup*: of
the closed form, with its own forward pass, or using one that is needed anyway. *correlation*: Spearman's,
between the two scores.
"""


if __name__ == "__main__":
    main()
