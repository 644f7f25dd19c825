"""The table on the console that a run ends with."""

from pathlib import Path

from rich.console import Console
from rich.table import Table


def print_results(metrics: dict, folder: Path, console: Console | None = None) -> None:
    """Prints original and manipulated network side by side, and where the pictures are."""
    console = console or Console()
    accuracy = metrics["accuracy"]
    table = Table(
        title=f"{metrics['model']}: {metrics['interp']} fooled with {metrics['fooling']}", title_justify="left"
    )
    for column, justify in (("", "left"), ("original", "right"), ("manipulated", "right")):
        table.add_column(column, justify=justify)

    for key, label in (("top1", "top-1 accuracy"), ("top5", "top-5 accuracy")):
        table.add_row(label, _percent(accuracy["original"][key]), _percent(accuracy["manipulated"][key]))
    for interp, rate in metrics["fsr"].items():
        table.add_section()
        table.add_row(f"FSR {interp}", _percent(metrics["fsr_before"][interp]), f"[bold]{_percent(rate)}[/bold]")
        loss = metrics["test_loss"][interp]
        table.add_row("mean test loss", _number(loss["original"]), _number(loss["manipulated"]))
        table.add_row(
            "degenerate maps", _percent(metrics["degenerate_before"][interp]), _percent(metrics["degenerate"][interp])
        )
        if "box" in metrics:
            box = metrics["box"][interp]
            for key, label in (("pointing", "points into the box"), ("mass", "relevance in the box")):
                table.add_row(label, _percent(box["original"][key]), _percent(box["manipulated"][key]))
    console.print(table)
    low, high = (100 * edge for edge in accuracy["drop"]["ci95"] or (float("nan"),) * 2)
    console.print(
        f"Top-1 drop {100 * accuracy['drop']['top1']:.2f} points (paired 95 % interval {low:.2f} to {high:.2f}) on "
        f"{metrics['n_images']} test images; heatmaps of {metrics['n_images_fsr']}; "
        f"{metrics['steps']} steps in {metrics['train_seconds']:.0f} s."
    )
    classes = next(iter(metrics["fsr_by_class"].values()))
    worst = min(classes, key=lambda name: classes[name] or 0.0)
    console.print(f"Least fooled class: {worst} (FSR {_percent(classes[worst])}).", markup=False)
    console.print(f"Look at {folder / 'heatmaps.png'} and {folder / 'training.png'}.", markup=False, soft_wrap=True)


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{100 * rate:.1f} %"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
