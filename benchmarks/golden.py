"""Compares short trainings of the working tree with those of another commit: nothing may differ, to the last digit.

For changes that move or rename code. The runs of the other commit stay in .golden/COMMIT/ and are made once; those of
the working tree are made anew, with their pretraining, in .golden/work/. One more training, on photos, joins in where
ADVFOOL_PHOTOS names a folder of class folders. Do not edit the working tree meanwhile.

    python benchmarks/golden.py 12f793b [--allow-added]

Exit code 0: nothing differs; 1: something does; 2: a training failed, or there is no such commit.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[1]
THREADS = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}  # two decide the last digits; none waits by spinning
FILES = ("metrics.json", "manipulated.safetensors")
STEPS = ["seed=0", "trainer.max_steps=60", "trainer.val_check_interval=30", "callbacks.progress=null", "pictures=2"]
DIGITS = [*STEPS, "data.limit_train=1024", "data.limit_val=100", "data.limit_test=200", "aopc.images=16"]
PHOTOS = [*STEPS, "data.limit_train=64", "data.limit_val=8", "data.limit_test=16", "data.batch_size=8"]
RUNS = {  # interpreter and fooling
    "gradcam-location": "model=resnet_tiny evaluate_with=[gradcam,lrp_t,simplegrad_t]",
    "lrp_t-topk": "model=vgg_tiny evaluate_with=[lrp_t,gradcam_pp,layercam,hirescam]",
    "lrp-center_mass": "model=resnet_tiny fool_weight=0.1 evaluate_with=[lrp,simplegrad,ig_t]",
    "gradcam-active": "model=densenet_tiny evaluate_with=[gradcam,lrp_t,lrp]",
    "smoothgrad-location": "model=vgg_tiny data.batch_size=8 evaluate_with=[smoothgrad,guided_backprop,captum,zennit]",
}
IGNORED = re.compile(r"(^|[._])(seconds|threads|device|host|machine|platform|python|versions?|commit)([._]|$)")


def trainings() -> dict[str, list[str]]:
    """Returns the overrides of each training, by its name."""
    pair = "interp={} fooling={}"
    runs = {name: [*pair.format(*name.split("-")).split(), *RUNS[name].split(), *DIGITS] for name in RUNS}
    if photos := os.environ.get("ADVFOOL_PHOTOS"):
        if not Path(photos).is_dir():
            fail(f"ADVFOOL_PHOTOS: there is no folder '{photos}'.")
        runs["photos"] = ["experiment=real_photos", f"data.root='{Path(photos).resolve()}'", *PHOTOS]
    return runs


def run_base(commit: str) -> Path:
    """Makes the runs of a commit that are not there yet, in a worktree that is removed again; returns their folder."""
    folder = ROOT / ".golden" / commit
    prepare(folder)
    runs = trainings()
    missing = {name: runs[name] for name in runs if text(folder / name / "golden.json") != json.dumps(runs[name])}
    print(f"{commit[:7]}: {len(runs) - len(missing)} runs are there, {len(missing)} to be made", flush=True)
    if missing:
        with worktree(folder / "tree", commit) as tree:
            check_import(tree, folder)
            for name, settings in missing.items():
                train(tree, folder, name, settings)
    return folder


def compare_working_tree(base: Path, allow_added: bool) -> bool:
    """Makes each run in the working tree and compares it with the base's; returns whether all are equal."""
    folder = ROOT / ".golden" / "work"
    shutil.rmtree(folder, ignore_errors=True)
    prepare(folder)
    check_import(ROOT, folder)
    equal = True
    for name, settings in trainings().items():
        train(ROOT, folder, name, settings)
        equal &= compare(name, base / name, folder / name, allow_added)
    return equal


def prepare(folder: Path) -> None:
    """Makes the folder, and empties it first where its runs were made by another machine or torch."""
    made_by = {"cpu": torch.backends.cpu.get_cpu_capability(), "torch": torch.__version__, "python": sys.version}
    machine = json.dumps(THREADS | made_by | {"machine": os.uname().machine}, indent=2)
    if text(folder / "machine.json") != machine:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "machine.json").write_text(machine)


def text(file: Path) -> str:
    """Returns what is in a file; nothing where there is none."""
    return file.read_text() if file.is_file() else ""


def train(tree: Path, folder: Path, name: str, settings: list[str]) -> None:
    """Trains with the code of a tree; what the training prints goes to a file beside its folder."""
    run, log, started = folder / name, folder / f"{name}.log", time.perf_counter()
    shutil.rmtree(run, ignore_errors=True)
    done = python(tree, folder, "-m", "advfool.train", *settings, f"hydra.run.dir='{run}'")
    log.write_text(done.stdout)
    if done.returncode or not all((run / file).is_file() for file in FILES):
        last = done.stdout.strip().rpartition("\n")[2]
        fail(f"{folder.name[:7]}: {name} ended with exit code {done.returncode}: {last} (all of it: {log})")
    (run / "golden.json").write_text(json.dumps(settings))
    print(f"{folder.name[:7]}: {name} took {time.perf_counter() - started:.0f} s", flush=True)


def python(tree: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Runs a process that imports advfool from the tree and keeps its cache in the folder."""
    env = {"PYTHONPATH": str(tree), "ADVFOOL_CACHE": str(folder / "cache"), "HYDRA_FULL_ERROR": "1"}
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.run([sys.executable, *arguments], cwd=tree, env=os.environ | THREADS | env, check=False, **both)


def check_import(tree: Path, folder: Path) -> None:
    """Ends the comparison where a process in the tree imports another advfool, an installed one for example."""
    found = python(tree, folder, "-c", "import advfool; print(advfool.__file__)").stdout.strip().rpartition("\n")[2]
    if Path(found) != tree / "advfool" / "__init__.py":
        fail(f"Expected advfool to be imported from '{tree}', got: {found}")


@contextmanager
def worktree(tree: Path, commit: str) -> Iterator[Path]:
    """Checks a commit out into a folder of its own, which is removed at the end, also of a failure."""
    shutil.rmtree(tree, ignore_errors=True)  # what a run that was killed has left
    git("worktree", "prune")
    git("worktree", "add", "--detach", str(tree), commit)
    try:
        yield tree
    finally:
        git("worktree", "remove", "--force", str(tree))


def git(*arguments: str, problem: str = "") -> str:
    """Returns what a git command prints; where it fails, ends the comparison with `problem` or git's last words."""
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        fail(problem or f"git {' '.join(arguments)}: {done.stderr.strip().rpartition(chr(10))[2]}")
    return done.stdout.strip()


def compare(name: str, base: Path, work: Path, allow_added: bool) -> bool:
    """Prints what differs between two runs; returns whether nothing does."""
    same_keys, keys = differences(*(dict(flat(json.loads((run / FILES[0]).read_text()))) for run in (base, work)))
    same_tensors, tensors = differences(*(load_file(run / FILES[1]) for run in (base, work)))
    lines = keys + [f"tensor {line}" for line in tensors]
    print(f"{name}: {same_keys} keys equal, {same_tensors} tensors equal" + (f", {len(lines)} differ" if lines else ""))
    print("".join(f"  {line}\n" for line in lines), end="", flush=True)
    return all(allow_added and line.startswith("added ") for line in lines)


def flat(tree: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Yields each leaf of nested dictionaries and lists with its dotted path, but not times and machines."""
    if isinstance(tree, dict | list) and tree:  # what is empty is a leaf
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from flat(value, f"{path}.{key}" if path else str(key))
    elif not IGNORED.search(path):
        yield path, tree


def differences(old: dict, new: dict) -> tuple[int, list[str]]:
    """Returns how many keys have equal values, and a line for each other one."""
    found = {key: difference(old[key], new[key]) for key in old if key in new}
    lines = [f"{key}: {text}" for key, text in found.items() if text]
    alone = [f"missing {key}" for key in old if key not in new] + [f"added {key}" for key in new if key not in old]
    return len(found) - len(lines), lines + alone


def difference(old: object, new: object) -> str:
    """Says how two values differ; nothing where they are exactly equal, in their type, too."""
    if not isinstance(old, torch.Tensor):
        return "" if repr(old) == repr(new) else f"{old!r} -> {new!r}"
    if (old.dtype, old.shape) != (new.dtype, new.shape):
        return f"{old.dtype} {tuple(old.shape)} -> {new.dtype} {tuple(new.shape)}"
    return "" if torch.equal(old, new) else f"largest difference {(old.double() - new.double()).abs().max():.3g}"


def fail(problem: str) -> None:
    """Ends the comparison with a line that says why, and exit code 2."""
    print(f"error: {problem}", file=sys.stderr)
    sys.exit(2)


def main() -> None:
    """Compares, and ends with the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", nargs="?", default="", help="the commit to compare with")
    parser.add_argument("--allow-added", action="store_true", help="keys that only the working tree has are fine")
    arguments = parser.parse_args()
    problem = f"The repository in '{ROOT}' has no commit '{arguments.base}': make golden BASE=COMMIT"
    commit = git("rev-parse", "--verify", "--end-of-options", f"{arguments.base}^{{commit}}", problem=problem)
    equal = compare_working_tree(run_base(commit), arguments.allow_added)
    print("Nothing differs." if equal else "Something differs, see above.")
    sys.exit(not equal)


if __name__ == "__main__":
    main()
