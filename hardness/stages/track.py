"""``hardness track``: train a network, and record every example in every epoch."""

import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich import filesize
from torch import nn

from hardness import datasets, distributed, files, models, optim, seeding
from hardness.config import Track
from hardness.console import Epochs, say, say_time_left
from hardness.datasets import DataSet, ImageSet, augment
from hardness.datasets.labels import given_labels, labels_fingerprint, noise_rate
from hardness.dynamics.recorder import Recorder
from hardness.dynamics.scores import scores
from hardness.dynamics.store import BYTES_PER_RECORD, recorded_epochs
from hardness.errors import UserError
from hardness.stages.coherence import add_coherence
from hardness.stages.run_folder import RunFolder
from hardness.subsets import matched_samples
from hardness.training import checkpoint
from hardness.training.device import describe_device, resolve_device, resolve_precision
from hardness.training.fit import fit
from hardness.training.measure import Group, measure, measure_coherence, predict


def track(config: Track) -> Path:
    """Track a run -> its folder, with dynamics/, examples.parquet, scores.parquet and log.jsonl.

    Under ``torchrun`` the ranks share the run.
    """
    device = resolve_device(config.device)
    with distributed.joined(device):
        return _track(config, device)


def _track(config: Track, device: torch.device) -> Path:
    run = RunFolder("track", config)
    if run.is_finished:
        return run.path
    with run:
        data = datasets.load(config, model=config.model, workers=config.num_workers, device=device)
        train = data.train.with_labels(given_labels(data, config, config.noise))
        data = replace(data, train=train)
        precision = resolve_precision(config.precision, device)
        model = models.build(
            config.model,
            data,
            seed=seeding.derive(config.seed, "init"),
            stem=config.stem,
            precision=precision,
            compile=config.compile,
        ).to(device)
        if config.sync_batchnorm:
            if device.type != "cuda":
                sentence = "--sync-batchnorm needs CUDA (the device is {device})."
                raise UserError("sync-batchnorm-on-cpu", sentence, "Remove it.", device=str(device))
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        run.update(
            seed=config.seed,
            fingerprint=data.fingerprint,
            record_mode=config.record,
            device=describe_device(device),
            precision=precision,
            data=data.describe(),
            num_unreadable=len(train.unreadable),
            noise_rate=noise_rate(train),
            labels_fingerprint=labels_fingerprint(train.given_labels),
            num_parameters=models.num_parameters(model),
        )
        _announce(config, train, run.info)
        if distributed.rank() == 0:
            files.write_table(run.path / "examples.parquet", examples(train), data.fingerprint)
        _train(run, config, data, model, device)
        if distributed.rank() == 0:
            table = scores(run.path, data.fingerprint)
            settings = {"last_epoch": config.epochs, "asked": {}}
            files.write_table(run.path / "scores.parquet", table, data.fingerprint, settings)
            learned = f"{table['first_learned_epoch'].notna().sum()} of {len(train)}"
            say(f"Learned at least once: {learned}. Scores: {run.path / 'scores.parquet'}")
        distributed.wait_for_all()
    return run.path


def _train(run: RunFolder, config: Track, data: DataSet, model: nn.Module, device: torch.device) -> None:
    """Train from the last complete epoch on; after each, write records, a line of the log, a checkpoint."""
    train, workers = data.train, config.num_workers
    optimizer = optim.build(
        config.optimizer, model.parameters(), config.lr, config.weight_decay, config.momentum
    )
    saved = run.path / "checkpoints" / "last.pt"
    last_epoch = checkpoint.load(saved, model, optimizer, device)
    # A kill leaves at most one epoch with records but no checkpoint: it is trained again.
    if (recorded := recorded_epochs(run.path)) and recorded[-1] > last_epoch + 1:
        found = f"is of epoch {last_epoch}" if last_epoch else "is missing"
        sentence = "{path} {found}, but there are records of {epoch} epochs."
        values = {"path": str(saved), "found": found, "epoch": recorded[-1]}
        hint = "Restore the checkpoint, or choose another --out."
        raise UserError("missing-checkpoint", sentence, hint, **values)
    run.keep_log(lambda line: line["epoch"] <= last_epoch)
    recorder = Recorder(
        run.path,
        len(train),
        device,
        resume=True,
        # Without a checkpoint, the epoch that is trained again is the first.
        overwrite=True,
        last_epoch=last_epoch,
        unreadable=train.unreadable,
        fingerprint=data.fingerprint,
        precision=config.record_precision,
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
        augment=augment.build(config.augment, data.image_shape, config.seed),
    )
    validation = [Group("validation", data.validation, data.validation.ids)]
    coherence_groups = _coherence_groups(train, config) if config.coherence_every else []

    def measure_periodically(epoch: int) -> None:
        """Coherence and kept weights, by one rank: all have the same weights."""
        if distributed.rank() > 0:
            return
        if config.coherence_every and epoch % config.coherence_every == 0:
            rows = measure_coherence(model, coherence_groups, epoch, device, workers)
            add_coherence(run.path, rows, data.fingerprint)
        if config.checkpoint_every and epoch % config.checkpoint_every == 0:
            checkpoint.keep_weights(run.path, model, epoch)

    if last_epoch == 0:
        measure_periodically(0)
    with recorder, Epochs(config.epochs, last_epoch) as epochs:
        epochs.begin("tracking")
        started = time.perf_counter()
        for log in training:
            if config.record == "eval":
                for batch in predict(model, train, train.ids, device, workers):
                    recorder.update(*batch)
            try:
                recorded = recorder.end_epoch()
            except ValueError as error:
                sentence, reason = "Recording failed: {reason}.", str(error).rstrip(".")
                raise UserError("loss-not-finite", sentence, "Lower --lr.", reason=reason) from error
            (measured,) = measure(model, validation, device, workers)
            line = asdict(log) | {"record_loss": recorded.loss, "record_top1": recorded.accuracy}
            line["learned"] = recorded.learned
            line |= {f"validation_{name}": measured[name] for name in ("loss", "top1", "top5")}
            measure_periodically(log.epoch)
            # A checkpoint means that its epoch is complete: its records must be on disk first.
            recorder.flush()
            distributed.wait_for_all()
            run.log(**line)
            if distributed.rank() == 0:
                checkpoint.save(saved, model, optimizer, log.epoch)
            # The first epoch takes longer, so the second is timed.
            if log.epoch == last_epoch + 2:
                say_time_left("an epoch", time.perf_counter() - started, config.epochs - log.epoch)
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


def _coherence_groups(train: ImageSet, config: Track) -> list[Group]:
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
