"""Loads a manipulated network from the folder of a run: `advfool.load_fooled`."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from advfool.models.base import NetworkSource
from advfool.models.weights import fit_weights, read_classes, read_weights
from advfool.utilities.checking import checked
from advfool.utilities.config import as_config, build, own_config_dirs
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.files import CONFIG, WEIGHTS
from advfool.utilities.kinds import Text
from advfool.utilities.modules import copied
from advfool.utilities.stored import stored_file, stored_yaml
from advfool.utilities.trust import Trust, named_in


@checked
def load_fooled(folder: Text | Path, model: nn.Module | None = None, allow: Text | Sequence[Text] = ()) -> nn.Module:
    """Load the manipulated network of a finished run, of your own or of a stranger: the folder is read as data.

    Args:
        folder: of a run of the command line, or of `result.save(folder)`.
        model: a network of the same architecture, for networks of your own; a copy of it is filled with the
            manipulated weights, and it is left as it is. None: the network that the run's configuration describes is
            built.
        allow: modules of your own, or of somebody you trust, whose classes the configuration may name, e.g.
            `"my.module"`. The classes that YAML files in folders given to `register` name may be named as well.

    Returns:
        the manipulated network, in eval mode.

    Raises:
        AdvfoolError: the folder holds no finished run, the weights do not fit, the configuration names a class that is
            not allowed, or a link leads out of the folder.
    """
    place = Path(folder).expanduser()
    weights = place / WEIGHTS
    if not weights.is_file():
        raise AdvfoolError(f"load_fooled: expected the folder of a finished run, found no '{weights}'.")
    weights = stored_file(place, WEIGHTS)
    if model is not None:
        network = copied(model)
        fit_weights(network, read_weights(weights), str(weights))
        return network.eval()
    return _source(place, allow).build(read_classes(weights) or ())


def _source(place: Path, allow: str | Sequence[str]) -> NetworkSource:
    """Build what makes the network, with the manipulated weights in place of the original's."""
    path = place / CONFIG
    if not path.is_file():
        raise AdvfoolError(
            f"load_fooled: '{place}' has no {CONFIG}, which says what network it is. Give one of the same "
            "architecture: load_fooled(folder, model=network)."
        )
    model = stored_yaml(place, CONFIG).get("model")
    if not isinstance(model, dict) or "_target_" not in model:
        raise AdvfoolError(f"load_fooled: '{path}' describes no network.")
    model["weights"] = None
    Trust((place,), allow, named_in(own_config_dirs())).check({"model": model}, "load_fooled")
    source = build(as_config(model), weights=str(place / WEIGHTS))
    if not isinstance(source, NetworkSource):
        raise AdvfoolError(f"load_fooled: '{path}' describes no network, but a {type(source).__name__}.")
    return source
