"""Heatmaps look the same in every picture; no module touches matplotlib's backend."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import advfool
from advfool.utilities.plotting import (
    HEAT,
    SIGNED,
    draw_heatmap,
    draw_image,
    grid_of_axes,
    new_figure,
    save_figure,
    scale_heatmap,
)

RELEVANCE = torch.tensor([[0.0, 0.5], [1.0, -1.0]])


def test_signed_heatmaps_are_scaled_around_zero_and_others_from_zero():
    assert scale_heatmap(5 * RELEVANCE, True).tolist() == [[0, 0.5], [1, -1]]
    assert scale_heatmap(5 * RELEVANCE, False).tolist() == [[0, 0.5], [1, 0]]


def test_a_few_extreme_values_do_not_darken_the_rest():
    heatmap = torch.ones(100, 100)
    heatmap[0, 0] = 1000
    assert scale_heatmap(heatmap, False).min() == 1


def test_values_that_are_not_finite_have_no_colour():
    heatmap = torch.tensor([[float("nan"), float("inf")], [1.0, 0.0]])
    assert scale_heatmap(heatmap, True).tolist() == [[0, 0], [1, 0]]
    assert not scale_heatmap(torch.zeros(7, 7), True).any()


@pytest.mark.parametrize("image", [None, torch.rand(3, 8, 8), torch.randint(0, 255, (1, 8, 8), dtype=torch.uint8)])
def test_negative_relevance_chooses_the_colours(image):
    axis = grid_of_axes(new_figure(1, 1), 1, 1)[0, 0]
    for heatmap, signed, colours, lowest in (
        (RELEVANCE, None, SIGNED, -1),
        (RELEVANCE.relu(), None, HEAT, 0),
        (RELEVANCE.relu(), True, SIGNED, -1),
    ):
        drawn = draw_heatmap(axis, heatmap, image, signed)
        assert (drawn.get_cmap().name, drawn.norm.vmin, drawn.norm.vmax) == (colours, lowest, 1)


def test_grey_images_are_grey(tmp_path):
    figure = new_figure(1, 1)
    draw_image(grid_of_axes(figure, 1, 1)[0, 0], torch.linspace(0, 1, 64).reshape(1, 8, 8))
    save_figure(figure, tmp_path / "grey.png")
    pixels = np.asarray(Image.open(tmp_path / "grey.png").convert("RGB")).astype(int)
    assert abs(pixels - pixels[..., :1]).max() == 0


def test_no_module_uses_pyplot_or_chooses_a_backend():
    for path in Path(advfool.__file__).parent.rglob("*.py"):
        text = path.read_text()
        assert "matplotlib.pyplot" not in text, path
        assert "matplotlib.use(" not in text, path


def test_drawing_loads_no_pyplot(tmp_path):
    code = (
        "import sys, torch; from advfool.utilities.plotting import *; figure = new_figure(1, 1);"
        "draw_heatmap(grid_of_axes(figure, 1, 1)[0, 0], torch.rand(7, 7)); "
        f"from pathlib import Path; save_figure(figure, Path({str(tmp_path / 'a.png')!r}));"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", ["$\\frac$", "$a$ $b", "a\x00b", "\ud800", "$\\mathdefault{$", "\\$", "=x"])
def test_names_are_drawn_as_they_are(tmp_path, name):
    """matplotlib takes what stands between two dollar signs for a formula, and fails where it is none."""
    figure = new_figure(2, 2)
    axis = figure.subplots()
    axis.set_title(f"{name}\n{name}")
    axis.plot([1, 10], [1, 10], label=name)
    axis.set_yscale("log")
    axis.legend()
    save_figure(figure, tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 1000
