"""The package list, the links and the folders on disk agree; importing the package is light."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import rlstm

ROOT = Path(__file__).parents[1]
MAPPED = ("agents", "envs")


@pytest.fixture(scope="module")
def setuptools_table() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


def folders_with_modules() -> list[Path]:
    """Return every folder under rlstm/, agents/ and envs/ that holds a Python file; links are not followed."""
    walks = (os.walk(ROOT / top, followlinks=False) for top in ("rlstm", *MAPPED))
    return [Path(folder) for walk in walks for folder, _, files in walk if any(f.endswith(".py") for f in files)]


def test_every_folder_on_disk_is_listed_and_every_listed_package_is_on_disk(setuptools_table: dict) -> None:
    on_disk = {folder.relative_to(ROOT).as_posix().replace("/", ".") for folder in folders_with_modules()}
    on_disk = {f"rlstm.{name}" if name.split(".")[0] in MAPPED else name for name in on_disk}
    listed = set(setuptools_table["packages"])
    assert on_disk - listed == set(), "on disk, but not among the packages of tool.setuptools in pyproject.toml"
    assert listed - on_disk == set(), "among the packages of tool.setuptools in pyproject.toml, but not on disk"


def test_every_folder_with_modules_is_a_package() -> None:
    assert [str(folder) for folder in folders_with_modules() if not (folder / "__init__.py").is_file()] == []


def test_the_links_and_the_package_map_name_the_same_folders(setuptools_table: dict) -> None:
    links = {link.name: link.readlink().as_posix() for link in (ROOT / "rlstm").iterdir() if link.is_symlink()}
    assert links == {name: f"../{name}" for name in MAPPED}
    assert setuptools_table["package-dir"] == {f"rlstm.{name}": name for name in MAPPED}


def test_every_file_that_is_no_module_is_listed(setuptools_table: dict) -> None:
    files = [path for path in (ROOT / "rlstm").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    folders = {package: ROOT / package.replace(".", "/") for package in setuptools_table["package-data"]}
    data = setuptools_table["package-data"].items()
    listed = [path for package, names in data for name in names for path in folders[package].glob(name)]
    assert sorted(files) == sorted(listed)


def run_python(code: str) -> str:
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, rlstm; print(sorted({'torch', 'numpy', 'gymnasium', 'tyro'} & set(sys.modules)))"
    assert run_python(code).strip() == "[]"


def test_an_unknown_attribute_of_the_package_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        rlstm.trian  # noqa: B018
    assert {"train", "load", "record", "__version__"} <= set(dir(rlstm))
