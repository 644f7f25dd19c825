"""audit.html: the verdict on each interpreter at a glance, and below it everything that was tried."""

import base64
import io
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import torch
from jinja2 import Environment, StrictUndefined
from PIL import Image
from torch import nn

from advfool.auditing.noticed import digits, noticed
from advfool.auditing.suite import way
from advfool.auditing.verdicts import UNRANKED
from advfool.data.samples import take
from advfool.evaluation.paired import record_pair
from advfool.evaluation.setup import Setup
from advfool.utilities.plotting import draw_heatmap, draw_image, grid_of_axes, is_signed, new_figure, short
from advfool.utilities.text import printable

SHOWN = 4  # images of a strip
COLOURS = 256  # of a picture


def page(record: Mapping[str, Any], strips: Mapping[str, bytes]) -> str:
    """Make the page from audit.json and a picture for each interpreter; everything from a file is escaped.

    Args:
        record: the contents of audit.json.
        strips: PNG pictures by interpreter.

    Returns:
        HTML that loads nothing.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"percent": percent, "interval": interval, "printable": printable, "accuracy": accuracy}
    environment.filters |= {"noticed": noticed, "digits": digits, "way": _way}
    source = files("advfool.auditing").joinpath("audit.html.j2").read_text(encoding="utf-8")
    pictures = {name: base64.b64encode(png).decode() for name, png in strips.items()}
    ranked = ranking(record)
    return environment.from_string(source).render(
        record=record,
        ranked=ranked,
        answer=answer(record),
        badges={name: badge(each["verdict"]) for name, each in ranked},
        sentences={name: sentence(name, each) for name, each in ranked},
        strips=pictures,
        captions={name: caption(name, each) for name, each in ranked},
        shown=[name for name, _ in ranked if name in pictures],
    )


def ranking(record: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Order the interpreters, the most easily fooled first; those that say nothing by themselves come last."""
    found = list(record["interpreters"].items())
    return sorted(found, key=lambda each: (each[1]["verdict"] in UNRANKED, -_rate(each[1])))


def answer(record: Mapping[str, Any]) -> str:
    """Answer the question of the page in one sentence."""
    verdicts = [each["verdict"] for each in record["interpreters"].values()]
    broken = sum(verdict.startswith("broken") for verdict in verdicts)
    attacked = sum(verdict not in UNRANKED for verdict in verdicts)
    of = f"{attacked} interpreter{'' if attacked == 1 else 's'}"
    if broken:
        return f"Yes: {broken} of {of} can be made to lie about {record['model']}."
    if attacked:
        return f"Not by this attack: {broken} of {of} of {record['model']} broken. That does not make them safe."
    return f"Nothing was attacked: the heatmaps of {record['model']} say nothing, or no attack can be tried."


def badge(verdict: str) -> str:
    """Return two words for a verdict."""
    if verdict.startswith("broken"):
        return "CAN LIE"
    words = {"degenerate": "SAYS NOTHING", "unfaithful": "SAYS NOTHING"}
    words |= {"no gradient": "NOT ATTACKED", "not attacked": "NOT ATTACKED"}
    return words.get(verdict, "NOT BROKEN")


def accuracy(verdict: str | None) -> str:
    """Say what became of the accuracy."""
    words = {"kept": "accuracy kept", "lost": "more accuracy lost than the budget allows"}
    return words.get(verdict or "", "whether the accuracy is kept stays open")


def caption(name: str, found: Mapping[str, Any]) -> str:
    """Say what the rows of a picture are."""
    first = f"Top: images. Below: their heatmaps by {name} on the original network"
    return f"{first}." if found["attack"] is None else f"{first}, and on the attacked one, with what each predicts."


def _rate(each: Mapping[str, Any]) -> float:
    return each.get("deceptive_rate") or 0.0


def sentence(name: str, found: Mapping[str, Any]) -> str:
    """Say in one sentence what the audit found of an interpreter."""
    verdict = found["verdict"]
    if verdict == "degenerate":
        return f"{name} shows nothing: its maps are constant on at least half of the images."
    if verdict == "unfaithful":
        share = percent(found["honesty"]["faithful"])
        return f"{name} explains nothing to begin with: only {share} of its honest maps beat random ones."
    if verdict == "no gradient":
        return f"{name} cannot be attacked by this suite: its maps have no gradient."
    if verdict == "not attacked":
        return f"{name} was not attacked: no attack of the suite can be tried on it, or every one failed."
    if found["deceptive_rate"] is None:
        return f"{name} was not broken by this suite: nothing was fooled within the budget. That does not make it safe."
    rate, drop = percent(found["deceptive_rate"]), 100 * found["top1_drop"]
    if verdict.startswith("broken"):
        price = f"for {drop:.1f} points of accuracy" if drop > 0 else "without losing accuracy"
        return f"{name} can be made to lie: {rate} of its maps deceive, {price}."
    if found["accuracy"] == "lost":
        return (
            f"{name} was fooled ({rate} of its maps deceive), but only with more accuracy lost than the budget allows."
        )
    return f"{name} was not broken by this suite (at best {rate} of its maps deceive); that does not make it safe."


def cells(name: str, found: Mapping[str, Any]) -> list[str]:
    """Write what tables show of an interpreter: name, verdict, rate, interval, FSR with its null, price, accuracy."""
    return [
        name,
        found["verdict"],
        percent(found["deceptive_rate"]),
        interval(found["ci95"]),
        f"{percent(found['fsr'])} ({percent(found['fsr_null'])})",
        percent(found["top1_drop"]),
        found["accuracy"] or "-",
    ]


def percent(rate: float | None) -> str:
    """Write a rate; a dash where there is none."""
    return "-" if rate is None else f"{100 * rate:.1f} %"


def interval(edges: list[float] | None) -> str:
    """Write an interval of rates; a dash where there is none."""
    return "-" if edges is None else f"{100 * edges[0]:.1f} to {100 * edges[1]:.1f} %"


@torch.no_grad()
def strip(setup: Setup, interp: str, manipulated: nn.Module | None) -> bytes:
    """Draw a few test images, the honest map of each and the map that lies, with the prediction under each.

    Args:
        setup: what was audited; where its fooling swaps two classes, composites are drawn, and the maps of the first.
        interp: name of the interpreter.
        manipulated: the winning network; None where there is none.

    Returns:
        a PNG picture.
    """
    images = setup.explained
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(setup.settings.seed))
    batch = take(images, order[:SHOWN].tolist())
    networks = {"original": setup.original.cpu()} | ({"manipulated": manipulated.cpu()} if manipulated else {})
    interpreter = setup.interpreters[interp]
    pair = record_pair(networks, batch.image, batch.label, [interpreter], setup.settings.target)
    maps = {name: found.detach().float() for name, found in pair.maps(interpreter).items()}
    classes = batch.label
    if setup.pair:
        maps, classes = {name: found[:, 0] for name, found in maps.items()}, classes[:, 0]
    pixels = setup.data.input.pixels(batch.image)
    signed = any(is_signed(found) for found in maps.values())
    rows = 1 + len(networks)
    figure = new_figure(1.5 * len(batch.image), 1.75 * rows)
    axes = grid_of_axes(figure, rows, len(batch.image))
    titles = {"original": "honest map", "manipulated": "map that lies"}
    for column, image in enumerate(pixels):
        draw_image(axes[0, column], image)
        axes[0, column].set_title(short(setup.data.labels[int(classes[column])]), fontsize=10)
        for row, (name, found) in enumerate(maps.items(), 1):
            draw_heatmap(axes[row, column], found[column], image, signed)
            predicted = int(pair.logits[name][column].argmax())
            axes[row, column].set_xlabel(f"predicts {short(setup.data.labels[predicted])}", fontsize=9)
            if column == 0:
                axes[row, column].set_ylabel(titles[name], fontsize=10)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return small(content)


def small(png: io.BytesIO) -> bytes:
    """Write a picture with 256 colours, which takes a quarter of the bytes: pages are shared and kept in git."""
    content = io.BytesIO()
    Image.open(png).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(content, "png", optimize=True)
    return content.getvalue()


def _way(trial: Mapping[str, Any]) -> str:
    """Say what the classifier of a trial could do; records of older audits tell less."""
    return way(trial.get("free_layer"), trial.get("offset") or 0.0)
