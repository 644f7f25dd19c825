"""Interpreters, foolings and networks by the names of the command line."""

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from advfool.data.samples import InputFormat
from advfool.foolings.base import Fooling
from advfool.interpreters.base import Interpreter
from advfool.models.target_layers import find_target_layer
from advfool.utilities.checking import checked
from advfool.utilities.config import build_named, named_config, names_in
from advfool.utilities.errors import AdvfoolError


@checked
def list_interpreters(pattern: str = "*") -> list[str]:
    """List the names of the interpreters, for `interp=` and `interpreters=`.

    Args:
        pattern: keeps the names that match it; `*` and `?` are wildcards.
    """
    return names_in("interp", pattern)


@checked
def list_foolings(pattern: str = "*") -> list[str]:
    """List the names of the foolings, for `fooling=`.

    Args:
        pattern: keeps the names that match it; `*` and `?` are wildcards.
    """
    return names_in("fooling", pattern)


@checked
def list_models(pattern: str = "*") -> list[str]:
    """List the names of the networks of the command line, for `model=`.

    Args:
        pattern: keeps the names that match it; `*` and `?` are wildcards.
    """
    return names_in("model", pattern)


def named_interpreter(
    interp: str,
    network: nn.Module,
    shape: Sequence[int],
    input: InputFormat | None = None,
    layer: str | None = None,
    **settings: object,
) -> Interpreter:
    """Build an interpreter by its name on the command line.

    Args:
        interp: the name.
        network: whose target layer is found where the interpreter has one and no `layer` is given.
        shape: (channels, height, width) of the images.
        input: how the network's images are normalised, for the interpreters that need the range of pixels.
        layer: the target layer of the interpreters that have one; of the others, the layer to explain.
        settings: values in place of those in conf/interp/NAME.yaml.

    Raises:
        AdvfoolError: there is no such interpreter or setting, or the network has no such layer.
    """
    node, layout = named_config("interp", interp), settings.pop("layout", None)
    model: dict[str, object] = {"target_layer": None, "layout": layout or "nchw", "input": {"mean": None, "std": None}}
    if input is not None:
        model["input"] = {"mean": list(input.mean), "std": list(input.std)}
    if "model.target_layer" in str(node):
        found, found_layout = find_target_layer(network, shape, layer)
        model |= {"target_layer": found, "layout": layout or found_layout}
    elif layer is not None:
        settings["layer"] = layer
    return build_named("interp", interp, {"model": model}, **settings)


def chosen_interpreters(
    entries: Sequence[str | Interpreter], network: nn.Module, shape: Sequence[int], layer: str | None = None
) -> dict[str, Interpreter]:
    """Build several interpreters, given by name or as objects.

    Args:
        entries: names on the command line, or objects.
        network: what they explain.
        shape: (channels, height, width) of the images.
        layer: the target layer of those given by name that have one; None: found.

    Returns:
        the interpreters by name; an object without a name has that of its class in lower case.

    Raises:
        AdvfoolError: one does not exist, or two have the same name.
    """
    found: dict[str, Interpreter] = {}
    for entry in entries:
        if isinstance(entry, str):
            interpreter = named_interpreter(entry, network, shape, layer=_layer_for(entry, layer))
        elif isinstance(entry, Interpreter):
            interpreter = entry
        else:
            raise AdvfoolError(f"interpreters: expected names or Interpreter objects, got {entry!r}.")
        name = interpreter.name or type(interpreter).__name__.lower()
        if name in found:
            raise AdvfoolError(f"interpreters: two have the name '{name}'. Give one another name: name=...")
        found[name] = replace(interpreter, name=name)
    return found


def _layer_for(interp: str, layer: str | None) -> str | None:
    """Return the layer for interpreters at a target layer; those at the images keep explaining the images."""
    return layer if "model.target_layer" in str(named_config("interp", interp)) else None


def chosen_fooling(fooling: str | Fooling, **settings: object) -> Fooling:
    """Build a fooling, given by name or as an object.

    Args:
        fooling: a name on the command line, or an object, which is returned as it is.
        settings: values in place of those in conf/fooling/NAME.yaml.

    Raises:
        AdvfoolError: there is no such fooling or setting.
    """
    if isinstance(fooling, Fooling):
        return fooling
    return build_named("fooling", fooling, {}, **settings)
