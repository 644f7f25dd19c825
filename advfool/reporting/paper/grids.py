"""Figures 2, 3 and 11 to 17: the maps of the same images before and after each fooling."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from torch import Tensor

from advfool.evaluation.examples import Examples, read_examples
from advfool.reporting.paper.tables import PASSIVE, TRAINED, models_of
from advfool.reporting.runs import Run
from advfool.utilities.heatmaps import resize

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SIGNED, HEAT = "RdBu_r", "inferno"


def passive_grid(path: Path, runs: Sequence[Run], nth: int = 0) -> None:
    """Rows: the original network, then each fooling by the interpreter trained with. Columns: for each network the
    image and the map of each interpreter. `nth` of the images that all runs have kept.

    Source: Heo et al. 2019, Figure 2.
    """
    models = models_of(runs)
    kept = {(run.model, run.fooling, run.interp): found for run in runs if (found := read_examples(run.folder))}
    interps = {model: next(sorted(e.interps) for key, e in kept.items() if key[0] == model) for model in models}
    rows = [("original", "")] + [(f, i) for f in PASSIVE for i in TRAINED if any((m, f, i) in kept for m in models)]
    columns = [(model, interp) for model in models for interp in ("image", *interps[model])]
    figure, axes = _axes(len(rows), len(columns))
    for line, (fooling, trained) in zip(axes, rows, strict=True):
        line[0].set_ylabel(f"{fooling}\n{trained}".strip(), fontsize=8)
        for axis, (model, interp) in zip(line, columns, strict=True):
            key = (model, fooling, trained)
            examples = kept.get(key) if fooling != "original" else next(e for k, e in kept.items() if k[0] == model)
            if examples is None:
                axis.axis("off")
                continue
            place = _fixed(examples)[nth]
            network = "original" if fooling == "original" else "manipulated"
            if interp == "image":
                axis.imshow(examples.images[place].permute(1, 2, 0))
                axis.set_xlabel(_said(examples, place, network), fontsize=7)
            else:
                draw_map(axis, examples.images[place], examples.maps[interp, network][place, 0])
                if network == "manipulated":  # the original's depends on the fooling
                    loss = examples.test_loss[interp, network][place, 0].item()
                    axis.set_xlabel(f"{loss:.2f}" + _mark(loss, examples.interval, fooling), fontsize=7)
    for axis, (model, interp) in zip(axes[0], columns, strict=True):
        axis.set_title(f"{model}\n{interp}" if interp == "image" else interp, fontsize=8)
    _save(figure, path)


def active_grid(path: Path, runs: Sequence[Run], nth: int = 0) -> None:
    """Rows: each network by the interpreter trained with. Columns: the composite, then the maps of both classes of the
    original and of the manipulated network, each with its test loss.

    Source: Heo et al. 2019, Figure 3.
    """
    models = models_of(runs)
    order = {(model, interp): run for model in models for interp in TRAINED for run in runs
             if (run.model, run.interp) == (model, interp)}  # fmt: skip
    kept = {key: found for key, run in order.items() if (found := read_examples(run.folder))}
    columns = [(network, which) for which in (0, 1) for network in ("original", "manipulated")]
    figure, axes = _axes(len(kept), 1 + len(columns))
    for line, ((model, interp), examples) in zip(axes, kept.items(), strict=True):
        place = _fixed(examples)[nth]
        line[0].imshow(examples.images[place].permute(1, 2, 0))
        line[0].set_ylabel(f"{model}\n{interp}", fontsize=8)
        line[0].set_xlabel(_said(examples, place, "manipulated"), fontsize=7)
        for axis, (network, which) in zip(line[1:], columns, strict=True):
            draw_map(axis, examples.images[place], examples.maps[interp, network][place, which])
            loss = examples.test_loss[interp, network][place, which].item()
            axis.set_xlabel(f"{loss:.2f}" + _mark(loss, examples.interval, network), fontsize=7)
    classes = next(iter(kept.values())).rows[0].explained
    for axis, (network, which) in zip(axes[0][1:], columns, strict=True):
        axis.set_title(f"map of {classes[which]}\n{network}", fontsize=8)
    axes[0][0].set_title("composite", fontsize=8)
    _save(figure, path)


def draw_map(axis: plt.Axes, image: Tensor, heat: Tensor) -> None:
    """A map over its image in grey; signed ones in red and blue."""
    heat = resize(heat[None].float(), tuple(image.shape[-2:]))[0]
    signed = heat.min() < 0
    top = max(heat.abs().max().item(), 1e-12)
    axis.imshow(image.float().mean(dim=0), cmap="gray", vmin=0, vmax=255)
    axis.imshow(heat, cmap=SIGNED if signed else HEAT, vmin=-top if signed else 0, vmax=top, alpha=0.7)


def _fixed(examples: Examples) -> list[int]:
    """Where the images that all runs keep are, in the same order in every run."""
    places = [place for place, row in enumerate(examples.rows) if "fixed" in row.roles]
    return sorted(places, key=lambda place: examples.rows[place].index)


def _said(examples: Examples, place: int, network: str) -> str:
    label, confidence = examples.rows[place].predictions[network]
    return f"{label} {confidence:.0%}"


def _mark(loss: float, interval: Sequence[float], fooling: str) -> str:
    return " fooled" if fooling != "original" and interval[0] <= loss <= interval[1] else ""


def _axes(rows: int, columns: int) -> tuple[plt.Figure, np.ndarray]:
    size = (1.15 * columns + 0.6, 1.35 * rows + 0.5)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    return figure, axes


def _save(figure: plt.Figure, path: Path) -> None:
    figure.savefig(path, dpi=80)
    plt.close(figure)
