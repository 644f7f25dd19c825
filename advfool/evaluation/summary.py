"""From one row for each image to rates: the part of metrics.json that comes from the images."""

from collections.abc import Iterator, Mapping
from itertools import product

import torch
from torch import Tensor

from advfool.evaluation.comparison import Results, similarities
from advfool.evaluation.controls import NEGATIVE, POSITIVE
from advfool.evaluation.paired import NETWORKS, PAIR
from advfool.evaluation.reach import reach_rates
from advfool.evaluation.rows import Table
from advfool.evaluation.setup import Setup
from advfool.metrics.functional import bootstrap_interval, is_fooled, paired_interval

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
        over the images. `accuracy.drop.top1` is the original's accuracy less the manipulated network's on the same
        images, with its paired 95 % interval.
    """
    images, explained, seed = results.images, results.explained, setup.settings.seed
    result: dict = {}
    of_maps = dict(_of_maps(explained, setup)) | dict(_of_deception(explained, setup)) | _of_reach(explained, setup)
    for rates in (_of_networks(images, setup), of_maps):
        _put(result, rates, seed)
    drop, interval = paired_interval(images["top1/original"], images["top1/manipulated"])
    result["accuracy"]["drop"] = {"top1": drop, "ci95": list(interval) if interval else None}
    result |= {"n_images": len(images["index"]), "n_images_fsr": len(explained["index"])}
    result |= _counts(explained, setup)
    if results.nulls:
        _put(result, dict(_of_nulls(results.nulls, setup)), seed)
        result |= _highest_null(result["nulls"])
    if setup.pair is None:
        _put(result, _by_class(explained, setup), seed)
    for (interp, network, source), curve in results.aopc.items():
        for key, value in (("aopc", curve.value), ("ci95", curve.interval)):
            place = result.setdefault(key, {}) if key == "aopc" else result[key].setdefault("aopc", {})
            place.setdefault(interp or "random", {}).setdefault(network, {})[source] = value
    return result | _description(setup)


def _description(setup: Setup) -> dict:
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
    for interp in setup.interpreters:
        for which in PAIR if setup.pair else (None,):
            last = (which,) if which else ()

            def column(name: str, network: str = "", interp=interp, last=last) -> Tensor | None:
                return explained.get("/".join([name, *filter(None, (interp, network)), *last]))

            fooled = is_fooled(explained["/".join(["test_loss", interp, "manipulated", *last])], setup.fooling.interval)
            for key, rate, same in (("deceived", "deceptive_rate", "fsr_of_deceptive"), ("misdirected", None, None)):
                values = column(key)
                if values is None:
                    continue
                yield (rate or f"{key}_rate", interp, *last), values
                if same:
                    yield (same, interp, *last), fooled.float().where(~values.isnan(), torch.nan)
            for network in NETWORKS:
                for key in ("faithfulness", "faithful"):
                    values = column(key, network)
                    if values is not None:
                        yield (key, interp, network, *last), values
            deceived, before = column("deceived"), column("faithful", "original")
            if deceived is not None and before is not None:
                yield ("faithful_before", interp, *last), (~deceived.isnan()).float().where(~before.isnan(), torch.nan)


def _of_nulls(nulls: Table, setup: Setup) -> Iterator[tuple[Place, Tensor]]:
    """Yield what each control counts as, with its place: fooled, and deceived."""
    for control, interp in product((*NEGATIVE, *POSITIVE), setup.interpreters):
        for which in PAIR if setup.pair else (None,):
            last = (which,) if which else ()
            loss, deceived = (nulls.get("/".join([control, interp, key, *last])) for key in ("test_loss", "deceived"))
            if loss is None or deceived is None:
                continue
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
    result: dict = {}
    for interp in setup.interpreters:
        for name, key in (("deceived", "n_deceptive"), ("misdirected", "n_misdirected")):
            for which in PAIR if setup.pair else (None,):
                values = explained.get("/".join(filter(None, (name, interp, which))))
                if values is None:
                    continue
                count = int((~values.isnan()).sum())
                place = result.setdefault(key, {})
                if which:
                    place.setdefault(interp, {})[which] = count
                else:
                    place[interp] = count
    tested = min(setup.settings.faithfulness.images, len(explained["index"]))
    return result | {"n_images_faithfulness": tested}


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


def _put(result: dict, columns: dict[Place, Tensor], seed: int) -> None:
    """Put the means and intervals of the columns (all of the same images) at their places."""
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
    """Average the values that are not NaN; None where there is none (JSON has no NaN)."""
    mean = values.double().nanmean().item()
    return None if mean != mean else mean
