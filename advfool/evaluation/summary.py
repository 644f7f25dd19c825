"""From one row for each image to rates: the part of metrics.json that comes from the images."""

from collections.abc import Iterator, Mapping
from itertools import product

import torch
from torch import Tensor

from advfool.evaluation.comparison import Results, similarities
from advfool.evaluation.controls import NEGATIVE, POSITIVE
from advfool.evaluation.paired import NETWORKS, PAIR
from advfool.evaluation.reach import reach_rates
from advfool.evaluation.rows import Table, clusters_of
from advfool.evaluation.setup import Setup
from advfool.metrics.functional import (
    accuracy_verdict,
    bootstrap_interval,
    drop_interval,
    error_ratio,
    is_fooled,
    rule_of_three,
)

Place = tuple[str, ...]  # of a rate in metrics.json
TOP = 5  # classes of a top-5 accuracy: of no more classes it is always 1
AT_A_TIME = 64  # rates whose intervals are drawn together: the memory it takes


def summarise(results: Results, setup: Setup) -> dict:
    """Average the rows of a comparison.

    Args:
        results: the rows.
        setup: what was compared, and how.

    Returns:
        what metrics.json holds: rates as fractions of 1 and, under `ci95` at the same place, their bootstrap intervals
        over the images, which draw whole sources (scans, photos). `accuracy.drop.top1` is the original's accuracy less
        the manipulated network's on the same images, with its paired 95 % interval.
    """
    images, explained, seed = results.images, results.explained, setup.settings.seed
    result: dict = {}
    _put(result, _of_networks(images, setup), seed, clusters_of(images))
    of_maps = dict(_of_maps(explained, setup)) | dict(_of_deception(explained, setup)) | _of_reach(explained, setup)
    _put(result, of_maps, seed, clusters_of(explained))
    _judge_accuracy(result, images, setup.settings.accuracy.margin)
    result |= {"n_images": len(images["index"]), "n_images_fsr": len(explained["index"])}
    result |= _counts(explained, setup)
    if results.nulls:
        nulls = summarise_nulls(results.nulls, setup)
        result["ci95"] |= nulls.pop("ci95")
        result |= nulls
    if setup.pair is None:
        _put(result, _by_class(explained, setup), seed, clusters_of(explained))
    for (interp, network, source), curve in results.aopc.items():
        for key, value in (("aopc", curve.value), ("ci95", curve.interval)):
            place = result.setdefault(key, {}) if key == "aopc" else result[key].setdefault("aopc", {})
            place.setdefault(interp or "random", {}).setdefault(network, {})[source] = value
    return result | describe(setup)


def _judge_accuracy(result: dict, images: Table, margin: float) -> None:
    """Put the drop of top-1 accuracy, the ratio of errors and the verdict at their places."""
    right = [images[f"top1/{name}"] for name in NETWORKS]
    drop, interval = drop_interval(right[0], right[1], clusters_of(images))
    ratio, ends = error_ratio(right[0], right[1], clusters_of(images))
    result["accuracy"] |= {
        "drop": {"top1": drop, "ci95": list(interval) if interval else None},
        "error_ratio": ratio,
        "margin": margin,
        "verdict": accuracy_verdict(interval, margin),
    }
    result["ci95"]["accuracy"]["error_ratio"] = list(ends) if ends else None


def summarise_nulls(nulls: Table, setup: Setup) -> dict:
    """Average the rows of the controls.

    Args:
        nulls: a row for each explained image.
        setup: what was compared, and how.

    Returns:
        `nulls`, the rates by interpreter and control, with their intervals under `ci95`; `n_deceptive_nulls`, how many
        images the deceptive rates are shares of; `fsr_null`, the highest FSR of a negative control, and its name.
    """
    result: dict = {}
    _put(result, dict(_of_nulls(nulls, setup)), setup.settings.seed, clusters_of(nulls))
    # The images are the same for all controls.
    counts = {
        interp: _known(nulls, setup, next(iter(controls)), interp, "deceived")
        for interp, controls in result["nulls"].items()
    }
    return result | {"n_deceptive_nulls": counts} | _highest_null(result["nulls"])


def _classes(setup: Setup) -> list[tuple[str, ...]]:
    """List the last parts of columns: the two classes of an active fooling, or nothing."""
    return [(which,) for which in PAIR] if setup.pair else [()]


def describe(setup: Setup) -> dict:
    """Say what was compared."""
    settings, pair = setup.settings, setup.pair
    described = {
        "target": "label" if pair else settings.target,
        "model": setup.model,
        "target_layer": setup.target_layer,
        "fooling": setup.fooling.name,
        "interval": list(setup.fooling.interval),
        "evaluate_with": list(setup.interpreters),
        "seed": settings.seed,
    }
    if pair:
        described["pair"] = {which: setup.data.labels[label] for which, label in zip(PAIR, pair, strict=True)}
    return described


def _of_networks(images: Table, setup: Setup) -> dict[Place, Tensor]:
    columns: dict[Place, Tensor] = {
        ("accuracy", name, key): images[f"{key}/{name}"] for name in NETWORKS for key in ("top1", "top5")
    }
    for name in NETWORKS:
        for which, label in zip(PAIR, setup.pair or (), strict=False):
            keys = ("top1", "top5") if len(setup.data.classes) > TOP else ("top1",)
            for key in keys:
                place = which if key == "top1" else f"{which}_{key}"
                columns["accuracy", name, place] = images[f"{key}/{name}"].where(images["label"] == label, torch.nan)
    return columns | {("agreement",): images["agreement"], ("kl",): images["kl"]}


def _of_maps(explained: Table, setup: Setup) -> Iterator[tuple[Place, Tensor]]:
    """Yield the columns of heatmaps with their places; for active fooling, of each of the two classes."""

    def column(name: str, *parts: str | None) -> Tensor:
        return explained["/".join([name, *filter(None, parts)])]

    for interp in setup.interpreters:
        for which in PAIR if setup.pair else (None,):
            last = (which,) if which else ()
            for key, network in (("fsr", "manipulated"), ("fsr_before", "original")):
                fooled = is_fooled(column("test_loss", interp, network, which), setup.fooling.interval)
                yield (key, interp, *last), fooled.float()
            for key, network in (("degenerate", "manipulated"), ("degenerate_before", "original")):
                yield (key, interp, *last), column("degenerate", interp, network, which)
            for network in NETWORKS:
                yield ("test_loss", interp, network, *last), column("test_loss", interp, network, which)
                if "/".join(filter(None, ("mass", interp, network, which))) in explained:
                    for key in ("pointing", "mass"):
                        yield ("box", interp, network, *last, key), column(key, interp, network, which)
            for key in similarities():
                values = column(key, interp, which)
                yield (key, interp, *last), values
                yield ("undefined", key, interp, *last), values.isnan().float()


def _of_deception(explained: Table, setup: Setup) -> Iterator[tuple[Place, Tensor]]:
    """Yield the columns that say how far heatmaps are faithful, deceived and misdirected, with their places."""
    for interp, last in product(setup.interpreters, _classes(setup)):
        deceived, misdirected = (explained.get("/".join((key, interp, *last))) for key in ("deceived", "misdirected"))
        if deceived is not None:
            loss = explained["/".join(("test_loss", interp, "manipulated", *last))]
            fooled = is_fooled(loss, setup.fooling.interval).float()
            yield ("deceptive_rate", interp, *last), deceived
            yield ("fsr_of_deceptive", interp, *last), fooled.where(~deceived.isnan(), torch.nan)
        if misdirected is not None:
            yield ("misdirected_rate", interp, *last), misdirected
        if deceived is not None:
            for network, key in product(NETWORKS, ("faithfulness", "faithful")):
                yield (key, interp, network, *last), explained["/".join((key, interp, network, *last))]
            before = explained["/".join(("faithful", interp, "original", *last))]
            yield ("faithful_before", interp, *last), (~deceived.isnan()).float().where(~before.isnan(), torch.nan)


def _of_nulls(nulls: Table, setup: Setup) -> Iterator[tuple[Place, Tensor]]:
    """Yield what each control counts as, with its place: fooled, and deceived."""
    for control, interp, last in product((*NEGATIVE, *POSITIVE), setup.interpreters, _classes(setup)):
        loss, deceived = (nulls.get("/".join((control, interp, key, *last))) for key in ("test_loss", "deceived"))
        if loss is not None and deceived is not None:
            yield ("nulls", interp, control, "fsr", *last), is_fooled(loss, setup.fooling.interval).float()
            yield ("nulls", interp, control, "deceptive_rate", *last), deceived


def _highest_null(nulls: Mapping) -> dict:
    """Find the highest success rate among the negative controls of each interpreter, and which control has it."""
    rates, names = {}, {}
    for interp, controls in nulls.items():
        found = {name: controls[name]["fsr"] for name in NEGATIVE if name in controls}
        if not found:
            continue
        if isinstance(next(iter(found.values())), Mapping):
            best = {which: max(found, key=lambda name, w=which: found[name][w]) for which in PAIR}
            rates[interp] = {which: found[name][which] for which, name in best.items()}
            names[interp] = best
        else:
            names[interp] = max(found, key=found.__getitem__)
            rates[interp] = found[names[interp]]
    return {"fsr_null": rates, "fsr_null_control": names}


def _counts(explained: Table, setup: Setup) -> dict:
    """Count the images that the deceptive and the misdirected rate are shares of, and those tested for faithfulness."""
    counts = {
        key: {interp: _known(explained, setup, name, interp) for interp in setup.interpreters}
        for name, key in (("deceived", "n_deceptive"), ("misdirected", "n_misdirected"))
        if any(column.startswith(f"{name}/") for column in explained)
    }
    return counts | {"n_images_faithfulness": min(setup.settings.faithfulness.images, len(explained["index"]))}


def _known(table: Table, setup: Setup, *parts: str) -> int | dict[str, int]:
    """Count the images that have a value in a column or, for active fooling, in those of the two classes."""
    counts = [int((~table["/".join((*parts, *last))].isnan()).sum()) for last in _classes(setup)]
    return dict(zip(PAIR, counts, strict=True)) if setup.pair else counts[0]


def _of_reach(explained: Table, setup: Setup) -> dict[Place, Tensor]:
    return dict(reach_rates(explained, list(setup.interpreters), setup.fooling.interval))


def _by_class(explained: Table, setup: Setup) -> dict[Place, Tensor]:
    labels, columns = explained["label"], {}
    for interp in setup.interpreters:
        fooled = is_fooled(explained[f"test_loss/{interp}/manipulated"], setup.fooling.interval).float()
        degenerate = explained[f"degenerate/{interp}/manipulated"]
        for c in labels.unique().tolist():
            for key, values in (("fsr_by_class", fooled), ("degenerate_by_class", degenerate)):
                columns[key, interp, setup.data.classes[c]] = values.where(labels == c, torch.nan)
    return columns


def _put(result: dict, columns: dict[Place, Tensor], seed: int, clusters: Tensor | None = None) -> None:
    """Put the means and intervals of the columns (all of the same images) at their places."""
    for (path, values), interval in zip(columns.items(), _intervals(columns, seed, clusters), strict=True):
        for place, value in ((result, _mean(values)), (result.setdefault("ci95", {}), interval)):
            for key in path[:-1]:
                place = place.setdefault(key, {})
            place[path[-1]] = value


def _intervals(columns: dict[Place, Tensor], seed: int, clusters: Tensor | None) -> Iterator[list[float] | None]:
    """Yield the bootstrap interval of each column; that of a rate of 0 or 1 is as wide as the rule of three says."""
    parts = torch.stack([c.double() for c in columns.values()], dim=1).split(AT_A_TIME, dim=1)
    places, no_rates = iter(columns), {"test_loss", "kl", "faithfulness", "frame_mass", *similarities()}
    for part in parts:
        lows, highs = bootstrap_interval(part, seed=seed, clusters=clusters)
        for values, low, high in zip(part.unbind(1), lows.tolist(), highs.tolist(), strict=True):
            place = next(places)
            if low != low or high != high:
                yield None
            elif (
                place[0] not in no_rates
                and low == high
                and low in (0, 1)
                and bool(((values == low) | values.isnan()).all())
            ):
                unseen = rule_of_three(_sources(values, clusters))
                yield [0.0, unseen] if low == 0 else [1 - unseen, 1.0]
            else:
                yield [low, high]


def _all_are(values: Tensor, value: float) -> bool:
    """Tell whether all values that are not NaN are equal to one."""
    return bool(((values == value) | values.isnan()).all())


def _sources(values: Tensor, clusters: Tensor | None) -> float:
    """Count the sources of the images with a value, divided among the sources of one image."""
    known = ~values.isnan()
    return known.sum().item() if clusters is None else len(clusters[known].unique()) / clusters.shape[1]


def _mean(values: Tensor) -> float | None:
    """Average the values that are not NaN; None where there is none (JSON has no NaN)."""
    mean = values.double().nanmean().item()
    return None if mean != mean else mean
