"""``hardness memorize``: train with every optimizer under the same label noise, all else equal."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from hardness import datasets, seeding
from hardness.console import say, table
from hardness.datasets import Examples
from hardness.datasets.labels import given_labels, labels_fingerprint, noise_rate
from hardness.findings.curves import last_epoch
from hardness.findings.memorization import Memorization
from hardness.resources import Resources
from hardness.runs.folder import RunFolder
from hardness.runs.learning_rates import searched_rates
from hardness.settings.memorize import Memorize
from hardness.training.grid import Member, by_hardness, train_grid
from hardness.training.measure import Group

_LR = 0.2
SAMPLE = 50_000
"""The largest number of examples measured in a group, as in the paper."""


def memorize(config: Memorize) -> Path:
    """Train the grid of noise x optimizer x seed -> the run's folder, with curves.parquet."""
    if config.lr is None and not config.lr_from:
        config = replace(config, lr=_LR)
    run = RunFolder("memorize", config)
    if run.is_finished:
        return run.path
    with run:
        resources = Resources.of(config.device, config.workers)
        data = datasets.load(config, model=config.model, workers=resources.workers, device=resources.device)
        noisy = {noise: data.train.with_labels(given_labels(data, config, noise)) for noise in config.noise}
        # A resumed run keeps its rates.
        rates = run.info.get("learning_rates") or (
            searched_rates(config.lr_from, data.fingerprint, config.optimizers)
            if config.lr_from
            else dict.fromkeys(config.optimizers, config.lr)
        )
        run.update(
            fingerprint=data.fingerprint,
            learning_rates=rates,
            device=resources.describe(),
            precision=config.compute_precision,
            data=data.describe(),
            num_unreadable=len(data.train.unreadable),
            labels_fingerprint=labels_fingerprint(torch.cat([n.given_labels for n in noisy.values()])),
            noise_rates={f"{noise:g}": noise_rate(images) for noise, images in noisy.items()},
        )
        validation = Group("validation", data.validation, data.validation.ids)
        members = grid(noisy, validation, config.noise_seed, config.seeds, rates)
        say(
            f"memorize {config.data}: {len(members)} networks, {config.model}, {len(data.train):,} images, "
            f"{config.epochs} epochs, on {resources.describe()}"
        )
        for noise, rate in run.info["noise_rates"].items():
            say(f"noise {noise}: corrupt labels {rate:.4f} of the examples")
        curves = train_grid(run, members, by_hardness(data, config, resources), config.epochs)
        describe(curves)
    return run.path


def grid(
    noisy: dict[float, Examples],
    validation: Group,
    noise_seed: int,
    seeds: int,
    rates: dict[str, float],
) -> list[Member]:
    """Networks: noise level -> its examples, times seeds, times optimizer -> its learning rate."""
    return [
        Member(
            trained_on="all",
            optimizer=optimizer,
            lr=rate,
            noise=noise,
            seed=seed,
            stream=seed,
            examples=images,
            ids=images.ids,
            groups=_groups(images, validation, noise_seed),
        )
        for noise, images in noisy.items()
        for seed in range(seeds)
        for optimizer, rate in rates.items()
    ]


def _groups(images: Examples, validation: Group, noise_seed: int) -> list[Group]:
    """Fixed samples of pristine, corrupt and all training examples, and the clean validation set."""
    is_corrupt = (images.given_labels != images.clean_labels).numpy()[images.ids]
    generator = seeding.generator(noise_seed, "measured examples")

    def sample(ids: np.ndarray) -> np.ndarray:
        return ids if len(ids) <= SAMPLE else np.sort(generator.choice(ids, SAMPLE, replace=False))

    corrupt = sample(images.ids[is_corrupt])
    groups = [
        Group("pristine", images, sample(images.ids[~is_corrupt])),
        Group("corrupt", images, corrupt),
        Group("corrupt-clean", images, corrupt, against_clean=True),
        Group("train", images, sample(images.ids)),
        validation,
    ]
    return [group for group in groups if len(group.ids)]


def describe(curves: pd.DataFrame) -> None:
    for noise, level in curves.groupby("noise", sort=False):
        last = last_epoch(level).pivot_table("top1", "optimizer", "measured_on", sort=False)
        rows = [[name, *(f"{value:.3f}" for value in row)] for name, row in last.iterrows()]
        table(f"Top-1 at the last epoch, noise {noise:g}, mean over seeds", ["", *last.columns], rows)
        words = Memorization.of(level).words()
        for sentence in (*words.sentences, *words.cautions):
            say(sentence)
