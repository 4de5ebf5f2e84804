"""What import-linter can't say of imports, read off the syntax trees; the layers themselves stand in pyproject.toml.

Which imports are lazy, names that are spelled wrongly, parts of other packages, and lists of what alone is allowed.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("rlstm", "agents", "envs", "scripts", "tests")
LAZY = ("rlstm.train", "rlstm.load", "rlstm.record")  # Names of `rlstm` that stand for modules above the agents.


def source_files() -> list[str]:
    """Return the Python files as `folder/file.py`; real folders only, the links in `rlstm/` are not followed."""
    files = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")]
    paths = [file.relative_to(ROOT).as_posix() for file in files]
    return sorted(path for path in paths if not path.startswith(("rlstm/agents/", "rlstm/envs/")))


def imports(node: ast.AST, lazy: bool = False) -> Iterator[tuple[str, bool]]:
    """Yield every imported dotted name, and whether it is imported lazily: in a function or for type checkers only."""
    if isinstance(node, ast.Import):
        yield from ((alias.name, lazy) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        module = "." * node.level + (node.module or "")
        yield from ((f"{module}.{alias.name}", lazy) for alias in node.names)
    lazy = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    lazy = lazy or (isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"))
    for child in ast.iter_child_nodes(node):
        yield from imports(child, lazy)


def within(name: str, *modules: str) -> bool:
    return any(name == module or name.startswith(module + ".") for module in modules)


def broken_rules(path: str, source: str) -> list[str]:
    """Return a sentence for every import in the file that breaks a rule."""
    broken = []
    folder = path.split("/")[0]
    for name, lazy in imports(ast.parse(source)):
        rules = {
            "imports are absolute": not name.startswith("."),
            "agents and envs are imported as rlstm.agents and rlstm.envs": not within(name, "agents", "envs"),
        }
        if folder in ("rlstm", "agents", "envs"):
            loggers = path == "rlstm/training/loggers.py"
            rules["tensorboard in the loggers only"] = loggers or not within(name, "torch.utils.tensorboard")
        if folder == "rlstm":
            above = lazy and path.startswith(("rlstm/api/", "rlstm/cli/"))
            upward = within(name, "rlstm.agents", "rlstm.envs")
            rules["only rlstm/api and rlstm/cli import agents and envs, and lazily"] = above or not upward
        if folder == "envs":
            theirs = name.split(".")[0] in {"numpy", "gymnasium", *sys.stdlib_module_names}
            own = within(name, "rlstm.envs", "rlstm.core.arrays")
            digits = lazy and path == "envs/sequences/digit_images.py" and within(name, "sklearn")
            rules["envs import numpy, gymnasium and rlstm.core.arrays"] = theirs or own or digits
        if folder == "agents":
            rules["agents don't import the API"] = not within(name, *LAZY)
            table = path == "agents/__init__.py" and within(name, "rlstm.agents")
            rules["the table of agents imports them lazily"] = lazy or not table
            others = within(name, "rlstm.agents.configs") and not within(
                name, f"rlstm.agents.configs.{Path(path).stem}"
            )
            rules["an agent imports its own settings only"] = not others
        broken += [f"{path}: {name}: {rule}" for rule, kept in rules.items() if not kept]
    return broken


def test_every_file_keeps_the_rules() -> None:
    files = source_files()
    assert len(files) > 300
    assert [one for path in files for one in broken_rules(path, (ROOT / path).read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("rlstm/losses/policy_losses.py", "def f():\n    from rlstm.agents.ppo import PPO"),
        ("rlstm/losses/policy_losses.py", "import rlstm.envs"),
        ("rlstm/losses/policy_losses.py", "from rlstm import agents"),
        ("rlstm/api/experiments.py", "from rlstm import agents"),
        ("rlstm/cli/train.py", "import rlstm.envs.base.registration"),
        ("rlstm/cells/lstm.py", "from . import base"),
        ("rlstm/cli/train.py", "def f():\n    import agents.ppo"),
        ("scripts/demo.py", "from envs import registration"),
        ("rlstm/training/loop.py", "from torch.utils.tensorboard import SummaryWriter"),
        ("rlstm/training/loop.py", "from torch.utils import tensorboard"),
        ("envs/mazes/tmaze.py", "import torch"),
        ("envs/mazes/tmaze.py", "from rlstm.core.seeding import spawn"),
        ("agents/ppo.py", "from rlstm import load"),
        ("agents/ppo.py", "from rlstm.agents.configs.evolino import EvolinoConfig"),
        ("agents/__init__.py", "from rlstm.agents.ppo import PPO"),
    ],
)
def test_a_forbidden_import_is_seen(path: str, source: str) -> None:
    assert len(broken_rules(path, source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("rlstm/api/anything.py", "def f():\n    from rlstm.agents.ppo import PPO"),
        ("rlstm/cli/train.py", "if TYPE_CHECKING:\n    from rlstm.agents.ppo import PPO"),
        ("rlstm/training/loggers.py", "from torch.utils.tensorboard import SummaryWriter"),
        ("envs/mazes/tmaze.py", "import math\nimport numpy as np\nfrom rlstm.envs.base.batched import BatchedEnv"),
        ("agents/ppo.py", "from rlstm.agents.configs.ppo import PPOConfig"),
        ("agents/ppo.py", "import torch\nfrom rlstm.losses.policy_losses import ppo_loss"),
        ("agents/__init__.py", "def f():\n    from rlstm.agents.ppo import PPO"),
    ],
)
def test_an_allowed_import_passes(path: str, source: str) -> None:
    assert broken_rules(path, source) == []
