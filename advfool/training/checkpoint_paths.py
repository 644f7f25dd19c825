"""The paths that a checkpoint names: a resumed training reads and removes no files elsewhere."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer

from advfool.utilities.errors import AdvfoolError


def check_paths(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Raise an AdvfoolError where the callbacks' states in a checkpoint name files outside of their folder.

    Lightning removes the checkpoints that a state names when better ones are written, and reads the best one.

    Args:
        checkpoint: its content.
        path: of its file.
    """
    states = checkpoint.get("callbacks")
    for state in states.values() if isinstance(states, Mapping) else ():
        if isinstance(state, Mapping):
            folder = state.get("dirpath")
            for named in _named(state):
                parts = Path(named).parts
                if ".." in parts or "://" in named or (folder is not None and str(Path(named).parent) != str(folder)):
                    raise AdvfoolError(
                        f"resume: '{path}' names the checkpoint '{named}', which does not lie in the folder of the "
                        f"others, '{folder}': expected a checkpoint that advfool has written. Start the run anew."
                    )


def best_checkpoint(trainer: Trainer, resumed: Path | None) -> Path | None:
    """Return the path of the best checkpoint; None where there was no validation.

    Args:
        trainer: after the training.
        resumed: the checkpoint that the training was resumed from; None: from none.
    """
    callback: Any = trainer.checkpoint_callback
    if not callback or not callback.best_model_path:
        return None
    best = Path(callback.best_model_path)
    if resumed is not None and best.parent.resolve() != Path(callback.dirpath or best.parent).resolve():
        return resumed.parent / best.name  # of the run that was resumed, wherever its folder was at that time
    return best


def _named(state: Mapping[str, Any]) -> Iterator[str]:
    """Yield the paths of checkpoints in the state of a callback."""
    for key, value in state.items():
        if str(key).endswith("_model_path") and value:
            yield str(value)
        elif key == "best_k_models" and isinstance(value, Mapping):
            yield from map(str, value)
