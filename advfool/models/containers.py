"""The state dict in what a file of weights holds: itself, or an entry of a checkpoint of Lightning, timm and others."""

import logging
from typing import Any

from torch import Tensor

from advfool.utilities.errors import AdvfoolError

log = logging.getLogger(__name__)
# Entries that hold a state dict, the first that a file has is taken; averaged weights only where there are no others.
PLAIN = ("state_dict", "model_state_dict", "model_state", "model", "network", "net", "module", "weights", "params")
AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema", "params_ema")
LIGHTNING = "network."  # where advfool's Lightning module has the network


def state_dict_in(content: Any, source: str, lightning: bool = False) -> dict[str, Tensor]:
    """Find the state dict in what was read from a file.

    Args:
        content: a state dict, or a dict with one under one of the usual names.
        source: how messages call the file.
        lightning: whether the file is a checkpoint of Lightning, whose tensors other than the network's are left out.

    Raises:
        AdvfoolError: there is no state dict, or it has entries that are no tensors; the message names them.
    """
    if not isinstance(content, dict):
        raise AdvfoolError(f"'{source}' holds {type(content).__name__}, not a state dict of tensors. {_ADVICE}")
    found = [key for key in (*PLAIN, *AVERAGED) if isinstance(content.get(key), dict) and _holds_tensors(content[key])]
    if found:
        if len(found) > 1:
            log.warning("'%s': '%s' is read; there are %s as well.", source, found[0], ", ".join(found[1:]))
        lightning = lightning or "pytorch-lightning_version" in content
        return state_dict_in(content[found[0]], source, lightning)
    wrong = {str(key): value for key, value in content.items() if not isinstance(value, Tensor)}
    wrong |= {str(key): key for key in content if not isinstance(key, str)}
    if not content or len(wrong) == len(content):
        raise AdvfoolError(
            f"'{source}' holds no tensors: expected a state dict, itself or under one of the names "
            f"{', '.join(PLAIN)}, got {_some(wrong) or 'an empty dict'}. {_ADVICE}"
        )
    if wrong:
        raise AdvfoolError(f"'{source}' has entries that are no tensors with a name: {_some(wrong)}. {_ADVICE}")
    if lightning and any(key.startswith(LIGHTNING) for key in content):
        return {key.removeprefix(LIGHTNING): value for key, value in content.items() if key.startswith(LIGHTNING)}
    return content


_ADVICE = "Save it again with torch.save(network.state_dict(), path)."


def _holds_tensors(content: dict) -> bool:
    """Tell whether a dict is a state dict, or has one under one of the usual names."""
    inner = [content[key] for key in (*PLAIN, *AVERAGED) if isinstance(content.get(key), dict)]
    return any(isinstance(value, Tensor) for value in content.values()) or any(map(_holds_tensors, inner))


def _some(entries: dict[str, Any], limit: int = 5) -> str:
    listed = [f"{key} ({type(value).__name__})" for key, value in list(entries.items())[:limit]]
    return ", ".join(listed) + (", ..." if len(entries) > limit else "")
