"""What the processes of ``tests.processes`` need not import: imported once, by their server."""

import importlib

import matplotlib as mpl
import matplotlib.pyplot
import pytest  # noqa: F401
import sklearn.datasets  # noqa: F401
import torch
import torch._dynamo
import torchvision  # noqa: F401

import tests.processes  # noqa: F401
from hardness.cli import COMMANDS

mpl.use("Agg")
torch.set_num_threads(1)
for place in COMMANDS.values():
    importlib.import_module(place.partition(":")[0])
