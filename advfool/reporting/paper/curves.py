"""Figures 4(a) and 4(b): AOPC curves, and accuracy and FSR under noise on the parameters."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn
from torch.utils.data import Subset

from advfool.data.samples import some_of
from advfool.evaluation.noise import noise_curve
from advfool.evaluation.paired import NETWORKS, record_pair
from advfool.metrics.functional import mean_interval
from advfool.metrics.functional.clusters import numbered, spread_of_mean, standard_errors
from advfool.metrics.functional.flipping import aopc
from advfool.reporting import wording
from advfool.reporting.paper.networks import measured_once, open_run, settings_name
from advfool.reporting.paper.tables import BESIDE, mean_and_interval
from advfool.reporting.runs import Run
from advfool.utilities.plotting import COLOURS, FOOLED, curve_label, finish, new_figure, save_figure

SOURCES = ("original", "manipulated", "random")  # whose heatmap gives the order
RATES = {"accuracy": "top-1 accuracy", "fsr": "FSR"}
LEVELS = {"fsr_null": (":", "FSR without an attack"), "deceptive_rate": ("--", "deceptive rate without noise")}


def aopc_curves(runs: Sequence[Run], images: int, **settings: Any) -> dict[str, Any]:
    """Measure the AOPC curves of finished runs.

    Args:
        runs: finished.
        images: number of random test images.
        settings: of `advfool.metrics.functional.aopc`.

    Returns:
        under `curves`, by network and by whose heatmap gives the order: the mean curve over images and runs, its 95 %
        interval over the images (by their sources), the AOPC, and its intervals over the images and over the runs (by
        t, of three or more).

    Source: Heo et al. 2019, Figure 4(a).
    """
    name = settings_name("aopc-sources", images=images, **settings)
    found = [measured_once(run.folder / name, lambda run=run: _aopc(run, images, **settings)) for run in runs]
    curves: dict[str, dict[str, Any]] = {}
    for network in NETWORKS:
        for source in SOURCES:
            of_runs = [each[f"{network}/{source}"] for each in found]  # (images, steps + 1)
            points = torch.stack(of_runs).mean(dim=0).numpy()
            mean, reach = points.mean(axis=0), _reach(points, found[0]["source"])
            values = [each.mean().item() for each in of_runs]
            over_runs = mean_and_interval([100 * value for value in values], least=-100)[1]
            curves.setdefault(network, {})[source] = {
                "aopc": float(np.mean(values)),
                "aopc_of_runs": values,
                "aopc_over_images": mean_interval(torch.from_numpy(points.mean(axis=1)), found[0]["source"]),
                "aopc_over_runs": over_runs and [end / 100 for end in over_runs],
                "curve": mean.tolist(),
                "low": (mean - reach).tolist(),
                "high": (mean + reach).tolist(),
            }
    return {"images": images, "runs": len(runs), **settings, "curves": curves}


def _reach(points: np.ndarray, source: Tensor) -> np.ndarray:
    """Compute half the width of the 95 % interval over the images, at each step."""
    spread = spread_of_mean(points, numbered(source, len(points)))
    return np.nan_to_num(standard_errors(spread.shared, 0.95) * np.sqrt(spread.variance))


def draw_aopc(path: Path, result: Mapping[str, Any]) -> None:
    """Draw the AOPC curves of both networks with their 95 % bands.

    Args:
        path: the file to write.
        result: as `aopc_curves` returns it.
    """
    figure = new_figure(6.4, 4.4)
    axis = figure.subplots()
    for network, by_source in result["curves"].items():
        for source, curve in by_source.items():
            colour, line = COLOURS[source], "-" if network == "original" else "--"
            label = f"{curve_label(network, source)}: {curve['aopc']:.2f}"
            axis.plot(curve["curve"], color=colour, ls=line, label=label)
            steps = np.arange(len(curve["curve"]))
            axis.fill_between(steps, curve["low"], curve["high"], color=colour, alpha=0.12, lw=0)
    axis.set(xlabel="regions replaced", ylabel="mean decrease of the class's probability")
    means = f"means of {wording.plural(result.get('runs', 1), 'run')}; AOPC in the legend"
    axis.set_title(f"{means}\nbands: 95 % intervals over {result['images']} images, not over runs", fontsize=9)
    finish(axis)
    save_figure(figure, path)


@torch.no_grad()
def _aopc(run: Run, images: int, **settings: Any) -> dict[str, Tensor]:
    setup, manipulated = open_run(run)
    networks: dict[str, nn.Module] = dict(zip(NETWORKS, (setup.original, manipulated), strict=True))
    device = next(manipulated.parameters()).device
    pixel_range = setup.data.input.pixel_range()
    curves: dict[str, list[Tensor]] = {}
    test = setup.data.test()
    chosen = some_of(len(test), images)
    loader = setup.data.in_order(Subset(test, chosen))
    for batch in track(loader, f"AOPC of {run.name}"):
        batch = type(batch)(*(values.to(device) for values in batch))
        pair = record_pair(networks, batch.image, batch.label, [setup.trained], run.config["target"])
        maps = pair.maps(setup.trained)
        maps["random"] = maps["original"]
        for name, network in networks.items():
            for source, found in maps.items():
                order = "random" if source == "random" else "most_relevant_first"
                options = {"order": order, "index": batch.index, "pixel_range": pixel_range, **settings}
                curve = aopc(network, batch.image, pair.targets, found, **options)
                curves.setdefault(f"{name}/{source}", []).append(curve.cpu())
    return {name: torch.cat(found) for name, found in curves.items()} | {"source": test.groups()[chosen]}


def noise(runs: Sequence[Run], levels: Sequence[float], draws: int, images: int | None = None) -> dict[str, Any]:
    """Measure accuracy and FSR of both networks by the noise on their parameters.

    Args:
        runs: finished.
        levels: of the noise, in standard deviations of each parameter tensor.
        draws: of the noise, for each run.
        images: number of random test images; None: all.

    Returns:
        by network and rate: the mean, the lowest and the highest value over runs and draws, at each level; and the mean
        of `fsr_null` and `deceptive_rate` over the runs that have them.

    Source: Heo et al. 2019, Figure 4(b).
    """
    name = settings_name("noise", levels=list(levels), draws=draws, images=images)
    found = [measured_once(run.folder / name, lambda run=run: _noise(run, levels, draws, images)) for run in runs]
    result: dict[str, Any] = {"levels": list(levels), "draws": draws, "runs": len(runs)}
    for network in NETWORKS:
        for rate in RATES:
            values = torch.cat([each[f"{network}/{rate}"] for each in found], dim=1).double()  # (levels, runs * draws)
            columns = {"mean": values.mean(dim=1), "low": values.amin(dim=1), "high": values.amax(dim=1)}
            result.setdefault(network, {})[rate] = {key: column.tolist() for key, column in columns.items()}
    for key in BESIDE.values():  # without noise
        known = [rate for run in runs if (rate := run.matched(key)) is not None]
        if known:
            result[key] = float(np.mean(known))
    return result


def draw_noise(path: Path, result: Mapping[str, Any]) -> None:
    """Draw accuracy on the left and FSR on the right; a band runs from the lowest to the highest of all draws.

    Args:
        path: the file to write.
        result: as `noise` returns it.
    """
    figure = new_figure(9, 3.8)
    axes = figure.subplots(1, 2, sharex=True)
    for axis, (rate, title) in zip(axes, RATES.items(), strict=True):
        for network in NETWORKS:
            curve = result[network][rate]
            axis.plot(result["levels"], curve["mean"], marker="o", ms=3, color=COLOURS[network], label=network)
            axis.fill_between(result["levels"], curve["low"], curve["high"], color=COLOURS[network], alpha=0.15, lw=0)
        axis.set(xlabel="noise, in standard deviations of each tensor", ylabel=title, ylim=(-0.03, 1.03))
        axis.grid(alpha=0.3)
    for key, (line, label) in LEVELS.items():
        if key in result:
            axes[1].axhline(result[key], color=FOOLED, ls=line, lw=1.2, label=label)
    for axis in axes:
        axis.legend()
    runs, draws = result.get("runs", 1), result.get("draws", 1)
    over = f"{wording.plural(runs, 'run')} with {wording.plural(draws, 'draw')} of the noise each"
    figure.suptitle(f"lines: means; bands: lowest to highest of {over}", fontsize=9)
    save_figure(figure, path)


def _noise(run: Run, levels: Sequence[float], draws: int, images: int | None) -> dict[str, Tensor]:
    setup, manipulated = open_run(run)
    curves = noise_curve(setup, manipulated, levels, draws, images)
    return {f"{name}/{rate}": getattr(curve, rate) for name, curve in curves.items() for rate in RATES}
