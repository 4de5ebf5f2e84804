"""Whatever is damaged in a run's folder: it goes on to the same end as if nothing was, or an error names the file."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rlstm
from rlstm.api.finished_runs import open_run
from rlstm.core.errors import CheckpointError, RunDirectoryError
from rlstm.training.config import ConfigError
from tests.training.test_resume import everything, train

STEPS = 2 * 4  # Of an update.
SMALL = {
    "num_envs": 2,
    "num_steps": 4,
    "num_minibatches": 1,
    "update_epochs": 1,
    "hidden_size": 2,
    "encoder_sizes": (2,),
    "eval_episodes": 1,
    "anneal_lr": False,
    "env_kwargs": {"corridor_length": 1},
}
OURS = (RunDirectoryError, CheckpointError, ConfigError)
NESTED = b'{"a":' * 30_000 + b"1" + b"}" * 30_000


def flip(data: bytes, draw: random.Random) -> bytes:
    damaged = bytearray(data)
    damaged[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(damaged)


def other_digit(data: bytes, draw: random.Random) -> bytes:
    places = [place for place, byte in enumerate(data) if chr(byte).isdigit()]
    if not places:
        return flip(data, draw)
    damaged, place = bytearray(data), draw.choice(places)
    damaged[place] = ord(draw.choice([digit for digit in "0123456789" if digit != chr(data[place])]))
    return bytes(damaged)


def part(data: bytes, draw: random.Random) -> tuple[int, int]:
    first, last = sorted(draw.randrange(len(data) + 1) for _ in range(2))
    return first, last


def truncate(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(len(data))]


def cut_out(data: bytes, draw: random.Random) -> bytes:
    first, last = part(data, draw)
    return data[:first] + data[last:]


def double(data: bytes, draw: random.Random) -> bytes:
    first, last = part(data, draw)
    return data[:last] + data[first:]


def double_line(data: bytes, draw: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    place = draw.randrange(len(lines))
    return b"".join(lines[:place] + lines[place : place + 1] + lines[place:])


def zero(data: bytes, draw: random.Random) -> bytes:
    first, last = part(data, draw)
    return data[:first] + bytes(last - first) + data[last:]


def empty(data: bytes, draw: random.Random) -> bytes:
    return b""


def nest(data: bytes, draw: random.Random) -> bytes:
    return draw.choice([NESTED, b"[]", b"{}", b'{"id": ' + b"9" * 5000 + b"}", b"null"])


def missing(data: bytes, draw: random.Random) -> None:
    return None


DAMAGES: list[Callable[[bytes, random.Random], bytes | None]] = [
    *(flip, other_digit, other_digit, truncate, cut_out, double, double_line, zero, empty, nest, missing)
]


def weights(run: Path, which: Any) -> dict[str, Any]:
    return {name: tensor.tolist() for name, tensor in open_run(run, which).policy.state_dict().items()}


def resumed(run: Path) -> dict[str, Any]:
    rlstm.resume(run, total_steps=3 * STEPS, ui="none")
    return everything(run)


USES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "load the best": lambda run: weights(run, None),
    "load the latest": lambda run: weights(run, "latest"),
    "resume": resumed,
}


class Damaged:
    """A run, what comes of it undamaged, and what comes of it damaged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = folder / "run"
        train(self.run, **SMALL, total_steps=2 * STEPS)
        shutil.copytree(self.run, folder / "undamaged")
        self.expected = {name: use(folder / "undamaged") for name, use in USES.items()}
        self.files = [path for path in sorted(self.run.rglob("*")) if path.is_file()]
        self.outcomes: Counter[str] = Counter()

    def check(self, file: Path, damage: Callable[[bytes, random.Random], bytes | None], draw: random.Random) -> None:
        """Damage a file of a copy and use the copy."""
        copy, name = self.folder / "copy", file.relative_to(self.run)
        shutil.copytree(self.run, copy)
        content = damage(file.read_bytes() or b"0", draw)
        (copy / name).unlink() if content is None else (copy / name).write_bytes(content)
        what = f"{damage.__name__} {name} to {content[:300] if content is not None else None!r}"
        for use, function in USES.items():
            try:
                found = function(copy)
            except OURS as error:
                self.outcomes["told"] += 1
                if file.name not in str(error):
                    raise AssertionError(f"{use}: {what} was told without its name") from error
            except Exception as error:
                raise AssertionError(f"{use}: {what} raised {error!r}") from error
            else:
                self.outcomes["the same"] += 1
                assert found == self.expected[use], f"{use}: {what} was not noticed"
        shutil.rmtree(copy)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Damaged:
    return Damaged(tmp_path_factory.mktemp("damage"))


def check_many(damaged: Damaged, number: int, seed: int) -> None:
    draw = random.Random(seed)
    for count in range(number):
        damaged.check(damaged.files[count % len(damaged.files)], draw.choice(DAMAGES), draw)
    assert min(damaged.outcomes["the same"], damaged.outcomes["told"]) > number // 3


def test_damage_is_told_or_makes_no_difference(damaged: Damaged) -> None:
    check_many(damaged, 60, seed=0)


@pytest.mark.slow  # 2,000 damages of many kinds.
def test_no_damage_of_two_thousand_goes_unnoticed_and_makes_a_difference(damaged: Damaged) -> None:
    check_many(damaged, 2_000, seed=1)
