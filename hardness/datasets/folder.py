"""Image folders: PATH/train/CLASS/*.jpg and PATH/val/CLASS/*.jpg, in torchvision's class order."""

from pathlib import Path

from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

from hardness.config import Data
from hardness.datasets.base import DataSet
from hardness.datasets.decoding import File
from hardness.datasets.samples import Sample, from_samples, hold_out
from hardness.errors import UserError


def load(place: str, config: Data, *, model: str, workers: int, imagenet_sizes: bool = False) -> DataSet:
    """Scan the folders."""
    root = Path(place)
    class_names = sorted(entry.name for entry in (root / "train").iterdir() if entry.is_dir())
    if not class_names:
        raise UserError(f"a folder a class in {root / 'train'}", "none", "put the images in class folders")
    train = _scan(root / "train", class_names)
    if config.val_fraction is None:
        foreign = sorted({e.name for e in (root / "val").iterdir() if e.is_dir()} - set(class_names))
        if foreign:
            found = f"{', '.join(foreign[:3])} in {root / 'val'} alone"
            raise UserError("the classes of train/ in val/", found, "remove it or add it to train/")
        validation = _scan(root / "val", class_names)
    else:
        train, validation = hold_out(train, config.val_fraction)

    def key_of(path: File) -> str:
        return path.removeprefix(f"{root}/")

    settings = {"model": model, "workers": workers, "imagenet_sizes": imagenet_sizes}
    return from_samples(train, validation, class_names, key_of, config, **settings)


def _scan(folder: Path, class_names: list[str]) -> list[Sample]:
    """(path, label) of every image file, in torchvision's order."""
    classes = {name: index for index, name in enumerate(class_names) if (folder / name).is_dir()}
    samples = make_dataset(str(folder), classes, IMG_EXTENSIONS, allow_empty=True)
    for name in sorted(set(classes) - {class_names[label] for _, label in samples}):
        raise UserError(
            f"images in {folder / name}",
            f"no file ending in {' '.join(IMG_EXTENSIONS)}",
            "add images or remove the folder",
        )
    if not samples:
        raise UserError(f"images in {folder}", "none", "put the images in class folders")
    for path, _ in samples:
        try:
            path.encode()
        except UnicodeEncodeError as error:
            raise UserError("names of files and folders in UTF-8", ascii(path), "rename it") from error
    return [(File(path), label) for path, label in samples]
