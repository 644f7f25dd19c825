"""Loads a manipulated network, from the folder of a run or from the package: `advfool.load_fooled`."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from advfool.library.zoo import Which, is_name, list_fooled, shipped, unknown
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
def load_fooled(
    folder: Text | Path,
    model: nn.Module | None = None,
    allow: Text | Sequence[Text] = (),
    which: Which = "manipulated",
) -> nn.Module:
    """Load a manipulated network: one that comes with the package, or that of a run, your own or a stranger's.

    The folder of a run is read as data.

    Args:
        folder: the name of a network that comes with the package (see `list_fooled`), such as
            `"resnet_tiny-location-gradcam"`; or the folder of a run of the command line, or of `result.save(folder)`.
            A folder with the name of such a network is given as a path: `"./resnet_tiny-location-gradcam"`.
        model: a network of the same architecture, for networks of your own; a copy of it is filled with the
            manipulated weights, and it is left as it is. None: the network that the run's configuration describes is
            built.
        allow: modules of your own, or of somebody you trust, whose classes the configuration may name, e.g.
            `"my.module"`. The classes that YAML files in folders given to `register` name may be named as well.
        which: `original` gives the network before the fooling, of those that come with the package.

    Returns:
        the network, in eval mode.

    Raises:
        AdvfoolError: there is no such folder or network (the message names those that there are, or the command that
            makes it), the folder holds no finished run, a file is damaged, the weights do not fit, the configuration
            names a class that is not allowed, or a link leads out of the folder.

    >>> load_fooled("resnet_tiny-location-gradcam").fc
    Linear(in_features=64, out_features=10, bias=True)
    """
    if isinstance(folder, str) and folder in list_fooled():
        return shipped(folder, which, model)
    place = Path(folder).expanduser()
    if isinstance(folder, str) and not place.exists() and is_name(folder):
        raise unknown(folder)
    if which == "original":
        raise AdvfoolError(f"load_fooled: '{folder}' is no network of the package, and a run's folder has no original.")
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
