"""The command `leaderboard`: audits joined into one page, and a check of entries."""

from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from advfool.auditing.checking import problems
from advfool.auditing.leaderboard.entries import find_audits
from advfool.auditing.leaderboard.page import write_leaderboard
from advfool.utilities.config import plain
from advfool.utilities.errors import AdvfoolError


def leaderboard(cfg: DictConfig, console: Console | None = None) -> Path | None:
    """Check entries (`check`), write the leaderboard of audits (`audits`), or both.

    Args:
        cfg: the configuration.
        console: where it is told; None: standard output.

    Returns:
        the page; None where no audits are given.

    Raises:
        AdvfoolError: neither is given, there is no audit, some cannot be read, or an entry does not agree with itself.
    """
    console = console or Console(highlight=False, soft_wrap=True)
    audits, check = _listed(cfg.audits), _listed(cfg.check)
    if not audits and not check:
        raise AdvfoolError("leaderboard: give folders of audits (audits=[FOLDER,...]) or of entries (check=FOLDER).")
    if check:
        _check(check, bool(cfg.weights), console)
    if not audits:
        return None
    page = write_leaderboard(audits, Path(cfg.output).expanduser())
    console.print(f"The leaderboard: {page}", markup=False)
    return page


def _check(folders: list[str], weights: bool, console: Console) -> None:
    """Check entries and raise an AdvfoolError with all that is wrong with them."""
    found: list[str] = []
    for folder in find_audits(folders, "check"):
        try:
            wrong = problems(folder, weights)
        except AdvfoolError as error:
            wrong = [str(error)]
        found += [f"- {folder}: {each}" for each in wrong]
        if not wrong:
            console.print(f"{folder}: fits the schema and agrees with itself.", markup=False)
    if found:
        raise AdvfoolError("check: not every entry can be added to the leaderboard:\n" + "\n".join(found))


def _listed(value: object) -> list[str]:
    found = plain(value)
    return [] if found is None else [found] if isinstance(found, str) else [str(each) for each in found]
