"""Generated photos."""

from pathlib import Path

import torch
from PIL import Image


def make_photos(folder: Path, count: int, size: tuple[int, int] = (80, 64)) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        pixels = (torch.rand(size[1], size[0], 3) * 255).to(torch.uint8).numpy()
        Image.fromarray(pixels).save(folder / f"{i}.jpg")
