"""Pictures of every depth, colour mode and orientation, decoded to pixels from 0 to 1, or refused by name."""

import os
import stat
from io import BufferedReader
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from advfool.utilities.errors import AdvfoolError

DECODING = 2  # part of the digest of photos: raise it when pictures are decoded to other pixels
LONGEST = 1000  # times that one side may be longer than the other; resizing a thinner picture fills the memory
# How a picture is turned upright, by the orientation that its EXIF data state.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BITS, _SAMPLES, _WHITE = 258, 339, 262  # TIFF tags: BitsPerSample, SampleFormat, PhotometricInterpretation
_SIGNED, _WHITE_IS_ZERO = 2, 0  # values of the last two


def read_image(path: Path) -> Image.Image:
    """Decode a picture to 8-bit RGB, upright.

    Integers of more than 8 bits are scaled by the range of their type, floats have to lie in [0, 1]. The orientation
    in the EXIF data is honoured, transparency is dropped, and of an animation the first frame is read.

    Args:
        path: a regular file, or a symbolic link to one.

    Raises:
        AdvfoolError: the file cannot be read, is no regular file, has too many pixels, or its values have no known
            range; the message names it.
    """
    try:
        with open_regular(path) as file, Image.open(file) as image:
            _check_size(image)
            found = decoded(image)
            if found.mode == "F":
                found = Image.fromarray(np.rint(255 * np.asarray(found)).astype(np.uint8))
            return found.convert("RGB")
    except Exception as error:  # decoders of damaged files raise errors of any kind
        raise AdvfoolError(f"Cannot read the image '{shown(path)}': {_reason(error)}. Repair or remove it.") from error


def open_regular(path: Path) -> BufferedReader:
    """Open a file to read it, and refuse pipes, sockets and devices, which could block or run forever.

    Raises:
        OSError: it is no regular file, or cannot be opened.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError("it is no regular file, but a folder, pipe, socket or device")
    return path.open("rb")


def decoded(image: Image.Image) -> Image.Image:
    """Decode an opened picture and turn it upright.

    Args:
        image: of any mode.

    Returns:
        A picture of mode RGB, L (grey) or, for more than 8 bits, F (grey, values from 0 to 1).

    Raises:
        ValueError: the values have no known range, or the mode cannot be converted.
    """
    image.load()
    return _upright(_plain(image), image)


def shown(path: object) -> str:
    """Return a path as text that can be printed and stored, whatever bytes the file's name has."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def _check_size(image: Image.Image) -> None:
    limit, (width, height) = Image.MAX_IMAGE_PIXELS, image.size
    if limit is not None and width * height > limit:
        raise ValueError(f"it has {width}x{height} pixels, expected at most {limit}")
    if max(width, height) > LONGEST * min(width, height):
        raise ValueError(f"it has {width}x{height} pixels, expected sides that differ by at most {LONGEST} times")
    if image.format == "EPS":
        raise ValueError("it is a PostScript program, expected a picture")


def _plain(image: Image.Image) -> Image.Image:
    """Convert to RGB, L or F, without the transparency."""
    mode = image.mode
    if mode == "F" or mode.startswith("I") or _tag(image, _SAMPLES) == _SIGNED:
        return Image.fromarray(_levels(image).astype(np.float32))
    if mode in ("1", "L"):
        return image.convert("L")
    if mode in ("LA", "La"):
        return image.convert("LA").convert("L")
    if mode in ("P", "PA", "RGBa"):
        image = image.convert("RGBA")  # a palette's transparency stays behind
    return image.convert("RGB")


def _levels(image: Image.Image) -> Float[np.ndarray, "h w"]:
    """Return the values of a grey picture of more than 8 bits, or with a sign, from 0 to 1."""
    values = np.asarray(image)
    if image.mode == "F":
        levels = values.astype(np.float64)
        if not (levels.min() >= 0 and levels.max() <= 1):  # neither holds for NaN
            raise ValueError(f"it has floats from {levels.min():.4g} to {levels.max():.4g}: expected a range of 0 to 1")
    else:
        bits, signed = _type_of(image)
        values = values.astype(f"{'i' if signed else 'u'}{(bits + 7) // 8}")  # Pillow keeps some as another type
        white = 2 ** (bits - signed) - 1
        levels = values / white
        if levels.min() < 0:
            raise ValueError(f"it has negative values (down to {values.min()}): expected 0 to {white}")
        if bits == 32 and 0 < levels.max() < 0.5 / 255:
            raise ValueError(
                f"it has 32-bit values up to {values.max()} only, and would be black in their range of 0 to {white}: "
                "expected 8 or 16 bits"
            )
    return 1 - levels if _tag(image, _WHITE) == _WHITE_IS_ZERO else levels


def _type_of(image: Image.Image) -> tuple[int, bool]:
    """Return the bits of an integer in the file, and whether integers have a sign."""
    bits = _tag(image, _BITS)
    if bits is not None:
        return bits, _tag(image, _SAMPLES) == _SIGNED
    if image.mode.startswith("I;16") or image.format in ("PNG", "PPM"):  # some come as 32 bits, from 0 to 65535
        return 16, False
    return 32, True


def _tag(image: Image.Image, tag: int) -> int | None:
    """Return the value of a TIFF tag, the first if it has several; None for another kind of picture."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return None
    value = image.tag_v2.get(tag)
    return value[0] if isinstance(value, tuple) else value


def _upright(image: Image.Image, source: Image.Image) -> Image.Image:
    """Turn a picture as the EXIF data of its source say; data that cannot be read say nothing."""
    try:
        orientation = source.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # whatever is wrong with the data, the picture itself was decoded
        return image
    turn = TURNS.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is empty, damaged, or no picture of a known kind"
    return str(error) or type(error).__name__
