"""torchvision's small data sets: MNIST, FashionMNIST, CIFAR10, CIFAR100."""

from pathlib import Path
from typing import TYPE_CHECKING

from hardness.config import Data
from hardness.datasets.source import Source
from hardness.errors import UserError, unknown_name
from hardness.registry import SOURCES

if TYPE_CHECKING:
    from torch import Tensor

    from hardness.datasets.examples import DataSet
    from hardness.resources import Resources

_NAMES = ("MNIST", "FashionMNIST", "CIFAR10", "CIFAR100")


@SOURCES.register("torchvision", syntax="NAME:PATH")
class TorchvisionData(Source):
    """NAME:PATH, one of torchvision's data sets. Nothing is downloaded without --download."""

    @property
    def class_name(self) -> str:
        return self.place.partition(":")[0]

    @property
    def root(self) -> str:
        return self.place.partition(":")[2]

    def check_syntax(self) -> None:
        if self.class_name not in _NAMES:
            raise unknown_name("a torchvision data set", self.class_name, _NAMES)
        self._require_path(self.root)

    @property
    def packed_folder(self) -> Path:
        return Path(self.root, f"{self.class_name}.packed")

    def load(self, config: Data, model: str, resources: "Resources") -> "DataSet":
        from hardness.datasets.images import data_set

        ranks = resources.ranks
        # One process downloads, while the others wait.
        if config.download and not ranks.is_first:
            ranks.barrier()
        *train, class_names = self._part(True, config.download)
        *validation, _ = self._part(False, config.download)
        if config.download and ranks.is_first:
            ranks.barrier()
        return data_set(train, validation, class_names)

    def _part(self, is_train: bool, download: bool) -> tuple["Tensor", "Tensor", list[str]]:
        """(uint8 (N, C, H, W), labels (N,), class names)."""
        import torch
        import torchvision

        try:
            # The CIFAR files are pickles; torchvision only opens them if their MD5 is the published one.
            open_part = getattr(torchvision.datasets, self.class_name)
            images = open_part(Path(self.root), train=is_train, download=download)
        except (RuntimeError, AssertionError, ValueError, EOFError) as error:
            sentence = "{name} cannot be read from {path} ({reason})."
            hint = "Check the path, or pass --download."
            values = {"name": self.class_name, "path": self.root, "reason": str(error)}
            raise UserError("unreadable-data-set", sentence, hint, **values) from error
        pixels = torch.as_tensor(images.data)
        # MNIST: (N, H, W). CIFAR: (N, H, W, C).
        pixels = pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2).contiguous()
        return pixels, torch.as_tensor(images.targets), images.classes
