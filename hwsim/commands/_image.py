"""Reads an input image from a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwsim.core.errors import InputError, MissingExtra

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from hwsim.core.network import Network

MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
"""Per channel, of RGB in 0..1: the ImageNet statistics with which torchvision's networks are trained (torchvision, transforms)."""
LARGEST_PIXELS = 100_000_000


def read_image(path: str, network: Network) -> dict[str, npt.NDArray[np.float32]]:
    """Return the input of a network from a file, real values ``[N, C, H, W]`` float32 by the input's name.

    ``.npy`` holds the values themselves, ``[C, H, W]`` or ``[N, C, H, W]``. A picture is scaled until its shorter side fits, cut
    to the middle, and normalized by the ImageNet statistics. One image serves all of a batch.

    Raises
    ------
    InputError
        The file cannot be read, or does not fit the network's input.
    MissingExtra
        A picture without pillow.
    """
    import numpy as np

    if len(network.inputs) != 1:
        raise InputError(path, [f"{network.name} has {len(network.inputs)} inputs, an image serves one"])
    spec = network.inputs[0]
    values = _read_npy(path) if Path(path).suffix.lower() == ".npy" else _read_picture(path, spec.shape)
    if values.ndim == 3:
        values = values[None]
    if values.ndim != 4 or values.shape[1:] != spec.shape[1:] or values.shape[0] not in (1, spec.shape[0]):
        raise InputError(path, [f"shape {tuple(values.shape)} does not fit the input {spec.name} {spec.shape}"])
    if not np.isfinite(values).all():
        raise InputError(path, ["holds values that are not finite"])
    return {spec.name: np.ascontiguousarray(np.broadcast_to(values, spec.shape), np.float32)}


def _read_npy(path: str) -> npt.NDArray[np.float32]:
    import numpy as np

    try:
        array = np.load(path, allow_pickle=False)
    except OSError as error:
        raise InputError(path, [error.strerror or str(error)]) from None
    except (ValueError, EOFError) as error:
        raise InputError(path, [f"no array: {error}"]) from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise InputError(path, ["no array of real numbers"])
    return array.astype(np.float32)


def _read_picture(path: str, shape: tuple[int, int, int, int]) -> npt.NDArray[np.float32]:
    import numpy as np

    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError:
        raise MissingExtra("pillow", "test", "reading pictures") from None
    _, channels, height, width = shape
    if channels not in (1, 3):
        raise InputError(path, [f"a picture has 1 or 3 channels, the network's input {channels}"])
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > LARGEST_PIXELS:
                raise InputError(path, [f"{picture.width} x {picture.height} pixels are more than {LARGEST_PIXELS:,}"])
            fitted: Any = ImageOps.fit(picture.convert("RGB" if channels == 3 else "L"), (width, height))
    except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise InputError(path, [f"no picture: {error}"]) from None
    except OSError as error:
        raise InputError(path, [error.strerror or str(error)]) from None
    pixels = np.asarray(fitted, np.float32).reshape(height, width, channels) / 255
    mean, deviation = np.array(MEAN[:channels], np.float32), np.array(DEVIATION[:channels], np.float32)
    return np.ascontiguousarray(((pixels - mean) / deviation).transpose(2, 0, 1))
