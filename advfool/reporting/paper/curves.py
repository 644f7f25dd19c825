"""Figures 4(a) and 4(b): AOPC curves, and noise on the parameters."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from rich.progress import track
from torch import Tensor
from torch.utils.data import Subset

from advfool.data.samples import some_of
from advfool.evaluation.comparison import NETWORKS
from advfool.evaluation.noise import noise_curve
from advfool.interpreters.base import read_maps
from advfool.interpreters.tracing.recording import record
from advfool.metrics.functional.flipping import aopc
from advfool.reporting.paper.networks import kept, open_run, settings_name
from advfool.reporting.runs import Run

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SOURCES = ("original", "manipulated", "random")  # whose map decides the order
COLOURS = {"original": "#0072b2", "manipulated": "#d55e00", "random": "#555555"}


def aopc_curves(runs: Sequence[Run], images: int, **settings) -> dict:
    """Mean curves over images and runs, with 95 % intervals, by network and by whose map gives the order.

    Source: Heo et al. 2019, Figure 4(a).
    """
    found = []
    for run in runs:
        name = settings_name("aopc", images=images, **settings)
        found.append(kept(run.folder / name, lambda run=run: _aopc(run, images, **settings)))
    curves: dict = {}
    for network in NETWORKS:
        for source in SOURCES:
            points = (
                torch.stack([each[f"{network}/{source}"] for each in found]).mean(dim=0).numpy()
            )  # (images, steps + 1)
            mean, reach = points.mean(axis=0), 1.96 * points.std(axis=0, ddof=1) / len(points) ** 0.5
            values = [each[f"{network}/{source}"].mean().item() for each in found]
            curves.setdefault(network, {})[source] = {
                "aopc": float(np.mean(values)),
                "aopc_of_runs": values,
                "curve": mean.tolist(),
                "low": (mean - reach).tolist(),
                "high": (mean + reach).tolist(),
            }
    return {"images": images, **settings, "curves": curves}


def draw_aopc(path: Path, result: Mapping) -> None:
    """Both networks' curves with their bands."""
    figure, axis = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
    for network, by_source in result["curves"].items():
        for source, curve in by_source.items():
            words = "random order" if source == "random" else f"map of the {source}"
            label = f"{network} network, {words}: {curve['aopc']:.2f}"
            axis.plot(curve["curve"], color=COLOURS[source], ls="-" if network == "original" else "--", label=label)
            steps = np.arange(len(curve["curve"]))
            axis.fill_between(steps, curve["low"], curve["high"], color=COLOURS[source], alpha=0.12, lw=0)
    axis.set(xlabel="regions replaced", ylabel="mean fall of the class's probability")
    axis.set_title(f"{result['images']} images, 95 % bands; AOPC in the legend", fontsize=9)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


@torch.no_grad()
def _aopc(run: Run, images: int, **settings) -> dict[str, Tensor]:
    parts, manipulated = open_run(run)
    networks = dict(zip(NETWORKS, (parts.original, manipulated), strict=True))
    device = next(manipulated.parameters()).device
    pixel_range = parts.data.input.pixel_range()
    curves: dict[str, list[Tensor]] = {}
    test = parts.data.test()
    loader = parts.data.in_order(Subset(test, some_of(len(test), images)))
    for batch in track(loader, f"AOPC of {run.name}"):
        batch = type(batch)(*(values.to(device) for values in batch))
        recordings = {name: record(network, batch.image, [parts.trained]) for name, network in networks.items()}
        predicted = recordings["original"].logits.argmax(dim=1)
        targets = batch.label if run.config["target"] == "label" else predicted
        maps = {name: read_maps(parts.trained, recording, targets) for name, recording in recordings.items()}
        maps["random"] = maps["original"]
        for name, network in networks.items():
            for source, found in maps.items():
                order = "random" if source == "random" else "most_relevant_first"
                options = {"order": order, "index": batch.index, "pixel_range": pixel_range, **settings}
                curve = aopc(network, batch.image, targets, found, **options)
                curves.setdefault(f"{name}/{source}", []).append(curve.cpu())
    return {name: torch.cat(found) for name, found in curves.items()}


def noise(runs: Sequence[Run], levels: Sequence[float], draws: int, images: int | None = None) -> dict:
    """Accuracy and FSR of both networks by the noise on their parameters: mean and range over runs and draws.

    Source: Heo et al. 2019, Figure 4(b).
    """
    found = []
    for run in runs:
        name = settings_name("noise", levels=list(levels), draws=draws, images=images)
        found.append(kept(run.folder / name, lambda run=run: _noise(run, levels, draws, images)))
    result: dict = {"levels": list(levels), "draws": draws, "runs": len(runs)}
    for network in NETWORKS:
        for rate in ("accuracy", "fsr"):
            values = torch.cat([each[f"{network}/{rate}"] for each in found], dim=1).double()  # (levels, runs * draws)
            columns = {"mean": values.mean(dim=1), "low": values.amin(dim=1), "high": values.amax(dim=1)}
            result.setdefault(network, {})[rate] = {key: column.tolist() for key, column in columns.items()}
    return result


def draw_noise(path: Path, result: Mapping) -> None:
    """Accuracy left, FSR right; the band runs from the least to the greatest of all draws."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), sharex=True, layout="constrained")
    for axis, (rate, title) in zip(axes, (("accuracy", "top-1 accuracy"), ("fsr", "FSR")), strict=True):
        for network in NETWORKS:
            curve = result[network][rate]
            axis.plot(result["levels"], curve["mean"], marker="o", ms=3, color=COLOURS[network], label=network)
            axis.fill_between(result["levels"], curve["low"], curve["high"], color=COLOURS[network], alpha=0.15, lw=0)
        axis.set(xlabel="noise, in standard deviations of each tensor", ylabel=title, ylim=(-0.03, 1.03))
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _noise(run: Run, levels: Sequence[float], draws: int, images: int | None) -> dict[str, Tensor]:
    parts, manipulated = open_run(run)
    composites = parts.composites.test if parts.composites else None
    curves = noise_curve(
        parts.original, manipulated, parts.data, parts.trained, parts.fooling, levels, draws, run.seed, images,
        run.config["target"], composites,
    )  # fmt: skip
    return {f"{name}/{rate}": getattr(curve, rate) for name, curve in curves.items() for rate in ("accuracy", "fsr")}
