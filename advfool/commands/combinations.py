"""Refuse settings that are each possible, but contradict each other."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

from advfool.commands.objectives import check_objective
from advfool.utilities.config import as_config, build, names_in
from advfool.utilities.errors import AdvfoolError, nearest
from advfool.utilities.runtime import quieten

CHECKPOINTS = (
    "advfool.training.checkpoints.BestCheckpoint",
    "advfool.training.checkpoints.LastCheckpoint",
    "pytorch_lightning.callbacks.ModelCheckpoint",
)
MOVES_IMAGES = "advfool.training.adversarial.FreeAdversarialTraining"
USUAL = {"accelerator": ("cpu",), "devices": (1,), "strategy": ("auto",), "precision": ("32-true", None)}
Tree = Mapping[str, Any]  # the resolved configuration


def check_combinations(tree: Tree) -> None:
    """Check the settings of a training or of an evaluation with each other.

    Args:
        tree: the resolved configuration, whose values are each possible.

    Raises:
        AdvfoolError: settings contradict each other; the message names them and says what to do.
    """
    if "select" in tree and "callbacks" in tree and "interp" in tree:
        _check_checkpoint(tree)
        _check_monitors(tree)
        _check_schedule(tree)
        _check_attack(tree)
        _check_interpreters(tree)
    _check_classes(tree)
    if not tree.get("run"):  # of which an evaluation takes what is measured
        check_objective(tree["objective"], tree["faithfulness"]["images"])
    if tree.get("paper") is not None and tree["paper"] not in names_in("experiment"):
        near = nearest(tree["paper"], names_in("experiment"), 3)
        raise AdvfoolError(f"paper must be a table or figure of the paper, got '{tree['paper']}'. Close to it: {near}.")
    _check_trainer(tree)


def _checkpoints(tree: Tree) -> Iterator[tuple[str, Tree]]:
    for name, callback in (tree["callbacks"] or {}).items():
        if callback and callback["_target_"] in CHECKPOINTS:
            yield name, callback


def _check_checkpoint(tree: Tree) -> None:
    off = tree["trainer"].get("enable_checkpointing") is False
    if off and any(_checkpoints(tree)):
        raise AdvfoolError(
            "trainer.enable_checkpointing=false contradicts the callbacks that save checkpoints: give "
            "callbacks.checkpoint=null callbacks.last=null select=last as well."
        )
    places = [(node.get("dirpath"), node.get("filename")) for _, node in _checkpoints(tree)]
    if len(set(places)) < len(places):
        raise AdvfoolError(
            f"Two checkpoints have the same file, {places[0][1]}: give one another name, callbacks.last.filename=last."
        )
    if tree["select"] == "best":
        first = next(_checkpoints(tree), None)  # the one that Lightning asks for the best
        if first is not None and first[1].get("save_top_k") == 0:
            raise AdvfoolError(
                f"select=best needs the checkpoint of the best validation, but callbacks.{first[0]}.save_top_k=0 saves "
                "none. Use select=last, or 1."
            )
        if first is None or first[1].get("monitor") is None:
            lacks = (
                "callbacks.checkpoint" if first is None or first[0] != "checkpoint" else "callbacks.checkpoint.monitor"
            )
            raise AdvfoolError(
                f"select=best needs the checkpoint of the best validation, but {lacks} is null. Use select=last, or "
                "leave the checkpoint."
            )


def _check_monitors(tree: Tree) -> None:
    """Refuse a monitored value that no validation logs."""
    name = tree["interp"].get("name", "")
    known = ["val/score", "val/top1", *(f"val/{kind}/{name}" for kind in ("fsr", "test_loss", "degenerate"))]
    maps = [name, *(tree.get("interpreters") or {})]
    known += [f"val/{kind}/{each}" for kind in ("fsr", "spearman", "aopc") for each in maps]
    for key, callback in (tree["callbacks"] or {}).items():
        monitor = (callback or {}).get("monitor")
        if monitor is not None and monitor not in known and not str(monitor).startswith("train/"):
            raise AdvfoolError(
                f"callbacks.{key}.monitor must be a value of the validations, got '{monitor}'. Close to it: "
                f"{nearest(str(monitor), list(dict.fromkeys(known)), 3)}."
            )


def _check_schedule(tree: Tree) -> None:
    steps, schedule = tree["trainer"].get("max_steps"), tree["scheduler"] or {}
    least = tree["trainer"].get("min_steps")
    if least is not None and steps is not None and least > steps:
        raise AdvfoolError(f"trainer.min_steps={least} contradicts trainer.max_steps={steps}. Use at most as many.")
    planned = schedule.get("total_steps")
    if planned is not None and steps is not None and planned < steps:
        raise AdvfoolError(
            f"scheduler.total_steps={planned} ends before the training, trainer.max_steps={steps}: the schedule has no "
            "learning rate for the other steps. Give as many."
        )


def _check_attack(tree: Tree) -> None:
    """Refuse what contradicts a training on images that move."""
    moves = any(node and node["_target_"] == MOVES_IMAGES for node in (tree["callbacks"] or {}).values())
    if moves and tree["cache_original"]:
        raise AdvfoolError(
            "cache_original=true contradicts attack=free, which moves the training images: nothing that the original "
            "network says of them can be cached. Use cache_original=false."
        )
    if moves and tree["mix"]:
        raise AdvfoolError(f"mix={tree['mix']} contradicts attack=free, which cannot move blended images. Use mix=0.")


def _check_interpreters(tree: Tree) -> None:
    """Refuse settings for the interpreter that is trained with: it is measured as it is trained with."""
    trained = tree["interp"].get("name")
    for entry in tree.get("evaluate_with") or ():
        settings = entry.get(trained) if isinstance(entry, Mapping) else None
        if settings:
            given = " ".join(f"interp.{key}={value}" for key, value in settings.items())
            raise AdvfoolError(
                f"evaluate_with: {trained} is the interpreter trained with, which is measured with the settings of "
                f"interp. Give them there, {given}, or another name to this one."
            )


def _check_classes(tree: Tree) -> None:
    fooling = tree.get("fooling") or {}
    pair = [fooling.get("c1"), fooling.get("c2")]
    if pair[0] is not None and str(pair[0]) == str(pair[1]):
        raise AdvfoolError(f"fooling.c1 and fooling.c2 must be two different classes, got {pair}.")


def _check_trainer(tree: Tree) -> None:
    """Let Lightning look at devices, strategy and precision, where they are not the usual ones."""
    trainer = tree["trainer"]
    unusual = any(trainer.get(key, usual[0]) not in usual for key, usual in USUAL.items())
    if unusual and "LOCAL_RANK" not in os.environ and "SLURM_PROCID" not in os.environ:
        given = ", ".join(f"trainer.{key}={trainer[key]}" for key in USUAL if key in trainer)
        quieten()
        try:
            build(as_config(trainer), callbacks=[], logger=False)
        except AdvfoolError as error:
            raise AdvfoolError(f"{error} ({given})") from None
