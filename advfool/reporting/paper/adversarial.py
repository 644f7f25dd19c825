"""Figure 4(c): a network before and after adversarial training, and after it was fooled while that went on."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import torch
from torch import Tensor, nn
from torch.utils.data import Subset

from advfool.commands.setup import Parts
from advfool.data.samples import some_of, take
from advfool.evaluation.attacks import adversarial_accuracy
from advfool.interpreters.base import read_maps
from advfool.interpreters.tracing.recording import record
from advfool.reporting.paper.grids import draw_map
from advfool.reporting.paper.networks import kept, open_run, plain_network, settings_name
from advfool.reporting.paper.tables import mean_and_interval
from advfool.reporting.runs import Run

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PHASES = ("pretrained", "adversarially trained", "then fooled")
SHOWN = 6  # images


def phases(runs: Sequence[Run], plain: Mapping, images: int | None, **attack) -> tuple[dict, dict[str, Tensor]]:
    """Top-1 on clean and on PGD images in each phase, means over the runs, and the FSR at the end; and the pictures
    (`images`, and their `maps` in each phase) of the first run.

    plain: settings of the model before its adversarial training. images: so many random test images, None: all.
    """
    name = settings_name("phases", images=images, plain=dict(plain), **attack)
    found = [kept(run.folder / name, lambda run=run: _phases(run, plain, images, attack)) for run in runs]
    result: dict = {"attack": attack, "images": images, "phases": {}}
    for place, phase in enumerate(PHASES):
        measured = found if phase == PHASES[-1] else found[:1]  # of all runs the same networks before
        rates = {}
        for kind in ("clean", "pgd"):
            values = [100 * each[kind][place].item() for each in measured]
            mean, interval = mean_and_interval(values)
            rates[kind] = {"mean": mean, "interval": interval, "values": values}
        result["phases"][phase] = rates
    fsr = [100 * run.matched_fsr for run in runs]
    result["fsr"] = dict(zip(("mean", "interval"), mean_and_interval(fsr), strict=True)) | {"values": fsr}
    return result, found[0]


def draw_phases(path: Path, result: Mapping, pictures: Mapping[str, Tensor]) -> None:
    """Accuracy by phase on the left, maps of a few images in the three phases on the right."""
    figure = plt.figure(figsize=(4.2 + 1.15 * SHOWN, 4.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[4, 1.15 * SHOWN])
    axis = left.subplots()
    for kind, colour in (("clean", "#0072b2"), ("pgd", "#d55e00")):
        means = [result["phases"][phase][kind]["mean"] for phase in PHASES]
        axis.plot(PHASES, means, marker="o", color=colour, label=f"top-1 on {'PGD' if kind == 'pgd' else kind} images")
    axis.plot(PHASES[-1:], [result["fsr"]["mean"]], marker="*", ms=11, ls="", color="#009e73", label="FSR")
    axis.set(ylabel="%", ylim=(-3, 103))
    axis.tick_params(axis="x", labelsize=8)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    axes = right.subplots(len(PHASES), SHOWN, squeeze=False)
    for line, phase, maps in zip(axes, PHASES, pictures["maps"], strict=True):
        line[0].set_ylabel(phase, fontsize=8)
        for axis, image, heat in zip(line, pictures["images"], maps, strict=True):
            draw_map(axis, image, heat)
            axis.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _phases(run: Run, plain: Mapping, images: int | None, attack: Mapping) -> dict[str, Tensor]:
    parts, manipulated = open_run(run)
    networks = (plain_network(run, **plain), parts.original, manipulated)
    test = parts.data.test()
    chosen = some_of(len(test), images)
    loader = parts.data.in_order(Subset(test, chosen))
    rates = {"clean": [_accuracy(network, loader) for network in networks]}
    rates["pgd"] = [adversarial_accuracy(network, loader, parts.data.input, **attack) for network in networks]
    return {kind: torch.tensor(values) for kind, values in rates.items()} | _maps(parts, networks)


@torch.no_grad()
def _accuracy(network: nn.Module, loader) -> float:
    device = next(network.parameters()).device
    found = [network(batch.image.to(device)).argmax(dim=1).cpu() == batch.label for batch in loader]
    return torch.cat(found).double().mean().item()


@torch.no_grad()
def _maps(parts: Parts, networks: Sequence[nn.Module]) -> dict[str, Tensor]:
    test = parts.data.test()
    batch = take(test, some_of(len(test), SHOWN))
    device = next(networks[0].parameters()).device
    maps = [
        read_maps(parts.trained, record(network, batch.image.to(device), [parts.trained]), batch.label.to(device)).cpu()
        for network in networks
    ]
    return {"maps": torch.stack(maps), "images": (parts.data.input.pixels(batch.image) * 255).round().to(torch.uint8)}
