"""Keeps the finished attacks of an unfinished audit, so that an interrupted one repeats only the attack it was in."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from advfool.auditing.attack import Attempt, with_weights
from advfool.auditing.suite import Trial
from advfool.auditing.watch import State, Visit
from advfool.utilities.files import read_json, write_json
from advfool.utilities.text import file_name


class KeptAttempts:
    """The finished attacks of an audit, in a folder.

    Args:
        folder: where they are.
        key: what they depend on; those with another one are not read.
        original: the network that is attacked.
        top1: the budget of the audit.
    """

    def __init__(self, folder: Path, key: str, original: nn.Module, top1: float) -> None:
        self.folder, self.key, self.original, self.top1 = folder, key, original, top1

    def save(self, interp: str, number: int, attempt: Attempt) -> None:
        """Write an attack, its weights first.

        Args:
            interp: name of the interpreter.
            number: of the trial.
            attempt: what it left.
        """
        path = self._path(interp, number)
        self.folder.mkdir(parents=True, exist_ok=True)
        states = list({id(state): state for state in attempt.best.values()}.values())
        places = {id(state): place for place, state in enumerate(states)}
        values = {
            f"{place}/{name}": value.clone(memory_format=torch.contiguous_format)
            for place, state in enumerate(states)
            for name, value in state.items()
        }
        save_file(values, path.with_suffix(".safetensors"))
        told = {
            "about": self.key,
            "trial": asdict(attempt.trial),
            "selection": attempt.selection,
            "visits": [asdict(visit) for visit in attempt.visits],
            "best": [[budget, places[id(state)]] for budget, state in attempt.best.items()],
            "fooled": attempt.network is not None,
            "outcome": attempt.outcome,
            "seconds": attempt.seconds,
        }
        write_json(path, told)

    def load(self, interp: str, number: int, trial: Trial) -> Attempt | None:
        """Read an attack; None where it is not there, damaged, or of another audit.

        Args:
            interp: name of the interpreter.
            number: of the trial.
            trial: what the attack has to be.
        """
        path = self._path(interp, number)
        told = read_json(path)
        if not isinstance(told, dict) or told.get("about") != self.key or told.get("trial") != asdict(trial):
            return None
        try:
            return self._read(told, load_file(path.with_suffix(".safetensors")), trial)
        except Exception:  # damaged: done again
            return None

    def _read(self, told: dict[str, Any], values: State, trial: Trial) -> Attempt:
        states: dict[str, State] = {}
        for key, value in values.items():
            place, name = key.split("/", 1)
            states.setdefault(place, {})[name] = value
        best = {budget: states[str(place)] for budget, place in told["best"]}
        network = with_weights(self.original, best[self.top1]) if told["fooled"] else None
        visits = [Visit(**visit) for visit in told["visits"]]
        return Attempt(trial, network, told["selection"], visits, best, told["outcome"], told["seconds"])

    def _path(self, interp: str, number: int) -> Path:
        return self.folder / f"{file_name(interp)}-trial-{number}.json"
