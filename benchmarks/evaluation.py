"""What evaluating several interpreters costs beside the dearest alone: one batch of original and manipulated network.

python benchmarks/evaluation.py --arch resnet50 --rounds 5
"""

import argparse
from collections.abc import Callable
from types import SimpleNamespace

import torch
import torchvision
from costs import LAYERS, medians
from rich.console import Console
from rich.table import Table

from advfool.data.samples import Sample
from advfool.evaluation.comparison import AOPCSettings, Comparison
from advfool.foolings import TopK
from advfool.interpreters import LRP, GradCAM, SimpleGrad
from advfool.utilities.runtime import keep_freed_memory

LIMIT = 2.0  # all four, in evaluations of the dearest alone


def evaluations(arch: str, batch: int) -> dict[str, Callable[[], None]]:
    """The work on one batch, metrics included, by the interpreters evaluated."""
    torch.manual_seed(0)
    layer = LAYERS[arch]
    networks = [torchvision.models.get_model(arch).eval() for _ in range(2)]
    samples = Sample(
        torch.randn(batch, 3, 224, 224), torch.randint(1000, (batch,)), torch.arange(batch), torch.zeros(batch, 4)
    )
    four = [
        GradCAM(layer, name="gradcam"),
        LRP(layer, name="lrp_t"),
        SimpleGrad(layer, name="simplegrad_t"),
        LRP(name="lrp"),
    ]
    data = SimpleNamespace(has_boxes=False)

    def run(interpreters: list) -> Callable[[], None]:
        nothing = torch.empty(0, dtype=torch.long)
        comparison = Comparison(*networks, interpreters, TopK(), "label", data, None, AOPCSettings(), nothing)

        @torch.no_grad()
        def step() -> None:
            comparison.test_step(samples, 0)

        return step

    return {"all four": run(four), **{interp.name: run([interp]) for interp in four}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="resnet50", choices=list(LAYERS))
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    keep_freed_memory()
    seconds = medians(evaluations(args.arch, args.batch), args.rounds, torch.device("cpu"))
    dearest = max(value for kind, value in seconds.items() if kind != "all four")
    table = Table("evaluated", "seconds", "dearest alone", "limit", title=f"{args.arch}: one batch of {args.batch}")
    for kind, value in seconds.items():
        table.add_row(kind, f"{value:.3f}", f"{value / dearest:.2f}", f"{LIMIT}" if kind == "all four" else "")
    Console().print(table)


if __name__ == "__main__":
    main()
