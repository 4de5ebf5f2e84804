"""Break the library in many small ways, one at a time, and see whether the tests notice.

    python -m scripts.mutants                     all breakages
    python -m scripts.mutants -k returns          those whose area, name or file contains the word
    python -m scripts.mutants --check             only check that every breakage still applies

Every breakage is applied to a temporary copy of the checkout, uncommitted changes included; then its tests run until
one fails. It is killed if one does, and SURVIVED if none does; STALE says that the code has moved on, UNFIT that its
tests fail already without it, or that nothing ran. Exit status 1 unless all are killed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue

from scripts.mutants.breakages import Breakage, fault, load_breakages

ROOT = Path(__file__).parents[2]
FAILED, NO_TESTS = 1, 5  # Exit statuses of pytest.


@dataclass(frozen=True)
class Outcome:
    """What became of a breakage."""

    breakage: Breakage
    result: str  # killed, SURVIVED, STALE or UNFIT
    detail: str
    seconds: float = 0.0


class Job:
    """A copy of the checkout and a server in it.

    Args:
        root: The checkout.
        folder: Where the copy goes, an empty folder.
        limit: Seconds after which tests are stopped; a breakage that makes them endless is killed.
        preload: Modules that the server imports; None for its own choice.
    """

    def __init__(self, root: Path, folder: Path, limit: float, preload: list[str] | None = None) -> None:
        self.tree, self._folder, self._limit = folder / "tree", folder, limit
        copy_tree(root, self.tree)
        self._count = 0
        server = Path(__file__).with_name("server.py")
        environment = os.environ | {
            "PYTHONPATH": str(self.tree),
            "OMP_NUM_THREADS": "1",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(server), *(preload or [])],
            cwd=self.tree,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._receive()

    def _receive(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("The server of a job has ended.")
        answer: dict[str, float] = json.loads(line)
        return answer

    def test(self, breakage: Breakage, *, patience: float = 1.0) -> tuple[int | None, float, str]:
        """Run the tests of a breakage on the copy as it is; returns pytest's status, seconds and the output."""
        assert self._process.stdin is not None
        log = self._folder / "log.txt"
        base = self._folder / "tmp"
        arguments = ["-x", "-q", "--no-header", "--tb=line", "-p", "no:cacheprovider", f"--basetemp={base}"]
        arguments += ["-k", breakage.select] if breakage.select else []
        request = {"arguments": [*arguments, *breakage.tests], "log": str(log), "seconds": patience * self._limit}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._receive()
        status = answer["status"]
        return None if status is None else int(status), answer["seconds"], log.read_text(errors="replace")

    @contextmanager
    def broken(self, breakage: Breakage) -> Iterator[None]:
        """Apply a breakage to the copy for a while."""
        path = self.tree / breakage.file
        source, times = path.read_text(encoding="utf-8"), path.stat()
        # Bytecode is valid for a time stamp in whole seconds and a size: every version gets a time of its own.
        self._count += 1
        path.write_text(breakage.apply(source), encoding="utf-8")
        os.utime(path, (times.st_atime, times.st_mtime + 10 * self._count))
        try:
            yield
        finally:
            path.write_text(source, encoding="utf-8")
            os.utime(path, (times.st_atime, times.st_mtime))

    def close(self) -> None:
        """End the server."""
        with self._process:  # Closes the pipes, at which the server ends, and waits for it.
            pass


def copy_tree(root: Path, target: Path) -> None:
    """Copy what git tracks or would track, links as links."""
    words = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, capture_output=True, check=True).stdout.decode().split("\0")
    for name in filter(None, listed):
        source, copy = root / name, target / name
        if not source.is_symlink() and not source.is_file():
            continue  # Deleted, but not yet so for git.
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, copy, follow_symlinks=False)


class Controls:
    """Whether tests pass without any breakage; each set of them is tried once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[tuple[object, ...], tuple[threading.Event, list[str]]] = {}

    def complaint(self, job: Job, breakage: Breakage) -> str:
        """Return why the tests of a breakage are unfit to tell anything, or ''."""
        key = (breakage.tests, breakage.select)
        with self._lock:
            is_mine = key not in self._entries
            done, found = self._entries.setdefault(key, (threading.Event(), []))
        if is_mine:
            try:
                status, _, log = job.test(breakage, patience=5.0)
                reason = "" if status == 0 else f"its tests fail without it: {_first_failure(log)}"
                found.append("its tests select nothing" if status == NO_TESTS else reason)
            finally:
                done.set()
        done.wait()
        return found[0] if found else "its tests could not be run"


def _first_failure(log: str) -> str:
    found = re.search(r"^(?:FAILED|ERROR) (.*)$", log, re.MULTILINE)
    return found[1] if found else log.strip()[-300:]


def try_breakage(job: Job, breakage: Breakage, controls: Controls | None) -> Outcome:
    """Apply one breakage and run its tests."""
    if reason := fault(breakage, job.tree):
        return Outcome(breakage, "STALE", reason)
    if controls is not None and (reason := controls.complaint(job, breakage)):
        return Outcome(breakage, "UNFIT", reason)
    with job.broken(breakage):
        status, seconds, log = job.test(breakage)
    if status is None:
        return Outcome(breakage, "killed", "the time limit", seconds)
    if status == 0:
        return Outcome(breakage, "SURVIVED", ", ".join(breakage.tests), seconds)
    if status == FAILED:
        return Outcome(breakage, "killed", _first_failure(log), seconds)
    return Outcome(breakage, "UNFIT", f"pytest's status is {status}: {_first_failure(log)}", seconds)


def run(
    root: Path,
    breakages: list[Breakage],
    *,
    jobs: int,
    limit: float = 120.0,
    control: bool = True,
    preload: list[str] | None = None,
) -> Iterator[Outcome]:
    """Try breakages of the checkout at ``root``; yields what became of each, in the order in which they end."""
    waiting: Queue[Breakage] = Queue()
    done: Queue[Outcome | BaseException | None] = Queue()
    for one in breakages:
        waiting.put(one)
    controls = Controls() if control else None

    def work(folder: Path) -> None:
        try:
            job = Job(root, folder, limit, preload)
            try:
                while True:
                    done.put(try_breakage(job, waiting.get_nowait(), controls))
            except Empty:
                pass
            finally:
                job.close()
        except BaseException as error:
            done.put(error)
        finally:
            done.put(None)

    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        folders = [Path(name) / str(index) for index in range(max(1, min(jobs, len(breakages))))]
        for folder in folders:
            folder.mkdir()
        threads = [threading.Thread(target=work, args=(folder,), daemon=True) for folder in folders]
        for thread in threads:
            thread.start()
        running = len(threads)
        while running:
            outcome = done.get()
            if outcome is None:
                running -= 1
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                yield outcome
        for thread in threads:
            thread.join()


def table(outcomes: list[Outcome]) -> str:
    """Return how many breakages of each area were killed."""
    lines = []
    for area in sorted({one.breakage.area for one in outcomes}):
        results = [one.result for one in outcomes if one.breakage.area == area]
        lines.append(f"{area:<28}{results.count('killed'):>4} of {len(results)}")
    return "\n".join(lines)


def main(words: list[str] | None = None) -> int:
    """Run what the command line asks for; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.mutants", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "-k", action="append", metavar="WORD", help="only breakages whose area, name or file contains it; repeatable"
    )
    parser.add_argument("--jobs", type=int, default=2, help="copies that are tried side by side")
    parser.add_argument("--seconds", type=float, default=120.0, help="limit for the tests of one breakage")
    parser.add_argument("--list", action="store_true", help="list the breakages")
    parser.add_argument("--check", action="store_true", help="check that every breakage still applies")
    parser.add_argument("--no-control", action="store_true", help="don't run the tests without a breakage first")
    options = parser.parse_args(words)
    words = options.k or [""]
    chosen = [one for one in load_breakages() if any(word in f"{one.area}: {one.name} {one.file}" for word in words)]
    if options.list:
        print("\n".join(f"{one.area:<20}{one.name:<60}{one.file}" for one in chosen))
        return 0
    if options.check:
        faults = [f"STALE  {one.area}: {one.name}: {reason}" for one in chosen if (reason := fault(one, ROOT))]
        print("\n".join([*faults, f"{len(chosen) - len(faults)} of {len(chosen)} apply"]))
        return 1 if faults else 0
    if not chosen:
        print(f"No breakage has {' or '.join(words)} in its area, name or file.")
        return 1
    began, outcomes = time.monotonic(), []
    for outcome in run(ROOT, chosen, jobs=options.jobs, limit=options.seconds, control=not options.no_control):
        outcomes.append(outcome)
        place = f"{outcome.breakage.area}: {outcome.breakage.name}"
        print(f"{outcome.result:<9}{outcome.seconds:6.1f} s  {place}: {outcome.detail}", flush=True)
    killed = sum(one.result == "killed" for one in outcomes)
    print(f"\n{table(outcomes)}\n")
    print(
        f"{killed} of {len(outcomes)} killed ({100 * killed / len(outcomes):.1f} %) in {time.monotonic() - began:.0f} s"
    )
    for one in outcomes:
        if one.result != "killed":
            print(f"{one.result}  {one.breakage.area}: {one.breakage.name}: {one.detail}")
    return 0 if killed == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
