"""What the processes of ``tests.processes`` need not import: imported once, by their server."""

import matplotlib as mpl
import matplotlib.pyplot
import pytest  # noqa: F401
import sklearn.datasets  # noqa: F401
import torch
import torch._dynamo
import torchvision  # noqa: F401

import tests.processes  # noqa: F401
from hardness.registry import STAGES

mpl.use("Agg")
torch.set_num_threads(1)
for stage in STAGES.values():
    stage.code()
