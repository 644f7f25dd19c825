"""The tables on the console that a run ends with."""

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from advfool.evaluation.gate import gate_line
from advfool.evaluation.paired import NETWORKS, PAIR
from advfool.evaluation.reach import OUT_OF_REACH
from advfool.utilities.files import PICTURES
from advfool.utilities.text import printable


def print_results(metrics: dict, folder: Path, console: Console | None = None) -> None:
    """Print the accuracy, the measures of each interpreter's heatmaps, and where the pictures are.

    Args:
        metrics: the contents of metrics.json.
        folder: of the run.
        console: where to print; None: standard output.
    """
    console = console or Console()
    console.print(_accuracy(metrics))
    console.print(_maps(metrics))
    drop = metrics["accuracy"]["drop"]
    low, high = (100 * edge for edge in drop["ci95"] or (float("nan"),) * 2)
    kind = "composites" if "pair" in metrics else "of them"
    trained = f"{metrics['steps']} steps in {metrics['train_seconds']:.0f} s." if "steps" in metrics else ""
    console.print(
        f"Top-1 drop {100 * drop['top1']:.2f} points (paired 95 % interval {low:.2f} to {high:.2f}) on "
        f"{metrics['n_images']} test images; heatmaps of {metrics['n_images_fsr']} {kind}. {trained}"
    )
    if "gate" in metrics:
        console.print(gate_line(metrics["gate"], metrics["interp"]))
    console.print(_judged(metrics), markup=False, soft_wrap=True)
    for classes in list(metrics.get("fsr_by_class", {}).values())[:1]:
        worst = min(classes, key=lambda name: classes[name] or 0.0)
        console.print(f"Least fooled class: {printable(worst)} (FSR {_percent(classes[worst])}).", markup=False)
    pictures = [str(folder / name) for name in PICTURES if (folder / name).exists()]
    if pictures:
        console.print(f"Look at {' and '.join(pictures)}.", markup=False, soft_wrap=True)


def _judged(metrics: Mapping) -> str:
    """Say how the errors have grown and whether the accuracy was kept."""
    accuracy, ratio = metrics["accuracy"], metrics["accuracy"]["error_ratio"]
    ends = metrics["ci95"]["accuracy"]["error_ratio"]
    errors = "The original network makes no errors" if ratio is None else f"{ratio:.2f} times the original's errors"
    interval = f" (95 % interval {ends[0]:.2f} to {ends[1]:.2f})" if ends else ""
    margin = f"{100 * accuracy['margin']:g} points"
    return f"{errors}{interval}. Accuracy {accuracy['verdict']} (margin {margin})."


def _accuracy(metrics: dict) -> Table:
    title = _plain(f"{metrics['model']}: {metrics['interp']} fooled with {metrics['fooling']}")
    table = Table("", title=title, title_justify="left")
    for name in NETWORKS:
        table.add_column(name, justify="right")
    rows = {"top1": "top-1 accuracy", "top5": "top-5 accuracy"}
    accuracy = metrics["accuracy"]
    for which, name in metrics.get("pair", {}).items():
        rows |= {which: _plain(f"top-1 of {name} ({which})"), f"{which}_top5": _plain(f"top-5 of {name} ({which})")}
    rows = {key: label for key, label in rows.items() if key in accuracy["original"]}
    for key, label in rows.items():
        table.add_row(label, *(_percent(accuracy[name][key]) for name in NETWORKS))
    return table


def _maps(metrics: dict) -> Table:
    """Make a table with a column for each interpreter (and class, for active fooling) and a row for each measure."""
    active = any(isinstance(rate, Mapping) for rate in metrics["fsr"].values())
    columns = [(interp, which) for interp in metrics["fsr"] for which in (PAIR if active else (None,))]
    table = Table("", title="heatmaps of the original network, to those of the manipulated one", title_justify="left")
    for interp, which in columns:
        table.add_column(_plain(" ".join(filter(None, (interp, which)))), justify="right")

    def row(label: str, *parts: tuple[str, ...], form=_percent, source: Mapping = metrics) -> None:
        cells = []
        for interp, which in columns:
            values = (_at(source, [key, interp, *rest[:1], which, *rest[1:]]) for key, *rest in parts)
            cells.append(" to ".join(form(value) for value in values))
        table.add_row(label, *cells)

    row("FSR before", ("fsr_before",))
    row("FSR", ("fsr",), form=lambda rate: f"[bold]{_percent(rate)}[/bold]")
    row("  95 % interval", ("fsr",), form=_interval, source=metrics["ci95"])
    if metrics.get("fsr_null"):
        row("  without an attack, up to", ("fsr_null",))
    if "deceptive_rate" in metrics:
        row("deceptive rate", ("deceptive_rate",), form=lambda rate: f"[bold]{_percent(rate)}[/bold]")
        row("  95 % interval", ("deceptive_rate",), form=_interval, source=metrics["ci95"])
        row("  of so many images", ("n_deceptive",), form=str)
        row("  FSR on these", ("fsr_of_deceptive",))
        row("faithful maps", ("faithful", "original"), ("faithful", "manipulated"))
    if "misdirected_rate" in metrics:
        row("misdirected rate", ("misdirected_rate",))
        row("  95 % interval", ("misdirected_rate",), form=_interval, source=metrics["ci95"])
        row("  of so many images", ("n_misdirected",), form=str)
    if "fsr_rearranged" in metrics:
        row("FSR if the original's values moved", ("fsr_rearranged",), form=_reach)
        row("mass where it shall go", ("frame_mass", "original"), ("frame_mass", "manipulated"))
        row("  of mass spread evenly", ("frame_mass", "area"))
    row("test loss", ("test_loss", "original"), ("test_loss", "manipulated"), form=_number)
    row("Spearman", ("spearman",), form=_number)
    row("degenerate maps", ("degenerate_before",), ("degenerate",))
    if "box" in metrics:
        for label, key in (("points into the box", "pointing"), ("mass in the box", "mass")):
            row(label, ("box", "original", key), ("box", "manipulated", key))
    return table


def _plain(text: str) -> str:
    """Return a name, which may come from a stranger's run, without what would command the terminal or rich."""
    return escape(printable(text))


def _at(source: Mapping, path: list[str | None]) -> object:
    for key in path:
        source = source if key is None else source[key]
    return source


def _interval(edges: list[float] | None) -> str:
    return "-" if edges is None else f"{100 * edges[0]:.1f} to {100 * edges[1]:.1f}"


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{100 * rate:.1f} %"


def _reach(rate: float | None) -> str:
    return OUT_OF_REACH if rate == 0 else _percent(rate)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
