"""The page's plots as Plotly figures: plain dictionaries of `data`, `layout` and `alt`, a text alternative.

Fonts, grids and the colours of a dark page, which all figures share, are set in templates/report.js.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from advfool.reporting import wording
from advfool.reporting.headline import known
from advfool.reporting.pareto import CHOSEN_BY, pareto_front
from advfool.reporting.rows import Row, matched
from advfool.reporting.transfer import Transfer, TransferCell
from advfool.utilities.plotting import History, evenly_spaced

Figure = dict[str, Any]
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#c2649a", "#8c6bb1", "#a6761d")  # distinct for colour-blind readers
GREY = "#808080"
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon", "pentagon")
DASHES = ("solid", "dash", "dot", "dashdot")
SCALE = "Cividis"  # looks alike to colour-blind readers, and keeps its order in grey
POINTS = 200  # of a curve, at most


def transfer_figure(transfer: Transfer, anchors: Mapping[str, str]) -> Figure:
    """Draw the FSR of one model and fooling as a matrix: trained with in rows, evaluated with in columns.

    Args:
        transfer: the numbers.
        anchors: of the runs on the page, by name.
    """
    values, hover, shown, targets, described = [], [], [], [], []
    for own in transfer.trained:
        cells = [transfer.cells.get((own, other)) for other in transfer.evaluated]
        values.append([None if cell is None else round(100 * cell.fsr, 2) for cell in cells])
        targets.append([None if cell is None else anchors[cell.rows[0]["run"]] for cell in cells])
        hover.append([_transfer_hover(cell) for cell in cells])
        shown.append(
            ["" if cell is None else "<br>".join(_rates(cell.fsr, cell.null, cell.deceptive)) for cell in cells]
        )
        pairs = zip(transfer.evaluated, cells, strict=True)
        described.append(
            f"trained with {own}: "
            + ", ".join(
                f"{other} {' '.join(_rates(cell.fsr, cell.null, cell.deceptive, ' %'))}"
                for other, cell in pairs
                if cell is not None
            )
        )
    heat = {
        "type": "heatmap",
        "x": [escaped(wording.interp(name)) for name in transfer.evaluated],
        "y": [escaped(wording.interp(name)) for name in transfer.trained],
        "z": values,
        "text": shown,
        "hovertext": hover,
        "customdata": targets,
        "texttemplate": "%{text}",
        "hovertemplate": "trained with %{y}, evaluated with %{x}<br>%{hovertext}<extra></extra>",
        "hoverongaps": False,
        "zmin": 0,
        "zmax": 100,
        "colorscale": SCALE,
        "xgap": 2,
        "ygap": 2,
        "colorbar": {"title": {"text": "FSR (%)", "side": "right"}, "thickness": 12, "outlinewidth": 0},
    }
    layout = {
        "height": 150 + 62 * len(transfer.trained),
        "xaxis": {"title": {"text": "evaluated with"}, "side": "bottom", "showgrid": False, "type": "category"},
        "yaxis": {
            "title": {"text": "trained with"},
            "autorange": "reversed",
            "showgrid": False,
            "type": "category",
        },
    }
    alt = f"FSR of {wording.fooling(transfer.fooling)} fooling on {transfer.model}, {'; '.join(described)}."
    return {"data": [heat], "layout": layout, "alt": alt}


def _transfer_hover(cell: TransferCell | None) -> str:
    if cell is None:
        return ""
    count = len(cell.rows)
    over = f", mean of {count} runs ({wording.percent_interval(cell.low, cell.high)} %)" if count > 1 else ""
    before = f"<br>before the fooling {wording.percent(cell.before)} %" if cell.before is not None else ""
    beside = "".join(f"<br>{text}" for text in _rates(None, cell.null, cell.deceptive, " %"))
    return f"FSR {wording.percent(cell.fsr)} %{over}{beside}{before}"


def _rates(fsr: float | None, null: float | None, deceptive: float | None, unit: str = "") -> list[str]:
    """Write an FSR and what stands beside it; nothing for what is not known."""
    named = (("", fsr), ("null ", null), ("deceptive ", deceptive))
    return [f"{name}{wording.percent(value)}{unit}" for name, value in named if value is not None]


def _beside(row: Row) -> str:
    """Write the null and the deceptive rate of a run, to follow its FSR."""
    rates = _rates(None, row.get("fsr_null"), row.get("deceptive_rate"), " %")
    return f" ({', '.join(rates)})" if rates else ""


def tradeoff_figure(rows: Sequence[Row], anchors: Mapping[str, str]) -> Figure:
    """Draw the FSR of each run against its loss of accuracy, with the Pareto front.

    Args:
        rows: of all runs; foolings have colours, models have symbols.
        anchors: of the runs on the page, by name.
    """
    points = known(matched(rows), "fsr", "accuracy_drop_top1")
    models = list(dict.fromkeys(row["model"] for row in points))
    symbols = {model: SYMBOLS[place % len(SYMBOLS)] for place, model in enumerate(models)}
    front = pareto_front(known(points, *CHOSEN_BY))
    data: list[dict] = [
        {
            "type": "scatter",
            "name": "Pareto front",
            "x": [_percent(row["accuracy_drop_top1"]) for row in front],
            "y": [_percent(row["fsr"]) for row in front],
            "mode": "lines",
            "line": {"color": GREY, "width": 1.5, "shape": "hv"},
            "hoverinfo": "skip",
        }
    ]
    for place, fooling in enumerate(sorted({row["fooling"] for row in points}, key=wording.rank)):
        own = [row for row in points if row["fooling"] == fooling]
        data.append(
            {
                "type": "scatter",
                "name": wording.fooling(fooling),
                "x": [_percent(row["accuracy_drop_top1"]) for row in own],
                "y": [_percent(row["fsr"]) for row in own],
                "mode": "markers",
                "marker": {
                    "color": PALETTE[place % len(PALETTE)],
                    "symbol": [symbols[row["model"]] for row in own],
                    "size": 10,
                    "line": {"width": 1, "color": "rgba(255,255,255,0.8)"},
                },
                "text": [_named(row) for row in own],
                "customdata": [anchors[row["run"]] for row in own],
                "hovertext": [_beside(row) for row in own],
                "hovertemplate": "%{text}<br>FSR %{y:.1f} %%{hovertext}, top-1 drop %{x:.2f} points<extra></extra>",
            }
        )
    if len(models) > 1:
        data += [
            {
                "type": "scatter",
                "name": escaped(model),
                "x": [None],
                "y": [None],
                "mode": "markers",
                "marker": {"color": GREY, "symbol": symbols[model], "size": 9},
                "hoverinfo": "skip",
            }
            for model in models
        ]
    layout = {
        "height": 460,
        "hovermode": "closest",
        "xaxis": {"title": {"text": "top-1 accuracy lost (points)"}, "zeroline": True},
        "yaxis": {"title": {"text": "FSR, interpreter trained with (%)"}, "range": [-4, 104]},
    }
    best = "; ".join(
        f"{row['run']}: FSR {wording.percent(row['fsr'])} %{_beside(row)} for "
        f"{wording.percent(row['accuracy_drop_top1'], 2)} points"
        for row in front
    )
    front_of = (
        f"On the Pareto front: {best}." if best else "No run has numbers of selection images, so there is no front."
    )
    alt = f"FSR against lost top-1 accuracy of {wording.plural(len(points), 'run')}. {front_of}"
    return {"data": data, "layout": layout, "alt": alt}


def training_figure(history: History) -> Figure | None:
    """Draw the losses by step above, the rates on the selection images below.

    Args:
        history: what was logged.

    Returns:
        the figure, or None where nothing was logged.
    """
    losses = {"train/preserve": "loss that preserves the accuracy", "train/penalty": "fooling penalty"}
    data = [
        _curve(history[name], label, place, axis="y", digits=5)
        for place, (name, label) in enumerate(losses.items())
        if name in history
    ]
    rates = [name for name in history if name == "val/top1" or name.startswith("val/fsr/")]
    for place, name in enumerate(rates, start=len(losses)):
        label = "top-1 accuracy" if name == "val/top1" else f"FSR {wording.interp(name.removeprefix('val/fsr/'))}"
        steps, values = history[name]
        data.append(_curve((steps, 100 * values), label, place, axis="y2", digits=2, markers=True))
    if not data:
        return None
    layout = {
        "height": 520,
        "hovermode": "x unified",
        "xaxis": {"title": {"text": "step"}, "anchor": "y2"},
        "yaxis": {"title": {"text": "training loss"}, "type": "log", "domain": [0.56, 1], "dtick": 1},
        "yaxis2": {
            "title": {"text": "selection images (%)"},
            "domain": [0, 0.46],
            "range": [-4, 104],
            "anchor": "x",
        },
    }
    ends = [f"{trace['name']} {wording.number(trace['y'][-1], 3)}" for trace in data if trace["y"]]
    return {"data": data, "layout": layout, "alt": f"Training curves. Last values: {'; '.join(ends)}."}


def aopc_figure(curves: Mapping[str, Sequence[float]], interp: str) -> Figure | None:
    """Draw the AOPC curves of both networks, in the order of an interpreter's heatmaps and in random order.

    Args:
        curves: as in aopc.json, by `INTERPRETER/NETWORK/WHOSE HEATMAP` and `NETWORK/random`.
        interp: the interpreter.

    Returns:
        the figure, or None where there are no such curves.

    Source: Heo et al. 2019, Figure 4(a).
    """
    data = []
    for place, (source, label) in enumerate(
        {"original": "original heatmap", "manipulated": "manipulated heatmap", "random": "random order"}.items()
    ):
        for network in ("original", "manipulated"):
            points = curves.get(f"{network}/random" if source == "random" else f"{interp}/{network}/{source}")
            if points is None:
                continue
            values = np.asarray(points, dtype=float)
            curve = _curve((np.arange(len(values)), values), f"{network} network, {label}", place, "y", digits=4)
            colour = GREY if source == "random" else PALETTE[place]
            curve["line"] = {"color": colour, "width": 2, "dash": "solid" if network == "original" else "dash"}
            data.append(curve)
    if not data:
        return None
    layout = {
        "height": 420,
        "hovermode": "x unified",
        "xaxis": {"title": {"text": "regions replaced"}},
        "yaxis": {"title": {"text": "mean decrease of the class's probability"}},
    }
    ends = [f"{trace['name']} {wording.number(trace['y'][-1], 3)}" for trace in data]
    alt = f"AOPC curves of both networks under {interp}. At the end: {'; '.join(ends)}."
    return {"data": data, "layout": layout, "alt": alt}


def escaped(text: object) -> str:
    """Escape text for Plotly, which reads a few HTML tags as formatting."""
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _curve(
    curve: tuple[np.ndarray, np.ndarray], name: str, place: int, axis: str, digits: int, markers: bool = False
) -> dict:
    steps, values = curve
    finite = np.isfinite(values)
    steps, values = steps[finite], values[finite]
    colour, dash = PALETTE[place % len(PALETTE)], DASHES[place // len(PALETTE) % len(DASHES)]
    kept = evenly_spaced(len(steps), POINTS)
    return {
        "type": "scatter",
        "name": escaped(name),
        "x": steps[kept].tolist(),
        "y": values[kept].round(digits).tolist(),
        "yaxis": axis,
        "mode": "lines+markers" if markers else "lines",
        "marker": {"size": 5},
        "line": {"color": colour, "width": 2, "dash": dash},
    }


def _named(row: Row) -> str:
    trained = f"{wording.fooling(row['fooling'])}, {wording.interp(row['interp'])}"
    return f"<b>{escaped(row['run'])}</b><br>{escaped(row['model'])}: {escaped(trained)}"


def _percent(fraction: float) -> float:
    return round(100 * fraction, 3)
