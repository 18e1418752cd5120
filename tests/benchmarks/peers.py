"""The same images through the loaders of other libraries: functions (images) -> {name: one shuffled pass}.

A pass yields batches of 256 uint8 images that have been resized and cropped. Libraries that are not installed
are skipped. Installing FFCV needs the headers of OpenCV and libjpeg-turbo.
"""

import contextlib
import importlib.util
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

BATCH = 256
Pass = Callable[[], Iterator]


@dataclass(frozen=True)
class Images:
    """JPEGs in ``folder``/train/CLASS/, and their pixels, in the same order."""

    folder: Path
    resize: int
    crop: int
    pixels: np.ndarray
    """uint8 (N, H, W, C)."""

    @property
    def files(self) -> list[Path]:
        return [Path(path) for path, _ in ImageFolder(self.folder / "train").samples]

    def transform(self, last: v2.Transform) -> v2.Compose:
        return v2.Compose([v2.Resize(self.resize), v2.CenterCrop(self.crop), last])


def image_folder(images: Images, workers: int) -> dict[str, Pass]:
    def passes(last: v2.Transform) -> Pass:
        folder = ImageFolder(images.folder / "train", images.transform(last))
        loader = DataLoader(folder, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
        return lambda: iter(loader)

    scale = v2.Compose(
        [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.2] * 3)]
    )
    return {
        "ImageFolder, uint8": passes(v2.PILToTensor()),
        "ImageFolder, normalized": passes(scale),
    }


def web_dataset(images: Images, workers: int) -> dict[str, Pass]:
    import webdataset

    def write(name: str, content: Callable[[int], bytes], kind: str) -> str:
        path = images.folder / f"{name}.tar"
        with tarfile.open(path, "w") as tar:
            for number in range(len(images.pixels)):
                for ending, data in ((kind, content(number)), ("cls", b"0")):
                    info = tarfile.TarInfo(f"{number:06d}.{ending}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
        return str(path)

    def passes(path: str, kind: str, change: Callable) -> Pass:
        # Only one worker can read one tar. Shuffled in a buffer, as is usual with WebDataset.
        samples = webdataset.WebDataset(path, shardshuffle=False).shuffle(1000)
        samples = samples.decode("pil").to_tuple(kind, "cls").map_tuple(change, lambda label: label)
        loader = webdataset.WebLoader(samples.batched(BATCH), batch_size=None, num_workers=0)
        return lambda: iter(loader)

    def npy(number: int) -> bytes:
        buffer = io.BytesIO()
        np.save(buffer, images.pixels[number])
        return buffer.getvalue()

    files = images.files
    jpegs = write("jpegs", lambda number: files[number].read_bytes(), "jpg")
    arrays = write("arrays", npy, "npy")
    return {
        "WebDataset, JPEG": passes(jpegs, "jpg", images.transform(v2.PILToTensor())),
        "WebDataset, arrays": passes(arrays, "npy", torch.from_numpy),
    }


def hugging_face(images: Images, workers: int) -> dict[str, Pass]:
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(images.folder / "cache")}
    import datasets

    datasets.disable_progress_bars()
    shape = images.pixels.shape[1:]
    jpegs = datasets.Dataset.from_dict(
        {"image": [{"path": None, "bytes": file.read_bytes()} for file in images.files]},
        features=datasets.Features({"image": datasets.Image()}),
    )
    arrays = datasets.Dataset.from_generator(
        lambda: ({"image": pixels} for pixels in images.pixels),
        features=datasets.Features({"image": datasets.Array3D(shape, "uint8")}),
    )
    change = images.transform(v2.PILToTensor())
    jpegs = jpegs.with_transform(lambda batch: {"image": [change(image) for image in batch["image"]]})
    arrays = arrays.with_format("torch")

    def passes(dataset: datasets.Dataset) -> Pass:
        def batches() -> Iterator:
            order = np.random.default_rng(0).permutation(len(dataset))
            for ids in np.array_split(order, max(1, len(order) // BATCH)):
                images = dataset[ids.tolist()]["image"]
                yield torch.stack(images) if isinstance(images, list) else images

        return batches

    return {"HF datasets, JPEG": passes(jpegs), "HF datasets, arrays": passes(arrays)}


def ffcv(images: Images, workers: int) -> dict[str, Pass]:
    from ffcv.fields import IntField, RGBImageField
    from ffcv.fields.basics import IntDecoder
    from ffcv.fields.rgb_image import CenterCropRGBImageDecoder, SimpleRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import ToTensor
    from ffcv.writer import DatasetWriter

    class Indexed:
        def __init__(self, image: Callable[[int], np.ndarray]):
            self.image = image

        def __len__(self) -> int:
            return len(images.pixels)

        def __getitem__(self, number: int) -> tuple[np.ndarray, int]:
            return self.image(number), 0

    def passes(mode: str, image: Callable[[int], np.ndarray], decoder: object) -> Pass:
        path = str(images.folder / f"{mode}.beton")
        # Its progress bar cannot be turned off.
        with contextlib.redirect_stderr(io.StringIO()):
            writer = DatasetWriter(path, {"image": RGBImageField(mode), "label": IntField()}, num_workers=1)
            writer.from_indexed_dataset(Indexed(image))
        loader = Loader(
            path,
            batch_size=BATCH,
            num_workers=max(1, workers),
            order=OrderOption.RANDOM,
            os_cache=True,
            drop_last=False,
            pipelines={"image": [decoder, ToTensor()], "label": [IntDecoder(), ToTensor()]},
        )
        return lambda: iter(loader)

    files, size = images.files, (images.crop, images.crop)
    middle = CenterCropRGBImageDecoder(size, images.crop / images.resize)
    return {
        "FFCV, JPEG": passes("jpg", lambda number: np.asarray(Image.open(files[number])), middle),
        "FFCV, raw": passes("raw", lambda number: images.pixels[number], SimpleRGBImageDecoder()),
    }


PEERS = {"ffcv": ffcv, "webdataset": web_dataset, "datasets": hugging_face}
"""Keys: the module that must be installed. FFCV is first because it forks, and others start threads."""


def installed() -> list[str]:
    return [name for name in PEERS if importlib.util.find_spec(name)]
