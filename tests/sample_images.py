"""The twenty labelled images a data set that the package foolbox 3.3.4 (MIT) carries; the package itself is not imported."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from tests.extras import give_up

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""torchvision's preprocessing of ImageNet (torchvision.transforms documentation)."""


def list_images(data_set: str) -> list[tuple[Path, int]]:
    """Return (file, label) of ``cifar10``, ``imagenet`` ...; skips the test where foolbox is absent (in CI it fails)."""
    spec = importlib.util.find_spec("foolbox")
    if spec is None or spec.origin is None:
        give_up("the sample images are absent: pip install --no-deps foolbox==3.3.4")
    files = sorted((Path(spec.origin).parent / "data").glob(f"{data_set}_*.*"))
    return [(file, int(file.stem.rsplit("_", 1)[1])) for file in files]


def load_cifar10() -> tuple[np.ndarray, np.ndarray]:
    """Return images ``[20, 3, 32, 32]`` uint8 and labels."""
    from PIL import Image

    found = list_images("cifar10")
    images = [np.asarray(Image.open(file).convert("RGB")).transpose(2, 0, 1) for file, _ in found]
    return np.stack(images), np.array([label for _, label in found])


def load_imagenet() -> tuple[np.ndarray, np.ndarray]:
    """Return images ``[20, 3, 224, 224]`` float32, resized to 256, cropped and normalized, and labels."""
    from PIL import Image

    found, images = list_images("imagenet"), []
    for file, _ in found:
        image = Image.open(file).convert("RGB").resize((256, 256), Image.Resampling.BILINEAR).crop((16, 16, 240, 240))
        reals = (np.asarray(image, np.float32) / 255 - IMAGENET_MEAN) / IMAGENET_DEVIATION
        images.append(reals.transpose(2, 0, 1).astype(np.float32))
    return np.stack(images), np.array([label for _, label in found])
