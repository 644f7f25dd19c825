"""`python docs/make_what_fsr_tells.py runs/demo` (from `make demo`): makes what docs/what_fsr_tells.md shows."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import torch

from advfool.data.samples import some_of, take
from advfool.evaluation.controls import partners, transforms
from advfool.evaluation.measuring import measuring_trainer
from advfool.evaluation.paired import record_pair
from advfool.evaluation.setup import AOPCSettings, FaithfulnessSettings, NullSettings, Setup
from advfool.foolings import CenterMass, Location, TopK
from advfool.library.compare import run_comparison
from advfool.reporting.paper.networks import open_run
from advfool.reporting.runs import find_runs
from advfool.utilities.plotting import draw_heatmap, grid_of_axes, new_figure, save_figure
from advfool.utilities.runtime import quieten

PAGE = Path(__file__).parent / "what_fsr_tells.md"
BEGIN, END = "<!-- numbers: python docs/make_what_fsr_tells.py runs/demo -->", "<!-- end of numbers -->"
FOOLINGS = {"Location": Location(), "Top-k": TopK(), "Center-mass": CenterMass()}
MAPS = {
    "original": "original map",
    "sharpened_16": "its 16th power",
    "another_image": "another image's map",
    "noise": "noise",
    "attacked": "map after the attack",
}
CONTROLS = ("sharpened_16", "another_image", "noise")
IMAGES = 256  # on which deceptive rates are measured
SHOWN = 2  # images
Rates = dict[str, dict[str, tuple[float, float]]]  # FSR and deceptive rate in percent, by fooling and map


def measured(setup: Setup, manipulated: torch.nn.Module) -> Rates:
    """Measure the FSR and the deceptive rate of each kind of map, as each fooling judges it."""
    settings = replace(
        setup.settings,
        aopc=AOPCSettings(),
        faithfulness=FaithfulnessSettings(images=IMAGES, seed=setup.settings.seed),
        nulls=NullSettings(CONTROLS, IMAGES),
    )
    found: Rates = {}
    name = setup.trained.name
    for title, fooling in FOOLINGS.items():
        own = replace(setup, interpreters={name: setup.trained}, settings=settings, fooling=fooling)
        metrics = run_comparison(own, manipulated, measuring_trainer("cpu", False)).metrics
        rates = {control: tuple(metrics["nulls"][name][control].values()) for control in CONTROLS}
        rates["original"] = (metrics["fsr_before"][name], 0.0)  # faithful maps, which is what the rate starts from
        rates["attacked"] = (metrics["fsr"][name], metrics["deceptive_rate"][name])
        found[title] = {key: (100 * rates[key][0], 100 * rates[key][1]) for key in MAPS}
    return found


@torch.no_grad()
def maps_of(setup: Setup, manipulated: torch.nn.Module) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Read the maps of a few random test images, and the images themselves."""
    images, seed = setup.explained, setup.settings.seed
    index = torch.tensor(some_of(len(images), SHOWN))
    chosen, others = take(images, index.tolist()), take(images, partners(images.labels(), index, seed))
    networks = {"original": setup.original, "manipulated": manipulated}
    own, other = (
        record_pair(networks, batch.image, batch.label, [setup.trained], setup.settings.target).maps(setup.trained)
        for batch in (chosen, others)
    )
    original, made = own["original"].float(), transforms(seed)
    found = {"original": original, "another_image": other["original"], "attacked": own["manipulated"]}
    found |= {name: made[name](original, index) for name in ("sharpened_16", "noise")}
    return setup.data.input.pixels(chosen.image), found


def draw(path: Path, rates: Rates, images: torch.Tensor, maps: dict[str, torch.Tensor]) -> None:
    """Draw the maps with their rates below them."""
    figure = new_figure(2.2 * len(MAPS), 2.2 * SHOWN + 1.5)
    axes = grid_of_axes(figure, SHOWN, len(MAPS))
    for line, image, place in zip(axes, images, range(SHOWN), strict=True):
        for axis, name in zip(line, MAPS, strict=True):
            draw_heatmap(axis, maps[name][place], image)
    for axis, below, (name, title) in zip(axes[0], axes[-1], MAPS.items(), strict=True):
        axis.set_title(title, fontsize=10, pad=8)
        lines = (f"{fooling}  {own[name][0]:.0f} % / {own[name][1]:.0f} %" for fooling, own in rates.items())
        below.set_xlabel("\n".join(lines), fontsize=9, linespacing=1.5, labelpad=8)
    figure.suptitle("below each map: FSR / deceptive rate, as each fooling judges maps of this kind", fontsize=10)
    save_figure(figure, path)


def table(rates: Rates) -> str:
    """Write the rates as a table."""
    lines = [["FSR / deceptive rate", *MAPS.values()], ["---", *("---:" for _ in MAPS)]]
    for fooling, own in rates.items():
        lines.append([fooling, *(f"{own[name][0]:.1f} % / {own[name][1]:.1f} %" for name in MAPS)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(folder: Path) -> None:
    """Measure, draw, and put the numbers into the page."""
    quieten()
    setup, manipulated = open_run(find_runs(folder)[0])
    rates = measured(setup, manipulated)
    draw(PAGE.with_suffix(".png"), rates, *maps_of(setup, manipulated))
    pattern = f"(?<={re.escape(BEGIN)}\n).*?(?={re.escape(END)})"
    PAGE.write_text(re.sub(pattern, lambda _: f"\n{table(rates)}\n\n", PAGE.read_text(), flags=re.DOTALL))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
