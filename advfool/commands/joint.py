"""Lists of interpreters on the command line: `interp=[gradcam,lrp_t]` attacks both at once.

Hydra would merge the files of such a list, so that the last one hides the others. Each list becomes one choice,
`interp=gradcam+lrp_t`, whose node is the first interpreter's and which names the others in `also`.
"""

import re
from collections.abc import Sequence

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from advfool.evaluation.setup import JOINT
from advfool.utilities.config import names_in
from advfool.utilities.errors import AdvfoolError, nearest

KEY = "interp="
_CHOICES = re.compile(r"\[[^\[\]]*\]|[^,\[\]]+")


def joint_name(first: str, others: Sequence) -> str:
    """Join the names of interpreters that are attacked at once; entries may be `{NAME: {SETTING: VALUE}}`."""
    names = [name for entry in others for name in ([entry] if isinstance(entry, str) else entry)]
    return JOINT.join([first, *names])


OmegaConf.register_new_resolver("joint_name", joint_name, replace=True)


def with_joint_choices(arguments: Sequence[str], command: str) -> list[str]:
    """Turn lists of interpreters into choices that Hydra knows.

    Args:
        arguments: of the command line.
        command: its name; only a training attacks several interpreters.

    Raises:
        AdvfoolError: a list is empty, has a name twice, or one that does not exist.
    """
    return [_translated(each) if command == "train" and each.startswith(KEY) else each for each in arguments]


def _translated(argument: str) -> str:
    value = argument.removeprefix(KEY)
    if "[" not in value and JOINT not in value:
        return argument
    return KEY + ",".join(_choice(choice.strip()) for choice in _CHOICES.findall(value))


def _choice(text: str) -> str:
    if not text.startswith("[") and JOINT not in text:
        return text
    names = [name.strip(" '\"") for name in re.split(r"[,+]", text.strip("[]"))]
    if names == [""]:
        raise AdvfoolError("interp=[]: expected the names of interpreters to attack at once: interp=[gradcam,lrp_t].")
    known = names_in("interp")
    for name in names:
        if name not in known:
            raise AdvfoolError(f"There is no interp '{name}'. Close to it: {nearest(name, known, 3)}.")
        if names.count(name) > 1:
            raise AdvfoolError(f"interp=[{','.join(names)}]: '{name}' is given twice. Expected different interpreters.")
    if len(names) > 1:
        node = {"defaults": [f"/interp/{names[0]}@interp", "_self_"], "also": names[1:]}
        ConfigStore.instance().store(JOINT.join(names), node, "interp", "_global_")
    return JOINT.join(names)
