"""``rlstm inspect`` and ``rlstm card``: a page, facts, and what is refused."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

QUICK = "--episodes 2 --probe-episodes 25 --window-episodes 4 --max-steps 12"


def test_the_page_and_the_facts_are_written(rlstm, trained: Path) -> None:
    result = rlstm(f"inspect {trained} --out page.html {QUICK} --json")
    facts = result.json
    assert result.code == 0
    assert facts["page"] == "page.html"
    assert len(facts["returns"]) == 2
    assert {"time_scales", "dependence", "probes", "memory_length"} <= facts.keys()
    assert facts["memory_length"]["steps"] is not None
    assert len(facts["dependence"]["gradient_by_lag"]) == max(facts["lengths"])
    page = Path("page.html").read_text(encoding="utf-8")
    data = json.loads(re.findall(r'type="application/json">(.*?)</script>', page, re.S)[0])
    assert [len(one["actions"]) for one in data["episodes"]] == facts["lengths"]
    assert data["episodes"][0]["frames"][0].startswith("data:image/png;base64,")


def test_the_page_lies_in_the_run_by_default_and_the_words_say_what_was_found(rlstm, trained: Path) -> None:
    result = rlstm(f"inspect {trained} {QUICK} --probe-episodes 0 --window-episodes 0")
    assert (trained / "inspection.html").exists()
    assert "depends most" in result.out
    assert "inspecting: episodes ..." in result.err
    (trained / "inspection.html").unlink()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--episodes 0", "episodes is 0; it must be at least 1"),
        ("--max-steps 1", "max_steps is 1; it must be at least 2"),
        ("--out missing/page.html", "there is no folder missing"),
        (f"{QUICK} --probe nothing", "No info of 'rlstm/TMaze-v0' has a number 'nothing'"),
    ],
)
def test_wrong_usage_is_told_and_leaves_no_page(rlstm, trained: Path, words: str, told: str) -> None:
    result = rlstm(
        f"inspect {trained} --out page.html {words}" if "--out" not in words else f"inspect {trained} {words}"
    )
    assert (result.code, Path("page.html").exists()) == (2, False)
    assert told in result.err


def test_a_card_is_written_into_the_run(rlstm, trained: Path) -> None:
    result = rlstm(f"card {trained} --episodes 2 --json")
    assert result.json["card"] == str(trained / "README.md")
    assert "library_name: rlstm" in (trained / "README.md").read_text(encoding="utf-8")
    (trained / "README.md").unlink()


BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

SCRIPT = """
<script>
addEventListener("load", () => {
  const slider = document.getElementById("slider"), told = [];
  slider.value = 2; slider.dispatchEvent(new Event("input"));
  told.push("slider:" + document.getElementById("step").textContent);
  dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight"}));
  told.push("arrow:" + document.getElementById("step").textContent);
  const maps = [...document.querySelectorAll("#charts canvas")];
  const coloured = maps.filter(canvas => {
    const seen = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    return seen.some((value, index) => index % 4 < 3 && value > 0 && value < 255);
  });
  told.push("maps:" + maps.length + "/" + coloured.length);
  document.body.setAttribute("data-told", told.join(";"));
});
addEventListener("error", event => document.documentElement.setAttribute("data-error", event.message));
</script>
"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
def test_a_browser_draws_the_page_and_follows_slider_and_keys(rlstm, trained: Path, tmp_path: Path) -> None:
    assert rlstm(f"inspect {trained} --out page.html {QUICK}").code == 0
    page = Path("page.html")
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace('<script id="data"', SCRIPT + '<script id="data"'), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'browser'}"]
    command = [str(BROWSER), *flags, "--virtual-time-budget=4000", "--dump-dom", f"file://{page.resolve()}"]
    dumped = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False).stdout
    assert "data-error" not in dumped.partition("<script")[0]
    (told,) = re.findall(r'data-told="([^"]*)"', dumped)
    slider, arrow, maps = told.split(";")
    assert (slider, arrow) == ("slider:2", "arrow:3")
    drawn, coloured = map(int, maps.removeprefix("maps:").split("/"))
    assert drawn == coloured >= 7
