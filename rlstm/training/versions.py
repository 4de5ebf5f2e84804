"""What a run was made with: versions of this library and of those it stands on, the commit, the machine."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from pathlib import Path

from rlstm.core.version import __version__


def collect_versions(device: str) -> dict[str, str | None]:
    """Return what a run was made with, None where unknown, from package metadata: torch is not imported."""
    versions: dict[str, str | None] = {"python": platform.python_version(), "rlstm": __version__}
    for package in ("torch", "numpy", "gymnasium"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions | {"platform": platform.platform(), "device": device, "git_commit": _git_commit()}


def _git_commit() -> str | None:
    """Return the commit of the checkout of this file, with "-dirty" after local changes; None outside a checkout."""
    here = Path(__file__).resolve()
    answer = ""
    # An installed copy may lie inside another repository; git doesn't track it there, and the first call fails.
    for words in (f"ls-files --error-unmatch {here.name}", "describe --always --dirty --abbrev=40 --exclude=*"):
        command = ["git", "--no-optional-locks", "-C", str(here.parent), *words.split()]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
        except (OSError, subprocess.SubprocessError):
            return None
    return answer.strip() or None
