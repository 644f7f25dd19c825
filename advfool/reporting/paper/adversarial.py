"""Figure 4(c): a network before and after adversarial training, and after it was fooled as well."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from advfool.data.base import DataModule
from advfool.data.samples import some_of, take
from advfool.evaluation.attacks import adversarial_accuracy
from advfool.interpreters.base import Interpreter, read_maps
from advfool.interpreters.tracing.recording import record
from advfool.reporting.paper.networks import measured_once, open_run, other_network, settings_name
from advfool.reporting.paper.tables import BESIDE, mean_and_interval
from advfool.reporting.runs import Run
from advfool.utilities.plotting import COLOURS, FOOLED, draw_heatmap, finish, grid_of_axes, new_figure, save_figure

PHASES = ("pretrained", "adversarially trained", "then fooled")
SHOWN = 6  # images
MARKERS = {"fsr": ("*", "FSR"), "fsr_null": ("_", "FSR without an attack"), "deceptive_rate": ("d", "deceptive rate")}


def phases(
    runs: Sequence[Run], plain: Mapping[str, Any], images: int | None, **attack: Any
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Measure top-1 accuracy on clean and on attacked (PGD) images in each phase, and the FSR at the end.

    Args:
        runs: finished, of one model that was trained adversarially.
        plain: settings of the model that give the network before its adversarial training.
        images: number of random test images; None: all.
        attack: the settings of PGD.

    Returns:
        the rates in percent, as means over the runs; and of the first run `images` and, for each phase, their `maps`.
    """
    name = settings_name("phases", images=images, plain=dict(plain), **attack)
    found = [measured_once(run.folder / name, lambda run=run: _phases(run, plain, images, attack)) for run in runs]
    result: dict[str, Any] = {"attack": attack, "images": images, "phases": {}}
    for place, phase in enumerate(PHASES):
        measured = found if phase == PHASES[-1] else found[:1]  # before the fooling, the networks of all runs are equal
        rates = {}
        for kind in ("clean", "pgd"):
            values = [100 * each[kind][place].item() for each in measured]
            mean, interval = mean_and_interval(values)
            rates[kind] = {"mean": mean, "interval": interval, "values": values}
        result["phases"][phase] = rates
    for key in ("fsr", *BESIDE.values()):
        values = [100 * rate for run in runs if (rate := run.matched(key)) is not None]
        if values:
            mean, interval = mean_and_interval(values)
            result[key] = {"mean": mean, "interval": interval, "values": values}
    return result, found[0]


def draw_phases(path: Path, result: Mapping[str, Any], pictures: Mapping[str, Tensor]) -> None:
    """Draw accuracy by phase on the left, the heatmaps of a few images in each phase on the right.

    Args:
        path: the file to write.
        result: the rates, as `phases` returns them.
        pictures: images and heatmaps, as `phases` returns them.
    """
    figure = new_figure(4.2 + 1.15 * SHOWN, 4.6)
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=[4, 1.15 * SHOWN])[0]
    axis = left.subplots()
    for kind, name, colour in (("clean", "clean", COLOURS["original"]), ("pgd", "PGD", COLOURS["manipulated"])):
        means = [result["phases"][phase][kind]["mean"] for phase in PHASES]
        axis.plot(PHASES, means, marker="o", color=colour, label=f"top-1 on {name} images")
    for key, (marker, label) in MARKERS.items():
        if key in result:
            axis.plot(PHASES[-1:], [result[key]["mean"]], marker=marker, ms=11, ls="", color=FOOLED, label=label)
    axis.set(ylabel="%", ylim=(-3, 103))
    axis.tick_params(axis="x", labelsize=8)
    finish(axis)
    axes = grid_of_axes(right, len(PHASES), SHOWN)
    for line, phase, maps in zip(axes, PHASES, pictures["maps"], strict=True):
        line[0].set_ylabel(phase, fontsize=8)
        for axis, image, heatmap in zip(line, pictures["images"], maps, strict=True):
            draw_heatmap(axis, heatmap, image)
    save_figure(figure, path)


def _phases(run: Run, plain: Mapping[str, Any], images: int | None, attack: Mapping[str, Any]) -> dict[str, Tensor]:
    setup, manipulated = open_run(run)
    networks = (other_network(run, **plain), setup.original, manipulated)
    test = setup.data.test()
    loader = setup.data.in_order(Subset(test, some_of(len(test), images)))
    rates = {"clean": [_accuracy(network, loader) for network in networks]}
    rates["pgd"] = [adversarial_accuracy(network, loader, setup.data.input, **attack) for network in networks]
    return {kind: torch.tensor(values) for kind, values in rates.items()} | _maps(setup.data, setup.trained, networks)


@torch.no_grad()
def _accuracy(network: nn.Module, loader: DataLoader) -> float:
    device = next(network.parameters()).device
    found = [network(batch.image.to(device)).argmax(dim=1).cpu() == batch.label for batch in loader]
    return torch.cat(found).double().mean().item()


@torch.no_grad()
def _maps(data: DataModule, interpreter: Interpreter, networks: Sequence[nn.Module]) -> dict[str, Tensor]:
    test = data.test()
    batch = take(test, some_of(len(test), SHOWN))
    device = next(networks[0].parameters()).device
    labels = torch.as_tensor(batch.label).to(device)
    maps = [
        read_maps(interpreter, record(network, batch.image.to(device), [interpreter]), labels).cpu()
        for network in networks
    ]
    return {"maps": torch.stack(maps), "images": (data.input.pixels(batch.image) * 255).round().to(torch.uint8)}
