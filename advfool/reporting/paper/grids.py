"""Figures 2, 3 and 11 to 17: the heatmaps of the same images before and after each fooling."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from advfool.evaluation.examples import Examples, read_examples
from advfool.reporting.paper.tables import PASSIVE, TRAINED, models_of
from advfool.reporting.runs import Run
from advfool.utilities.plotting import draw_heatmap, draw_image, grid_of_axes, loss_label, new_figure, save_figure

DPI = 80


def passive_grid(path: Path, runs: Sequence[Run], nth: int = 0) -> None:
    """Draw one image before and after each passive fooling.

    The first row is the original network; then one row for each fooling and interpreter trained with. For each network
    there is a column with the image and one for each interpreter.

    Args:
        path: the file to write.
        runs: with example images, and at most one of each model, fooling and interpreter.
        nth: which of the images that all runs have in common is shown.

    Source: Heo et al. 2019, Figure 2.
    """
    models = models_of(runs)
    examples = {run.group: found for run in runs if (found := read_examples(run.folder))}
    first = {model: next(found for key, found in examples.items() if key[0] == model) for model in models}
    rows = [("original", "")] + [(f, i) for f in PASSIVE for i in TRAINED if any((m, f, i) in examples for m in models)]
    columns = [(model, interp) for model in models for interp in ("image", *sorted(first[model].interps))]
    figure, axes = _axes(len(rows), len(columns))
    for line, (fooling, trained) in zip(axes, rows, strict=True):
        line[0].set_ylabel(f"{fooling}\n{trained}".strip(), fontsize=8)
        for axis, (model, interp) in zip(line, columns, strict=True):
            own = first[model] if fooling == "original" else examples.get((model, fooling, trained))
            if own is None:
                axis.axis("off")
            else:
                network = "original" if fooling == "original" else "manipulated"
                _draw(axis, own, _common(own)[nth], interp, network)
    for axis, (model, interp) in zip(axes[0], columns, strict=True):
        axis.set_title(f"{model}\n{interp}" if interp == "image" else interp, fontsize=8)
    save_figure(figure, path, DPI)


def active_grid(path: Path, runs: Sequence[Run], nth: int = 0) -> None:
    """Draw one composite before and after active fooling.

    There is one row for each network and interpreter trained with. The first column is the composite; the others are
    the heatmaps of both classes by every evaluated interpreter, of the original and of the manipulated network, each
    with its test loss.

    Args:
        path: the file to write.
        runs: with example images.
        nth: which of the composites that all runs have in common is shown.

    Source: Heo et al. 2019, Figure 3.
    """
    order = {(model, interp): run for model in models_of(runs) for interp in TRAINED for run in runs
             if (run.model, run.interp) == (model, interp)}  # fmt: skip
    examples = {key: found for key, run in order.items() if (found := read_examples(run.folder))}
    interps = list(dict.fromkeys(interp for own in examples.values() for interp in own.interps))
    kinds = [(network, which) for which in (0, 1) for network in ("original", "manipulated")]
    columns = [(interp, *kind) for interp in interps for kind in kinds]
    figure, axes = _axes(len(examples), 1 + len(columns))
    for line, ((model, interp), own) in zip(axes, examples.items(), strict=True):
        place = _common(own)[nth]
        _draw(line[0], own, place, "image", "manipulated")
        line[0].set_ylabel(f"{model}\n{interp}", fontsize=8)
        for axis, (shown, network, which) in zip(line[1:], columns, strict=True):
            if shown not in own.interps:
                axis.axis("off")
                continue
            _draw(axis, own, place, shown, network, which)
            if network == "original":
                axis.set_xlabel(loss_label(own.test_loss[shown, network][place, which].item(), None), fontsize=7)
    classes = next(iter(examples.values())).rows[0].explained
    for axis, (shown, network, which) in zip(axes[0][1:], columns, strict=True):
        axis.set_title(f"{shown}\nheatmap of {classes[which]}\n{network}", fontsize=8)
    axes[0][0].set_title("composite", fontsize=8)
    save_figure(figure, path, DPI)


def _draw(axis: Axes, examples: Examples, place: int, interp: str, network: str, which: int = 0) -> None:
    """Draw the image with the network's prediction, or a heatmap with the manipulated network's test loss.

    A test loss of the original network depends on the fooling, so it is written only where there is one fooling.
    """
    image = examples.images[place]
    if interp == "image":
        label, confidence = examples.rows[place].predictions[network]
        draw_image(axis, image)
        axis.set_xlabel(f"{label} {confidence:.0%}", fontsize=7)
        return
    draw_heatmap(axis, examples.maps[interp, network][place, which], image)
    if network == "manipulated":
        loss = examples.test_loss[interp, network][place, which].item()
        axis.set_xlabel(loss_label(loss, examples.interval), fontsize=7)


def _common(examples: Examples) -> list[int]:
    """List the rows of the images that all runs have in common, in the same order for every run."""
    places = [place for place, row in enumerate(examples.rows) if "fixed" in row.roles]
    return sorted(places, key=lambda place: examples.rows[place].index)


def _axes(rows: int, columns: int) -> tuple[Figure, np.ndarray]:
    figure = new_figure(1.15 * columns + 0.6, 1.35 * rows + 0.5)
    return figure, grid_of_axes(figure, rows, columns)
