"""``hardness track``: train, and record for every example, every epoch, what the network made of it."""

import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from hardness import datasets, files, models, optim, seeding
from hardness.config import Track
from hardness.console import progress, say, say_time_left
from hardness.datasets import DataSet, ImageSet
from hardness.datasets.labels import given_labels, labels_fingerprint, noise_rate
from hardness.dynamics.recorder import Recorder
from hardness.dynamics.scores import scores
from hardness.dynamics.store import drop_epochs_after, recorded_epochs
from hardness.errors import UserError
from hardness.stages.run_folder import RunFolder
from hardness.training import checkpoint
from hardness.training.device import describe_device, resolve_device
from hardness.training.fit import fit
from hardness.training.measure import Group, measure, predict

_BYTES_PER_RECORD = 20
"""On disk: four numbers that hardly compress, and labels that do."""


def track(config: Track) -> Path:
    """Track a run -> its folder, with dynamics/, examples.parquet, scores.parquet and log.jsonl."""
    run = RunFolder("track", config)
    if run.is_finished:
        return run.path
    with run:
        device = resolve_device(config.device)
        data = datasets.load(config, model=config.model, workers=config.num_workers)
        train = data.train.with_labels(given_labels(data, config, config.noise))
        data = replace(data, train=train)
        model = models.build(
            config.model, data, seed=seeding.derive(config.seed, "init"), stem=config.stem
        ).to(device)
        run.update(
            seed=config.seed,
            fingerprint=data.fingerprint,
            record_mode=config.record,
            device=describe_device(device),
            data=data.describe(),
            num_unreadable=len(train.unreadable),
            noise_rate=noise_rate(train),
            labels_fingerprint=labels_fingerprint(train.given_labels),
            num_parameters=models.num_parameters(model),
        )
        _announce(config, train, run.info)
        files.write_table(run.path / "examples.parquet", examples(train), data.fingerprint)
        _train(run, config, data, model, device)
        table = scores(run.path, data.fingerprint)
        files.write_table(run.path / "scores.parquet", table, data.fingerprint)
        num_learned = int(table["first_learned_epoch"].notna().sum())
        say(f"learned at least once: {num_learned} of {len(train)}; scores in {run.path / 'scores.parquet'}")
    return run.path


def _train(run: RunFolder, config: Track, data: DataSet, model: nn.Module, device: torch.device) -> None:
    """Go on from the last whole epoch; after each, write its records, a line of log, a checkpoint."""
    train, workers = data.train, config.num_workers
    optimizer = optim.build(
        config.optimizer, model.parameters(), config.lr, config.weight_decay, config.momentum
    )
    saved = run.path / "checkpoints" / "last.pt"
    last_epoch = checkpoint.load(saved, model, optimizer, device)
    drop_epochs_after(run.path, last_epoch)
    if (recorded := recorded_epochs(run.path)) != list(range(1, last_epoch + 1)):
        raise UserError(
            f"records of epochs 1..{last_epoch}, after which {saved} was saved",
            f"epochs {', '.join(map(str, recorded)) or 'none'}",
            "restore the missing ones, or track anew",
        )
    run.keep_log(lambda line: line["epoch"] <= last_epoch)
    recorder = Recorder(
        run.path, len(train), device, resume=True, unreadable=train.unreadable, fingerprint=data.fingerprint
    )
    training = fit(
        model,
        optimizer,
        train,
        train.ids,
        epochs=config.epochs,
        batch_size=config.batch_size,
        schedule=config.schedule,
        seed=config.seed,
        device=device,
        workers=workers,
        first_epoch=last_epoch + 1,
        recorder=recorder if config.record == "train" else None,
    )
    validation = [Group("validation", data.validation, data.validation.ids)]
    with recorder:
        started = time.perf_counter()
        for log in progress(training, config.epochs - last_epoch, "tracking"):
            if config.record == "eval":
                for batch in predict(model, train, train.ids, device, workers):
                    recorder.update(*batch)
            recorded = {"record_loss": recorder.mean_loss, "record_top1": recorder.accuracy}
            recorder.end_epoch()
            (measured,) = measure(model, validation, device, workers)
            recorded |= {f"validation_{name}": measured[name] for name in ("loss", "top1", "top5")}
            run.log(**asdict(log), **recorded)
            checkpoint.save(saved, model, optimizer, log.epoch)
            if log.epoch == last_epoch + 1:
                say_time_left("an epoch", time.perf_counter() - started, config.epochs - log.epoch)
            say(
                f"epoch {log.epoch}/{config.epochs}: train loss {log.train_loss:.3f}, "
                f"{config.record} accuracy {recorded['record_top1']:.3f}, "
                f"validation {recorded['validation_top1']:.3f} ({log.images_per_second:.0f} images/s)"
            )


def examples(images: ImageSet) -> pd.DataFrame:
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


def _announce(config: Track, train: ImageSet, info: dict) -> None:
    num_records = len(train) * config.epochs
    say(
        f"track {config.data} with {config.model} and {config.optimizer}: {len(train):,} images, "
        f"{info['num_parameters']:,} parameters, {num_records:,} records in {config.epochs} epochs, "
        f"about {num_records * _BYTES_PER_RECORD / 1e6:,.1f} MB, on {info['device']}"
    )
    if config.noise or config.given_labels:
        say(f"corrupt labels: {info['noise_rate']:.4f} of the examples")
    if info["num_unreadable"]:
        say(f"unreadable images left out: {info['num_unreadable']}")
