"""What the metrics cost, as ratios measured in one run: AOPC beside its bare forward passes and Quantus'
PixelFlipping, Spearman beside a loop over scipy.

All kinds of a table take turns, each in every round; a time is the median of its rounds.

    OMP_NUM_THREADS=1 python benchmarks/metrics.py            CPU, resnet18 at 224, batch 8
    python benchmarks/metrics.py --arch resnet50 --steps 24 --rounds 7
"""

import argparse
import warnings
from collections.abc import Callable
from typing import get_args

import quantus
import scipy.stats
import torch
import torchvision
from costs import medians
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from advfool.metrics import aopc, spearman
from advfool.metrics.functional.flipping import Replacement
from advfool.utilities.heatmaps import resize
from advfool.utilities.runtime import keep_freed_memory

CPU = torch.device("cpu")
OWN_STEPS = 96
OWN_LIMIT = 0.9  # milliseconds a step, for 8 images at 224
PAIRS = {(4096, 14): 50, (16, 224): 1}  # (pairs, side): to be so many times as fast as scipy, at least


class Negligible(nn.Module):
    """A network whose forward pass costs nothing: what is left is the metric's own work."""

    def forward(self, images: Tensor) -> Tensor:
        return images[:, 0, 0, :10]


class Flipping:
    """Images, targets and maps, and AOPC and PixelFlipping on them with as many steps."""

    def __init__(self, batch: int, size: int, steps: int, classes: int) -> None:
        torch.manual_seed(0)
        self.images = torch.randn(batch, 3, size, size)
        self.targets = torch.randint(classes, (batch,))
        self.maps = torch.rand(batch, 14, 14)
        self.steps = steps

    def forwards(self, network: nn.Module) -> Callable[[], None]:
        @torch.no_grad()
        def run() -> None:
            for _ in range(self.steps + 1):
                network(self.images)

        return run

    def aopc(self, network: nn.Module, replacement: str = "uniform") -> Callable[[], Tensor]:
        settings = {"steps": self.steps, "replacement": replacement}
        return lambda: aopc(network, self.images, self.targets, self.maps, **settings)

    def quantus(self, network: nn.Module) -> Callable[[], object]:
        features = self.images[0].numel() // self.steps
        assert features * self.steps == self.images[0].numel(), f"{self.steps} steps do not divide the image"
        flip = quantus.PixelFlipping(features_in_step=features, disable_warnings=True)
        maps = resize(self.maps, tuple(self.images.shape[2:]))[:, None].numpy()
        options = {"device": "cpu", "batch_size": len(self.images)}

        @torch.no_grad()
        def run() -> None:
            network(self.images)  # f(x_0), which a curve of AOPC starts from, and PixelFlipping leaves to its user
            flip(network, self.images.numpy(), self.targets.numpy(), maps, **options)

        return run


def whole_table(arch: str, batch: int, size: int, steps: int, rounds: int) -> Table:
    network = torchvision.models.get_model(arch).eval()
    flipping = Flipping(batch, size, steps, 1000)
    kinds = {"forwards": flipping.forwards, "aopc": flipping.aopc, "quantus": flipping.quantus}
    seconds = medians({kind: make(network) for kind, make in kinds.items()}, rounds, CPU)
    limits = {"aopc": "1.1", "quantus": f"above {seconds['aopc'] / seconds['forwards']:.3f}"}
    table = Table("kind", "seconds", "forwards", "limit", title=f"{arch}: {steps} steps of AOPC, {batch} images")
    for kind, value in seconds.items():
        table.add_row(kind, f"{value:.3f}", f"{value / seconds['forwards']:.3f}", limits.get(kind, ""))
    return table


def own_table(batch: int, size: int, steps: int, rounds: int) -> Table:
    flipping = Flipping(batch, size, steps, 10)
    kinds = {f"aopc, {word}": flipping.aopc(Negligible().eval(), word) for word in get_args(Replacement)}
    seconds = medians(kinds | {"quantus": flipping.quantus(Negligible().eval())}, rounds, CPU)
    table = Table("kind", "ms a step", "limit", "quantus", "limit", title=f"own work a step of {steps}, {batch} images")
    for kind, value in seconds.items():
        limits = ("", "") if kind == "quantus" else (f"{OWN_LIMIT}", "10")
        ratio = f"{seconds['quantus'] / value:.1f}"
        table.add_row(kind, f"{1000 * value / steps:.3f}", limits[0], ratio, limits[1])
    return table


def spearman_table(rounds: int) -> Table:
    table = Table("pairs", "scipy", "seconds", "times as fast", "limit", title="Spearman")
    for (pairs, side), limit in PAIRS.items():
        torch.manual_seed(0)
        plain = torch.randn(2, pairs, side, side)
        for name, (a, b) in {"": plain, ", half of it zero": plain.relu()}.items():
            kinds = {"ours": lambda a=a, b=b: spearman(a, b), "scipy": lambda a=a, b=b: scipy_loop(a, b)}
            seconds = medians(kinds, rounds, CPU)
            times = f"{seconds['scipy']:.3f}", f"{seconds['ours']:.4f}"
            ratio = f"{seconds['scipy'] / seconds['ours']:.1f}"
            table.add_row(f"{pairs} of {side}x{side}{name}", *times, ratio, f"{limit}")
    return table


def scipy_loop(a: Tensor, b: Tensor) -> list[float]:
    pairs = zip(a.flatten(1).numpy(), b.flatten(1).numpy(), strict=True)
    return [scipy.stats.spearmanr(*pair).statistic for pair in pairs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", nargs="+", default=["resnet18"])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=6, help="with a network; Quantus needs 3, 6, 12, 24, ...")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    keep_freed_memory()
    warnings.simplefilter("ignore")

    console = Console()
    threads = torch.get_num_threads()
    console.print(f"batch {args.batch} at {args.size}, {threads} thread(s), torch {torch.__version__}")
    console.print(spearman_table(args.rounds))
    console.print(own_table(args.batch, args.size, OWN_STEPS, args.rounds))
    for arch in args.arch:
        console.print(whole_table(arch, args.batch, args.size, args.steps, args.rounds))


if __name__ == "__main__":
    main()
