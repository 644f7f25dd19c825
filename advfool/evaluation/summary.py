"""From one row for each image to rates: the contents of metrics.json that come from the images."""

from collections.abc import Sequence

import torch
from torch import Tensor

from advfool.evaluation.comparison import NETWORKS, PAIR, SIMILARITIES, Results, Table
from advfool.foolings.base import Fooling
from advfool.metrics.functional import bootstrap_interval, is_fooled, paired_interval

Path = tuple[str, ...]  # of a rate in metrics.json
AT_A_TIME = 64  # rates whose intervals are drawn together: the memory it takes


def summarise(
    results: Results,
    interpreters: Sequence[str],
    fooling: Fooling,
    classes: Sequence[str],
    pair: tuple[int, int] | None = None,
    seed: int = 0,
) -> dict:
    """Rates as fractions of 1, and under `ci95`, at the same place, their bootstrap intervals over the images.

    `accuracy.drop.top1` is original less manipulated on the same images, with its paired 95 % interval. pair: the
    classes that active fooling swaps, whose rates are given apart.
    """
    images, explained = results.images, results.explained
    columns = _of_networks(images, pair)
    result: dict = {}
    for rates in (columns, _of_maps(explained, interpreters, fooling, pair is not None)):
        _put(result, rates, seed)
    drop, interval = paired_interval(*(images[f"top1/{name}"] for name in NETWORKS))
    result["accuracy"]["drop"] = {"top1": drop, "ci95": list(interval) if interval else None}
    result |= {"n_images": len(images["index"]), "n_images_fsr": len(explained["index"])}
    if pair is None:
        _put(result, _by_class(explained, interpreters, fooling, classes), seed)
    for (interp, network, source), curve in results.aopc.items():
        for key, value in (("aopc", curve.value), ("ci95", curve.interval)):
            place = result.setdefault(key, {}) if key == "aopc" else result[key].setdefault("aopc", {})
            place.setdefault(interp or "random", {}).setdefault(network, {})[source] = value
    return result


def _of_networks(images: Table, pair: tuple[int, int] | None) -> dict[Path, Tensor]:
    columns = {("accuracy", name, key): images[f"{key}/{name}"] for name in NETWORKS for key in ("top1", "top5")}
    for name in NETWORKS:
        for which, label in zip(PAIR, pair or (), strict=False):
            columns["accuracy", name, which] = images[f"top1/{name}"].where(images["label"] == label, torch.nan)
    return columns | {("agreement",): images["agreement"], ("kl",): images["kl"]}


def _of_maps(explained: Table, interpreters: Sequence[str], fooling: Fooling, active: bool) -> dict[Path, Tensor]:
    columns: dict[Path, Tensor] = {}
    for interp in interpreters:
        for which in PAIR if active else (None,):

            def at(name: str, network: str | None = None, interp=interp, which=which) -> Tensor:
                return explained["/".join(filter(None, (name, interp, network, which)))]

            last = (which,) if which else ()
            for key, name in (("fsr", "manipulated"), ("fsr_before", "original")):
                columns[(key, interp, *last)] = is_fooled(at("test_loss", name), fooling.interval).float()
            for key, name in (("degenerate", "manipulated"), ("degenerate_before", "original")):
                columns[(key, interp, *last)] = at("degenerate", name)
            for name in NETWORKS:
                columns[("test_loss", interp, name, *last)] = at("test_loss", name)
                if "/".join(filter(None, ("mass", interp, name, which))) in explained:
                    for key in ("pointing", "mass"):
                        columns[("box", interp, name, *last, key)] = at(key, name)
            for key in SIMILARITIES:
                columns[(key, interp, *last)] = at(key)
                columns[("undefined", key, interp, *last)] = at(key).isnan().float()
    return columns


def _by_class(
    explained: Table, interpreters: Sequence[str], fooling: Fooling, classes: Sequence[str]
) -> dict[Path, Tensor]:
    labels, columns = explained["label"], {}
    for interp in interpreters:
        fooled = is_fooled(explained[f"test_loss/{interp}/manipulated"], fooling.interval).float()
        degenerate = explained[f"degenerate/{interp}/manipulated"]
        for c in labels.unique().tolist():
            for key, values in (("fsr_by_class", fooled), ("degenerate_by_class", degenerate)):
                columns[key, interp, classes[c]] = values.where(labels == c, torch.nan)
    return columns


def _put(result: dict, columns: dict[Path, Tensor], seed: int) -> None:
    """Means and intervals of the columns (all of the same images), each at its place."""
    parts = torch.stack([c.double() for c in columns.values()], dim=1).split(AT_A_TIME, dim=1)
    lows, highs = (
        torch.cat(ends).tolist() for ends in zip(*(bootstrap_interval(p, seed=seed) for p in parts), strict=True)
    )
    for (path, values), low, high in zip(columns.items(), lows, highs, strict=True):
        defined = low == low and high == high
        for place, value in (
            (result, _mean(values)),
            (result.setdefault("ci95", {}), [low, high] if defined else None),
        ):
            for key in path[:-1]:
                place = place.setdefault(key, {})
            place[path[-1]] = value


def _mean(values: Tensor) -> float | None:
    """Mean over the values that are not NaN; None where there is none (JSON has no NaN)."""
    mean = values.double().nanmean().item()
    return None if mean != mean else mean
