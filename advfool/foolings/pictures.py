"""Picture files that say where relevance shall go."""

import os
import stat
from pathlib import Path

from PIL import Image

from advfool.utilities.errors import AdvfoolError

# Formats whose decoders only decode: those of PostScript start another program.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")


def read_brightness(path: str, expected: str) -> Image.Image:
    """Read the brightness of a picture, from 0 to 1; of an animation that of the first frame.

    Transparent parts count as black. Nothing in the file is executed.

    Args:
        path: of a file in one of the common formats.
        expected: what the key must be, for the message.

    Returns:
        a picture of mode F.

    Raises:
        AdvfoolError: the file is missing, no regular file, damaged, too large, or no picture of these formats.
    """
    place = Path(path).expanduser()
    try:
        if not stat.S_ISREG(os.stat(place).st_mode):  # a pipe would block
            raise OSError("it is no regular file, but a folder, pipe, socket or device")
        with Image.open(place, formats=FORMATS) as picture:
            deep = picture.mode.startswith("I")  # 16 bits; conversion to "L" would clip them to 8
            if picture.has_transparency_data:
                picture = picture.convert("RGBA")
                picture = Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture)
            grey = picture.convert("F") if deep or picture.mode == "F" else picture.convert("L").convert("F")
            return grey.point(lambda value: value / (65535 if deep else 255))
    except Exception as error:  # decoders of damaged files raise errors of any kind
        raise AdvfoolError(f"{expected}, got '{path}': {error}.") from error
