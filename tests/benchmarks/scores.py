"""The page of the scores: what each is, from the registry, and what it costs, measured.

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


def pictures(num_examples: int, size: int) -> DataSet:
    """Smooth random pictures of ten classes, each with a pattern of its own."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (num_examples,), generator=generator)
    coarse = torch.rand(10, 3, 4, 4, generator=generator)[labels]
    coarse = coarse + 0.8 * torch.rand(num_examples, 3, 4, 4, generator=generator)
    images = torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear").div_(1.8).mul_(255).byte()
    train = in_memory(images, labels, "train")
    names = [str(number) for number in range(10)]
    return DataSet(train, train, names, ImageAdapter((3, size, size), [0.5] * 3, [0.25] * 3))


def subject(place: Path, model: str, data: DataSet, config: Track) -> TrackedModel:
    job = Job.of(config, data, Resources(), examples=data.train, ids=data.train.ids)
    return TrackedModel(place, job, models.build(model, data, seed=0).eval())


def free_prices(num_examples: int, epochs: int) -> dict[str, float]:
    """Nanoseconds a record of each free score's own arithmetic, and of reading ("")."""
    with tempfile.TemporaryDirectory() as place:
        generate(Path(place), num_examples, epochs)
        read = list(read_epochs(Path(place)))

        def score(name: str) -> None:
            accumulator = SCORES[name].accumulator(num_examples)
            for epoch, records in read:
                # What scores share, as probabilities, is worked out anew by each.
                vars(records).pop("probability", None)
                accumulator.add(epoch, records)
            accumulator.result()

        works = {name: lambda name=name: score(name) for name in FREE}
        works[""] = lambda: [None for _ in read_epochs(Path(place))]
        found = in_turn(works, rounds=3)
    return {name: 1e9 * taken / (num_examples * epochs) for name, taken in found.items()}


def share_of_tracking(epochs: int) -> tuple[float, float]:
    """Seconds of tracking digits, and of all free scores of its records, in one process."""
    with tempfile.TemporaryDirectory() as place, redirect_stdout(sys.stderr):
        run = Path(place) / "run"
        taken = seconds(lambda: track(Track(epochs=epochs, model="small_cnn", out=run)))
        return taken, seconds(lambda: scores(run))


def network_prices(asked: TrackedModel, rounds: int) -> dict[str, float]:
    """Seconds of each probe but self-confidence, and of a forward pass ("")."""
    works = {
        name: lambda score=score: ask(score, asked) for name, score in SCORES.items() if score.needs_network
    }
    del works["self_confidence"]
    works[""] = lambda: list(asked.predictions())
    return in_turn(works, rounds)


def ask(score: ScoreEntry, asked: TrackedModel) -> np.ndarray:
    return score.load()(asked)


def self_confidence_price(epochs: int, rounds: int) -> float:
    """Times the price of tracking the run itself, without its records."""
    data = datasets.load(Data(), model="mlp")
    config = Track(epochs=epochs, lr=0.005)

    def score() -> None:
        with tempfile.TemporaryDirectory() as place, redirect_stdout(sys.stderr):
            ask(SCORES["self_confidence"], subject(Path(place), "mlp", data, config))

    def run() -> None:
        with tempfile.TemporaryDirectory() as place, redirect_stdout(sys.stderr):
            track(Track(epochs=epochs, lr=0.005, out=Path(place) / "run"))

    found = in_turn({"score": score, "run": run}, rounds)
    return found["score"] / found["run"]


def trained(place: Path, model: str, epochs: int) -> TrackedModel:
    """Digits, as a run of track leaves them."""
    config = Track(model=model, epochs=epochs, lr=0.005, out=place / model)
    with redirect_stdout(sys.stderr):
        run = track(config)
    asked = subject(run, model, datasets.load(Data(), model=model), config)
    checkpoint.load_weights(run, asked.model, CPU)
    return asked


def closed_form_rows(place: Path, smoke: bool) -> list[str]:
    epochs = 1 if smoke else 5
    cases = {"mlp, digits of 8 x 8": trained(place, "mlp", epochs)}
    if not smoke:
        cases["small_cnn, digits of 8 x 8"] = trained(place, "small_cnn", epochs)
        for model, num_examples, size in (("small_cnn", 500, 64), ("resnet18", 100, 64)):
            data = pictures(num_examples, size)
            name = f"{model}, pictures of {size} x {size}, before training"
            cases[name] = subject(place, model, data, Track())
    rows = []
    for name, asked in cases.items():
        names = ("grand", "grand_last_layer")
        works = {each: lambda each=each, asked=asked: ask(SCORES[each], asked) for each in names}
        works[""] = lambda asked=asked: list(asked.predictions())
        batches = list(asked.features())
        works["form"] = lambda batches=batches: [last_layer_norm(*batch) for batch in batches]
        found = in_turn(works, rounds=1 if smoke else 3)
        exact, last = (found[each] / len(asked.examples) * 1e3 for each in names)
        agreement = spearmanr(*(ask(SCORES[each], asked) for each in names)).statistic
        ratio = found["grand"] / found["grand_last_layer"]
        passes = found["grand"] / found[""], found["grand_last_layer"] / found[""]
        rows.append(
            f"| {name} | {exact:.3f} ({passes[0]:.0f}) | {last:.4f} ({passes[1]:.1f}) | **{ratio:.0f}** | "
            f"{found['grand'] / found['form']:,.0f} | {agreement:.3f} |"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="small sizes and few rounds: does it run?")
    smoke = parser.parse_args().smoke
    free = free_prices(*((2_000, 2) if smoke else (1_281_167, 6)))
    data = pictures(*((60, 16) if smoke else (2_000, 32)))
    with tempfile.TemporaryDirectory() as place:
        network = network_prices(subject(Path(place), "small_cnn", data, Track()), 1 if smoke else 3)
        closed = closed_form_rows(Path(place), smoke)
    folds = self_confidence_price(*((1, 1) if smoke else (10, 3)))
    tracking, scoring = share_of_tracking(1 if smoke else 20)
    print(_HEAD.format(machine=machine(), num_pictures=len(data.train), size=data.adapter.input_shape[1]))
    for score in SCORES.values():
        harder = "larger" if score.sign > 0 else "smaller"
        if score.name in free:
            price = f"{free[score.name]:.1f} ns a record"
        elif score.name == "self_confidence":
            price = f"{folds:.1f} x the run that is scored"
        else:
            taken = network[score.name]
            price = (
                f"{1e3 * taken / len(data.train):.3f} ms an example, {taken / network['']:.1f} forward passes"
            )
        print(f"### {score.name}\n\n{score.summary} `{score.formula}`\n")
        print(f"- {score.range}; {harder} is harder. {score.source}.\n- {score.use}\n- Price: {price}.\n")
    print("## Free scores beside tracking\n")
    print(
        f"Reading takes {free['']:.1f} ns a record, and the {len(FREE)} free scores together "
        f"{sum(free[name] for name in FREE):.1f} ns on top. Tracking `small_cnn` on digits takes "
        f"{tracking:.2f} s, all free scores of its records {scoring:.3f} s: **{scoring / tracking:.2%}**.\n"
    )
    print("## GraNd, exactly and by the last layer\n")
    print(_CLOSED_FORM)
    print("| | exact | last layer | x as fast | on top of a pass | correlation |")
    print("| --- | --: | --: | --: | --: | --: |")
    print("\n".join(closed))


_HEAD = """# The scores

Made by `python -m tests.benchmarks.scores` from the registry, `hardness.dynamics.scores.SCORES`.
{machine} Medians; what is compared was timed in turn.

p is the probability of the given label y, z are the logits, L is the loss, t an epoch of T. Never-learned
examples have no first-learned epoch, learned epoch or forgetting count, and rank as the hardest; unreadable
ones have no score at all. The free scores come from the records, whoever wrote them; for the others
`hardness score --run R --with NAME` asks the tracked network. Prices of the free ones are of 1,281,167
generated examples, those of the others of {num_pictures:,} pictures of {size} x {size} pixels and
`small_cnn`.
"""

_CLOSED_FORM = """Milliseconds an example (and forward passes); times as fast as it the closed form is, with a
forward pass of its own and on top of one that is made anyway; Spearman's rank correlation of the two.
"""


if __name__ == "__main__":
    main()
