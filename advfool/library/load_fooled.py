"""Loads a manipulated network from the folder of a run: `advfool.load_fooled`."""

import copy
from pathlib import Path

from torch import nn

from advfool.models.base import NetworkSource
from advfool.models.weights import fit_weights, read_classes, read_weights
from advfool.utilities.config import build, read_config
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.files import CONFIG, WEIGHTS


def load_fooled(folder: str | Path, model: nn.Module | None = None) -> nn.Module:
    """Load the manipulated network of a finished run.

    Args:
        folder: of a run of the command line, or of `result.save(folder)`.
        model: a network of the same architecture, for networks of your own; a copy of it is filled with the
            manipulated weights, and it is left as it is. None: the network that the run's configuration describes is
            built.

    Returns:
        the manipulated network, in eval mode.

    Raises:
        AdvfoolError: the folder holds no finished run, or the weights do not fit.
    """
    place = Path(folder).expanduser()
    weights = place / WEIGHTS
    if not weights.is_file():
        raise AdvfoolError(f"load_fooled: expected the folder of a finished run, found no '{weights}'.")
    if model is not None:
        network = copy.deepcopy(model)
        fit_weights(network, read_weights(weights), str(weights))
        return network.eval()
    return _source(place).build(read_classes(weights) or ())


def _source(place: Path) -> NetworkSource:
    """Build what makes the network, with the manipulated weights in place of the original's."""
    path = place / CONFIG
    if not path.is_file():
        raise AdvfoolError(
            f"load_fooled: '{place}' has no {CONFIG}, which says what network it is. Give one of the same "
            "architecture: load_fooled(folder, model=network)."
        )
    config = read_config(path)
    if "model" not in config or "_target_" not in (config.model or {}):
        raise AdvfoolError(f"load_fooled: '{path}' describes no network.")
    source = build(config.model, weights=str(place / WEIGHTS))
    if not isinstance(source, NetworkSource):
        raise AdvfoolError(f"load_fooled: '{path}' describes no network, but a {type(source).__name__}.")
    return source
