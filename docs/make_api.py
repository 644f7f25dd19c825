"""`python docs/make_api.py`: writes docs/api.md, every public name with its signature and what it is in a sentence."""

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import is_dataclass
from importlib import import_module
from pathlib import Path

PAGE = Path(__file__).with_name("api.md")
MODULES = {  # module: its public names; None: those in its __all__, or all functions and classes that it defines
    "advfool": None,
    "advfool.interpreters": None,
    "advfool.interpreters.base": ("LayerInterpreter", "read_maps"),
    "advfool.interpreters.tracing.recording": ("record", "Recording"),
    "advfool.foolings": None,
    "advfool.training.preserve": None,
    "advfool.training.module": None,
    "advfool.evaluation.comparison": None,
    "advfool.metrics": None,
    "advfool.data": None,
    "advfool.models": None,
    "advfool.evaluation.noise": None,
    "advfool.attacks": None,
    "advfool.reporting.runs": None,
    "advfool.reporting.paper": None,
    "advfool.reporting.paper.networks": ("open_run",),
    "advfool.report": None,
    "advfool.utilities.errors": ("AdvfoolError", "Diverged"),
}
HEAD = """# Public interface

Written by `python docs/make_api.py` from the signatures and docstrings; `help(NAME)` has the rest. Arrays are
annotated by jaxtyping: `Float[Tensor, "n h w"]` is a floating-point tensor of three dimensions, `*n` any number of
them. The commands are `python -m advfool.train`, `evaluate`, `report`, `gallery` and `pretrain`, each with `--help`.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for name, names in MODULES.items():
        module = import_module(name)
        entries = [entry(each, getattr(module, each)) for each in names or public_names(module)]
        parts.append(f"## `{name}`\n\n{inspect.getdoc(module).splitlines()[0]}\n\n" + "\n".join(entries) + "\n")
    return "\n".join(parts)


def public_names(module) -> list[str]:
    """Those in `__all__`, or the functions and classes that the module defines; `main` is its command."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__, key=str.lower)
    own = {name: value for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__}
    found = [name for name, value in own.items() if inspect.isclass(value) or inspect.isfunction(value)]
    return sorted((name for name in found if not name.startswith("_") and name != "main"), key=str.lower)


def entry(name: str, value) -> str:
    """An item of the list: the signature, and below it the first sentence of the docstring."""
    return f"- `{name}{signature(value)}`<br>\n  {first_sentence(value)}"


def signature(value) -> str:
    """The signature with annotations as they are in the source."""
    found = inspect.signature(value)
    texts = _class_annotations(value) if inspect.isclass(value) else _function_annotations(value)
    parts, star = [], False
    for name, parameter in found.parameters.items():
        if name.startswith("_"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            parts.append("*")
        star = star or parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        mark = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        text = mark + name + (f": {texts[name]}" if name in texts else "")
        if parameter.default is not parameter.empty:
            text += (" = " if name in texts else "=") + _as_text(parameter.default)
        parts.append(text)
    end = f" -> {texts['return']}" if "return" in texts and not inspect.isclass(value) else ""
    return f"({', '.join(parts)}){end}"


def first_sentence(value) -> str:
    """The docstring up to the end of its first sentence, on one line."""
    paragraph = " ".join(inspect.getdoc(value).split("\n\n")[0].split())
    return re.split(r"(?<=\.)\s+(?=[A-Z`])", paragraph)[0]


def _as_text(default) -> str:
    if is_dataclass(default):
        return f"{type(default).__name__}()"
    text = repr(default)
    return "..." if text.startswith("<") else text.replace("'", '"')  # <factory>: made anew for each object


def _function_annotations(function) -> dict[str, str]:
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(function)))
    node = ast.parse(source).body[0]
    return _of_node(node, source)


def _class_annotations(kind: type) -> dict[str, str]:
    """Of the constructor: of the nearest `__init__` that is written out, or of the fields of all ancestors."""
    texts: dict[str, str] = {}
    for ancestor in reversed(kind.__mro__):
        if not ancestor.__module__.startswith("advfool"):
            continue
        source = textwrap.dedent(inspect.getsource(ancestor))
        for node in ast.parse(source).body[0].body:
            if isinstance(node, ast.AnnAssign):
                texts[node.target.id] = _segment(source, node.annotation)
            elif isinstance(node, ast.FunctionDef) and node.name == "__init__":
                texts |= _of_node(node, source)
    return texts


def _of_node(node: ast.FunctionDef, source: str) -> dict[str, str]:
    texts = {each.arg: _segment(source, each.annotation) for each in _arguments(node) if each.annotation}
    return texts | ({"return": _segment(source, node.returns)} if node.returns else {})


def _arguments(node: ast.FunctionDef) -> Iterator[ast.arg]:
    given = node.args
    yield from (*given.posonlyargs, *given.args, *given.kwonlyargs)
    yield from (argument for argument in (given.vararg, given.kwarg) if argument)


def _segment(source: str, node: ast.expr) -> str:
    return " ".join(ast.get_source_segment(source, node).split())


if __name__ == "__main__":
    sys.path.insert(0, str(PAGE.parents[1]))  # this checkout, whatever is installed
    (Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE).write_text(page())
