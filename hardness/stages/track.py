"""``hardness track``: train a network, and record every example in every epoch."""

import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
from rich import filesize

from hardness import datasets, files, models, seeding
from hardness.console import Epochs, say, say_time_left
from hardness.datasets import Examples
from hardness.datasets.labels import given_labels, labels_fingerprint, noise_rate
from hardness.dynamics.recorder import Recorder
from hardness.dynamics.scores import scores
from hardness.dynamics.store import BYTES_PER_RECORD, recorded_epochs
from hardness.errors import UserError
from hardness.ranks import joined, launched
from hardness.resources import Resources, resolve_device
from hardness.runs.coherence import add_coherence
from hardness.runs.folder import RunFolder
from hardness.settings.track import Track
from hardness.subsets import matched_samples
from hardness.training import checkpoint
from hardness.training.job import Job, StartedJob
from hardness.training.measure import Group, measure, measure_coherence, predict


def track(config: Track) -> Path:
    """Track a run -> its folder, with dynamics/, examples.parquet, scores.parquet and log.jsonl.

    The processes that ``torchrun`` starts share the run.
    """
    ranks = launched()
    with joined(resolve_device(config.device, ranks)):
        return _track(config, Resources.of(config.device, config.workers, ranks))


def _track(config: Track, resources: Resources) -> Path:
    ranks = resources.ranks
    run = RunFolder("track", config, ranks)
    if run.is_finished:
        return run.path
    with run:
        data = datasets.load(
            config, model=config.model, workers=resources.workers, device=resources.device, ranks=ranks
        )
        train = data.train.with_labels(given_labels(data, config, config.noise))
        data = replace(data, train=train)
        training = Job.of(config, data, resources, examples=train, ids=train.ids).start()
        run.update(
            seed=config.seed,
            fingerprint=data.fingerprint,
            record_mode=config.record,
            device=resources.describe(),
            precision=config.compute_precision,
            data=data.describe(),
            num_unreadable=len(train.unreadable),
            noise_rate=noise_rate(train),
            labels_fingerprint=labels_fingerprint(train.given_labels),
            num_parameters=models.num_parameters(training.model),
        )
        _announce(config, train, run.info)
        if ranks.is_first:
            files.write_table(run.path / "examples.parquet", examples(train), data.fingerprint)
        _train(run, config, training)
        if ranks.is_first:
            table = scores(run.path, data.fingerprint)
            settings = {"last_epoch": config.epochs, "asked": {}}
            files.write_table(run.path / "scores.parquet", table, data.fingerprint, settings)
            learned = f"{table['first_learned_epoch'].notna().sum()} of {len(train)}"
            say(f"Learned at least once: {learned}. Scores: {run.path / 'scores.parquet'}")
        ranks.barrier()
    return run.path


def _train(run: RunFolder, config: Track, training: StartedJob) -> None:
    """Continue after the last complete epoch; each epoch writes records, a log line, a checkpoint."""
    job, saved = training.job, run.path / "checkpoints" / "last.pt"
    train, validation, ranks = job.examples, job.data.validation, job.resources.ranks
    last_epoch = training.load(saved)
    _check_records(run.path, saved, last_epoch)
    run.keep_log(lambda line: line["epoch"] <= last_epoch)
    recorder = _recorder(run.path, config, job, last_epoch)
    measure_periodically = _Periodic(run.path, config, training)
    if last_epoch == 0:
        measure_periodically(0)
    with recorder, Epochs(config.epochs, last_epoch) as epochs:
        epochs.begin("tracking")
        started = time.perf_counter()
        for log in training.epochs(last_epoch, recorder if config.record == "train" else None):
            if config.record == "eval":
                for batch in predict(training.model, train, train.ids, job.resources):
                    recorder.update(*batch)
            try:
                recorded = recorder.end_epoch()
            except ValueError as error:
                sentence, reason = "Recording failed: {reason}.", str(error).rstrip(".")
                raise UserError("loss-not-finite", sentence, "Lower --lr.", reason=reason) from error
            (measured,) = measure(
                training.model, [Group("validation", validation, validation.ids)], job.resources
            )
            line = asdict(log) | {"record_loss": recorded.loss, "record_top1": recorded.accuracy}
            line["learned"] = recorded.learned
            line |= {f"validation_{name}": measured[name] for name in ("loss", "top1", "top5")}
            measure_periodically(log.epoch)
            # A checkpoint means that its epoch is complete: its records must be on disk first.
            recorder.flush()
            ranks.barrier()
            run.log(**line)
            if ranks.is_first:
                training.save(saved, log.epoch)
            # The first epoch takes longer, so the second is timed.
            if log.epoch == last_epoch + 2:
                say_time_left("epoch", time.perf_counter() - started, config.epochs - log.epoch)
            started = time.perf_counter()
            epochs.add(
                {
                    "epoch": f"{log.epoch}/{config.epochs}",
                    "train loss": f"{log.train_loss:.3f}",
                    f"{config.record} accuracy": f"{recorded.accuracy:.3f}",
                    "learned so far": f"{recorded.learned:.3f}",
                    "validation": f"{measured['top1']:.3f}",
                    "images/s": f"{log.images_per_second:.0f}",
                }
            )


def _check_records(run: Path, saved: Path, last_epoch: int) -> None:
    """A kill leaves at most one epoch with records but without a checkpoint: that one is trained again."""
    if (recorded := recorded_epochs(run)) and recorded[-1] > last_epoch + 1:
        found = f"is of epoch {last_epoch}" if last_epoch else "is missing"
        sentence = "{path} {found}, but there are records of {epoch} epochs."
        values = {"path": str(saved), "found": found, "epoch": recorded[-1]}
        hint = "Restore the checkpoint, or choose another --out."
        raise UserError("missing-checkpoint", sentence, hint, **values)


def _recorder(run: Path, config: Track, job: Job, last_epoch: int) -> Recorder:
    return Recorder(
        run,
        len(job.examples),
        job.resources.device,
        resume=True,
        # Without a checkpoint, the epoch that is trained again is the first.
        overwrite=True,
        last_epoch=last_epoch,
        unreadable=job.examples.unreadable,
        fingerprint=job.data.fingerprint,
        precision=config.record_precision,
        ranks=job.resources.ranks,
    )


class _Periodic:
    """What is measured and kept every so many epochs, by one rank: all have the same weights."""

    def __init__(self, run: Path, config: Track, training: StartedJob):
        self.run, self.config, self.training = run, config, training
        self.groups = _coherence_groups(training.job.examples, config) if config.coherence_every else []

    def __call__(self, epoch: int) -> None:
        config, job, model = self.config, self.training.job, self.training.model
        if not job.resources.ranks.is_first:
            return
        if config.coherence_every and epoch % config.coherence_every == 0:
            rows = measure_coherence(model, self.groups, epoch, job.resources)
            add_coherence(self.run, rows, job.data.fingerprint)
        if config.checkpoint_every and epoch % config.checkpoint_every == 0:
            checkpoint.keep_weights(self.run, model, epoch)


def _coherence_groups(train: Examples, config: Track) -> list[Group]:
    """A fixed sample; with corrupt labels, class-matched samples of pristine and corrupt examples too."""
    generator = seeding.generator(config.seed, "coherence sample")
    classes = train.given_labels.numpy()
    samples = matched_samples({"train": train.ids}, classes, config.coherence_sample, generator)
    is_corrupt = (train.given_labels != train.clean_labels).numpy()[train.ids]
    if is_corrupt.any():
        kinds = {"pristine": train.ids[~is_corrupt], "corrupt": train.ids[is_corrupt]}
        samples |= matched_samples(kinds, classes, config.coherence_sample, generator)
    # The coherence of a single example is undefined.
    return [Group(name, train, ids) for name, ids in samples.items() if len(ids) > 1]


def examples(images: Examples) -> pd.DataFrame:
    """The table of examples.parquet."""
    return pd.DataFrame(
        {
            "example_id": np.arange(len(images)),
            "key": list(images.keys),
            "clean_label": images.clean_labels.numpy().astype(np.int32),
            "given_label": images.given_labels.numpy().astype(np.int32),
            "is_corrupt": (images.given_labels != images.clean_labels).numpy(),
            "is_readable": np.isin(np.arange(len(images)), images.ids),
        }
    )


def _announce(config: Track, train: Examples, info: dict) -> None:
    num_records = len(train) * config.epochs
    size = filesize.decimal(num_records * BYTES_PER_RECORD[config.record_precision])
    say(
        f"track {config.data} with {config.model} and {config.optimizer}: {len(train):,} images, "
        f"{info['num_parameters']:,} parameters, {num_records:,} records in {config.epochs} epochs, "
        f"about {size}, on {info['device']}"
    )
    if config.noise or config.given_labels:
        say(f"corrupt labels: {info['noise_rate']:.4f} of the examples")
    if info["num_unreadable"]:
        say(f"unreadable images left out: {info['num_unreadable']}")
