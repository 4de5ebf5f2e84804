"""Write what Sphinx reads: the pages of the repository, and those of the reference from the package itself.

python -m scripts.site.generate  # into build/site-source; `make docs` then builds the site
"""

import shutil
from pathlib import Path

from scripts.site.help_pages import write_help
from scripts.site.pages import ROOT, copy_pages
from scripts.site.reference import write_api, write_cells, write_envs, write_presets

OUT = ROOT / "build" / "site-source"


def main(out: Path = OUT) -> None:
    """Write all pages anew."""
    shutil.rmtree(out, ignore_errors=True)
    reference = out / "reference"
    reference.mkdir(parents=True)
    copy_pages(out)
    write_help(reference)
    write_cells(reference / "cells.md")
    write_envs(reference)
    write_presets(reference / "presets.md")
    write_api(reference / "api.md")


if __name__ == "__main__":
    main()
