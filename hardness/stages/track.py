"""``hardness track``: train, and record for every example, every epoch, what the network made of it."""

import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from hardness import datasets, files, models, optim, seeding
from hardness.config import Data, Labels, Track
from hardness.console import progress, say
from hardness.datasets import DataSet, ImageSet
from hardness.datasets.folder import default_workers
from hardness.datasets.labels import noisy_labels, read_labels
from hardness.dynamics.recorder import Recorder
from hardness.dynamics.scores import scores
from hardness.dynamics.store import drop_epochs_after
from hardness.errors import UserError
from hardness.stages.run_folder import RunFolder
from hardness.training import checkpoint
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
        workers = default_workers(config.workers)
        data = datasets.load(config, model=config.model)
        train = data.train.with_labels(given_labels(data, config, config.noise))
        model = models.build(
            config.model, data, seed=seeding.derive(config.seed, "init"), stem=config.stem
        ).to(device)
        optimizer = optim.build(
            config.optimizer, model.parameters(), config.lr, config.weight_decay, config.momentum
        )
        run.update(
            seed=config.seed,
            fingerprint=data.fingerprint,
            record_mode=config.record,
            device=describe_device(device),
            data=describe(data),
            num_unreadable=len(train.unreadable),
            noise_rate=noise_rate(train),
            num_parameters=models.num_parameters(model),
        )
        _announce(config, train, run.info)
        files.write_table(run.path / "examples.parquet", examples(train), data.fingerprint)

        saved = run.path / "checkpoints" / "last.pt"
        last_epoch = checkpoint.load(saved, model, optimizer, device)
        drop_epochs_after(run.path, last_epoch)
        run.keep_log(lambda line: line["epoch"] <= last_epoch)
        recorder = Recorder(
            run.path,
            len(train),
            device,
            resume=True,
            unreadable=train.unreadable,
            fingerprint=data.fingerprint,
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
        with recorder:
            started = time.perf_counter()
            for log in progress(training, config.epochs - last_epoch, "tracking"):
                if config.record == "eval":
                    for batch in predict(model, train, train.ids, device, workers):
                        recorder.update(*batch)
                loss, accuracy = recorder.mean_loss, recorder.accuracy
                recorder.end_epoch()
                (validation,) = measure(
                    model, [Group("validation", data.validation, data.validation.ids)], device, workers
                )
                run.log(
                    **asdict(log),
                    record_loss=loss,
                    record_top1=accuracy,
                    validation_loss=validation["loss"],
                    validation_top1=validation["top1"],
                    validation_top5=validation["top5"],
                )
                checkpoint.save(saved, model, optimizer, log.epoch)
                seconds = time.perf_counter() - started
                if log.epoch == last_epoch + 1:
                    _say_time_left(seconds, config.epochs - log.epoch)
                say(
                    f"epoch {log.epoch}/{config.epochs}: train loss {log.train_loss:.3f}, "
                    f"{config.record} accuracy {accuracy:.3f}, validation {validation['top1']:.3f}"
                    f" ({log.images_per_second:.0f} images/s)"
                )
        table = scores(run.path, data.fingerprint)
        files.write_table(run.path / "scores.parquet", table, data.fingerprint)
        num_learned = int(table["first_learned_epoch"].notna().sum())
        say(f"learned at least once: {num_learned} of {len(train)}; scores in {run.path / 'scores.parquet'}")
    return run.path


def resolve_device(device: str) -> torch.device:
    """``auto``: CUDA where there is one."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("a CUDA device for --device cuda", "none", "use --device cpu")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def describe_device(device: torch.device) -> str:
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    return f"cpu: {torch.get_num_threads()} threads"


def describe(data: DataSet) -> dict:
    """What run.json says of a data set."""
    return {
        "num_train": len(data.train),
        "num_validation": len(data.validation),
        "class_names": list(data.class_names),
        "image_shape": list(data.image_shape),
        "mean": list(data.mean),
        "std": list(data.std),
    }


def given_labels(data: DataSet, config: Labels, noise: float) -> torch.Tensor:
    """(N,) int64: the labels that the configuration puts in place of the clean ones."""
    clean = data.train.clean_labels
    if config.given_labels is not None:
        return read_labels(config.given_labels, len(clean), data.num_classes)
    return noisy_labels(clean, data.num_classes, noise, config.noise_seed)


def noise_rate(images: ImageSet) -> float:
    """The realised share of corrupt labels among the readable examples."""
    ids = torch.from_numpy(images.ids)
    return (images.given_labels != images.clean_labels)[ids].double().mean().item()


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


def tracked_data(config: dict, moved_to: str | None = None) -> Data:
    """The data settings in a tracked run's configuration."""
    names = ("data", "size", "val_fraction", "on_bad_image", "cache", "workers")
    settings = {name: config[name] for name in names}
    return Data(**{**settings, **({"data": moved_to} if moved_to else {})})


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


def _say_time_left(seconds: float, epochs_left: int) -> None:
    if epochs_left:
        say(
            f"an epoch takes {seconds:.1f} s: {epochs_left} more, about {seconds * epochs_left / 60:.1f} minutes"
        )
