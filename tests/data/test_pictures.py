"""Pictures of every depth, mode and orientation, and files that are no pictures."""

import io
import os
import socket
import struct
import threading
import zlib

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from advfool.data import wrap
from advfool.data.pictures import LONGEST, read_image
from advfool.data.samples import take
from advfool.utilities.errors import AdvfoolError

RAMP = np.linspace(0, 1, 64 * 64).reshape(64, 64)
GREY = np.rint(255 * RAMP)  # what every ramp has to become


def pixels(path):
    image = read_image(path)
    assert image.mode == "RGB"
    return np.asarray(image).astype(float)


def ramp(dtype, white=None):
    white = np.iinfo(dtype).max if white is None else white
    return np.rint(RAMP * white).astype(dtype)


def save_tiff(path, values, bits, signed, white_is_zero=False, big=False):
    """Write an uncompressed grey TIFF by hand, because Pillow writes few of the kinds that it reads."""
    order, data = (">", values.astype(values.dtype.newbyteorder(">"))) if big else ("<", values)
    content = data.tobytes() if bits != 12 else _packed(values)
    tags = [(256, 64), (257, 64), (258, bits), (259, 1), (262, 0 if white_is_zero else 1)]
    tags += [(273, 8), (277, 1), (278, 64), (279, len(content)), (339, 2 if signed else 1)]
    directory = struct.pack(f"{order}H", len(tags))
    directory += b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags) + bytes(4)
    header = (b"MM\0*" if big else b"II*\0") + struct.pack(f"{order}I", 8 + len(content))
    path.write_bytes(header + content + directory)


def _packed(values):
    bits = np.unpackbits(values.astype(">u2").view(np.uint8).reshape(-1, 2), axis=1)[:, 4:]
    return np.packbits(bits.reshape(-1)).tobytes()


def save_pgm(path, values, white, plain=False):
    if plain:
        path.write_text(f"P2 64 64 {white}\n" + " ".join(map(str, values.reshape(-1))))
    else:
        path.write_bytes(f"P5 64 64 {white}\n".encode() + values.astype(">u2").tobytes())


DEEP = {
    "16-bit png": ("x.png", lambda p: Image.fromarray(ramp(np.uint16)).save(p)),
    "16-bit tiff": ("x.tif", lambda p: save_tiff(p, ramp(np.uint16), 16, False)),
    "16-bit big-endian tiff": ("x.tif", lambda p: save_tiff(p, ramp(np.uint16), 16, False, big=True)),
    "16-bit compressed tiff": ("x.tiff", lambda p: Image.fromarray(ramp(np.uint16)).save(p, compression="tiff_lzw")),
    "16-bit tiff, white is zero": ("x.tif", lambda p: save_tiff(p, 65535 - ramp(np.uint16), 16, False, True)),
    "signed 16-bit tiff": ("x.tif", lambda p: save_tiff(p, ramp(np.int16), 16, True)),
    "12-bit tiff": ("x.tif", lambda p: save_tiff(p, ramp(np.uint16, 4095), 12, False)),
    "unsigned 32-bit tiff": ("x.tif", lambda p: save_tiff(p, ramp(np.uint32), 32, False)),
    "signed 32-bit tiff": ("x.tif", lambda p: save_tiff(p, ramp(np.int32), 32, True)),
    "32-bit tiff of Pillow": ("x.tif", lambda p: Image.fromarray(ramp(np.int32)).save(p)),
    "float tiff": ("x.tif", lambda p: Image.fromarray(RAMP.astype(np.float32)).save(p)),
    "signed 8-bit tiff": ("x.tif", lambda p: save_tiff(p, ramp(np.int8), 8, True)),
    "16-bit pgm": ("x.pgm", lambda p: save_pgm(p, ramp(np.uint16), 65535)),
    "10-bit pgm": ("x.pgm", lambda p: save_pgm(p, ramp(np.uint16, 1023), 1023)),
    "12-bit plain pgm": ("x.pgm", lambda p: save_pgm(p, ramp(np.uint16, 4095), 4095, plain=True)),
    "float pfm": ("x.pfm", lambda p: Image.fromarray(RAMP.astype(np.float32)).save(p, format="PPM")),
    "16-bit jpeg 2000": ("x.jp2", lambda p: Image.fromarray(ramp(np.uint16)).save(p)),
}


@pytest.mark.parametrize("kind", DEEP)
def test_more_than_8_bits_are_scaled_by_their_range_and_never_clipped(tmp_path, kind):
    name, save = DEEP[kind]
    save(tmp_path / name)
    found = pixels(tmp_path / name)
    assert np.abs(found - GREY[..., None]).max() <= (2 if "8-bit" in kind or "plain" in kind else 1)


def test_16_bits_of_colour_are_scaled(tmp_path):
    data = np.stack([ramp(np.uint16)] * 3, axis=-1).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in data)

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 16, 2, 0, 0, 0))
    parts = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "x.png").write_bytes(parts)
    assert np.abs(pixels(tmp_path / "x.png") - GREY[..., None]).max() <= 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (255 * RAMP.astype(np.float32), "it has floats from 0 to 255: expected a range of 0 to 1"),
        (RAMP.astype(np.float32) - 0.5, "floats from -0.5 to 0.5"),
        (np.full((4, 4), np.nan, np.float32), "floats from nan to nan"),
        (ramp(np.int32) - 5, r"negative values \(down to -5\): expected 0 to 2147483647"),
        (ramp(np.int32, 65535), "32-bit values up to 65535 only, and would be black"),
    ],
)
def test_values_without_a_known_range_are_refused(tmp_path, values, message):
    path = tmp_path / "x.tif"
    Image.fromarray(values).save(path)
    with pytest.raises(AdvfoolError, match=f"^Cannot read the image '{path}': .*{message}"):
        read_image(path)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB"])
@pytest.mark.parametrize("form", ["PNG", "TIFF", "JPEG", "WEBP", "GIF"])
def test_every_mode_of_8_bits_gives_its_colours(tmp_path, mode, form):
    flat = Image.new("RGB", (8, 8), (255, 255, 255))
    path = tmp_path / "x.picture"
    try:
        image = flat.convert("RGBA").convert(mode) if mode in ("PA", "LA") else flat.convert(mode)
        image.save(path, format=form)
    except (OSError, ValueError):
        pytest.skip(f"Pillow writes no {mode} as {form}")
    assert pixels(path).min() >= 250


def test_transparency_is_dropped_without_a_word(tmp_path, recwarn):
    colours = np.zeros((8, 8, 4), np.uint8)
    colours[..., 0], colours[:, :4, 3] = 200, 90
    image = Image.fromarray(colours)
    image.save(tmp_path / "rgba.png")
    image.quantize(8).save(tmp_path / "palette.png", transparency=bytes([0, 90, 255]))
    for name in ("rgba.png", "palette.png"):
        assert np.abs(pixels(tmp_path / name) - [200, 0, 0]).max() <= 3
    assert not recwarn.list


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "16-bit PNG"])
def test_exif_orientation_is_honoured(tmp_path, orientation, form):
    upright = np.zeros((32, 48), np.uint16)
    upright[:16, :24], upright[16:, 24:] = 65535, 32768
    turn = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90"}
    turn |= {7: "TRANSVERSE", 8: "ROTATE_270"}  # the inverse of what a reader does
    stored = Image.fromarray(upright if form.startswith("16") else (upright >> 8).astype(np.uint8))
    if orientation > 1:
        stored = stored.transpose(Image.Transpose[turn[orientation]])
    exif = Image.Exif()
    exif[0x0112] = orientation
    if not form.startswith("16"):
        stored = stored.convert("RGB")
    stored.save(tmp_path / "x", format=form.split()[-1], exif=exif)
    found = pixels(tmp_path / "x")
    assert found.shape == (32, 48, 3)
    assert np.abs(found[..., 0] - upright / 257).mean() < 6

    images = take(wrap([Image.open(tmp_path / "x") for _ in range(3)]).train(), [0]).image
    assert images.shape[2:] == (32, 48)
    assert (255 * images[0, 0] - torch.tensor(upright / 257)).abs().mean() < 6


def test_exif_data_that_cannot_be_read_say_nothing(tmp_path):
    for number, data in enumerate([b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM" + bytes(40)]):
        Image.new("RGB", (20, 10)).save(tmp_path / f"{number}.jpg", exif=data)
        assert pixels(tmp_path / f"{number}.jpg").shape == (10, 20, 3)
    exif = Image.Exif()
    exif[0x0112] = 77
    Image.new("RGB", (20, 10)).save(tmp_path / "x.jpg", exif=exif)
    assert pixels(tmp_path / "x.jpg").shape == (10, 20, 3)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_an_animation_is_read(tmp_path, form):
    frames = [Image.new("RGB", (8, 8), (255 * (i == 0),) * 3) for i in range(3)]
    frames[0].save(tmp_path / "x", format=form, save_all=True, append_images=frames[1:])
    assert pixels(tmp_path / "x").min() > 250


def jpeg():
    buffer = io.BytesIO()
    Image.fromarray((RAMP * 255).astype(np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def png(width, height):
    """A PNG that states a size and holds next to nothing."""
    buffer = io.BytesIO()
    Image.new("1", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


BROKEN = {
    "empty": lambda: b"",
    "text": lambda: b"not an image",
    "truncated": lambda: jpeg()[: len(jpeg()) // 2],
    "only a header": lambda: jpeg()[:20],
    "truncated png": lambda: png(400, 400)[:60],
    "damaged tiff": lambda: b"II*\0\x08\0\0\0\xff\xff" + bytes(30),
    "decompression bomb": lambda: png(20_000, 10_000),
    "a little bomb": lambda: png(10_000, 9_500),  # of which Pillow only warns
    "a thread": lambda: png(1, LONGEST + 1),
    "postscript": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(%pipe%touch x) (w) file\n",
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_whole_picture_is_refused_by_its_path(tmp_path, kind):
    path = tmp_path / "x.png"
    path.write_bytes(BROKEN[kind]())
    with pytest.raises(AdvfoolError, match=f"^Cannot read the image '{path}': .+ Repair or remove it"):
        read_image(path)


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder", "missing", "link to itself", "broken link"])
@pytest.mark.timeout(20)
def test_what_is_no_regular_file_is_refused_without_opening_it(tmp_path, kind):
    path = tmp_path / "x.png"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(str(path))
    elif kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.symlink_to({"device": "/dev/zero", "link to itself": path, "broken link": "nothing"}[kind])
    with pytest.raises(AdvfoolError, match=f"^Cannot read the image '{path}': "):
        read_image(path)
    assert threading.active_count() < 20


def test_a_link_to_a_picture_is_followed_and_odd_names_can_be_printed(tmp_path):
    Image.new("RGB", (8, 8), (9, 9, 9)).save(tmp_path / "x.png")
    (tmp_path / "y.png").symlink_to("x.png")
    assert pixels(tmp_path / "y.png").max() == 9
    odd = tmp_path / os.fsdecode(b"caf\xe9.png")
    with pytest.raises(AdvfoolError) as error:
        read_image(odd)
    str(error.value).encode()


def test_images_of_more_than_8_bits_given_as_objects_become_pixels():
    values = np.stack([ramp(np.uint16)[:8, :8] + i for i in range(5)])
    expected = values[:, None] / 65535
    kinds = {
        "pictures": [Image.fromarray(each) for each in values],
        "arrays": list(values[..., None]),
        "big-endian arrays": list(values[..., None].astype(">u2")),
        "a tensor": torch.from_numpy(values[:, None]),
        "tensors": list(torch.from_numpy(values[:, None])),
        "floats": [Image.fromarray((each / 65535).astype(np.float32)) for each in values],
        "32-bit tensors": torch.from_numpy(values[:, None].astype(np.uint32) * 65537),
    }
    for kind, given in kinds.items():
        data = wrap(given)
        images = torch.cat([take(part(), range(len(part()))).image for part in (data.train, data.selection, data.test)])
        assert images.dtype == torch.float32, kind
        np.testing.assert_allclose(np.sort(images.numpy(), axis=0), expected, atol=1e-6, err_msg=kind)
    with pytest.raises(
        AdvfoolError, match=r"^dataset, position 0: the image cannot be read: it has floats from 0 to 9"
    ):
        wrap([Image.fromarray(np.linspace(0, 9, 64, dtype=np.float32).reshape(8, 8))] * 4)
    with pytest.raises(AdvfoolError, match="unsigned integers.*got int16 of shape"):
        wrap([np.zeros((8, 8, 1), np.int16)] * 4)


def test_torchvisions_image_folder_is_decoded_as_advfools(tmp_path):
    (tmp_path / "a").mkdir()
    for number in range(4):
        Image.fromarray(np.roll(ramp(np.uint16), number)).save(tmp_path / "a" / f"{number}.png")
    data = wrap(torch.utils.data.Subset(torchvision.datasets.ImageFolder(tmp_path), range(4)))
    image = take(data.train(), [0]).image
    assert image.mean() == pytest.approx(0.5, abs=0.01)
    assert data.train().path(0).endswith(".png")
    own = torchvision.datasets.ImageFolder(tmp_path, loader=lambda path: Image.new("RGB", (4, 4), (255, 0, 0)))
    assert take(wrap(own).train(), [0]).image.shape == (1, 3, 4, 4)
    (tmp_path / "a" / "5.png").write_bytes(b"")
    with pytest.raises(AdvfoolError, match=r"^Cannot read the image '.*5\.png'"):
        take(
            wrap(
                torchvision.datasets.ImageFolder(tmp_path),
                selection=own,
                test=torchvision.datasets.ImageFolder(tmp_path),
            ).test(),
            range(5),
        )
