"""Promises, what shows them, and the page: nothing is named that is not there."""

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("yaml")
from trust import page, readme, suite
from trust.promises import FOLDER, ROOT, THEMES, PromiseError, Values, figure_of, read, read_all


@pytest.fixture(scope="module")
def sections():
    return read_all()


def test_every_sentence_of_the_readme_is_in_a_promise(sections):
    assert readme.uncovered(sections) == []
    assert readme.unknown(sections) == []


def test_a_sentence_that_nobody_shows_is_found(sections, tmp_path, monkeypatch):
    text = (ROOT / "README.md").read_text()
    new = tmp_path / "README.md"
    new.write_text(text.replace("MIT licence.", "MIT licence. `refine` makes coffee; it is *hot*."))
    monkeypatch.setattr(readme.sentences, "__defaults__", (new,))
    assert readme.uncovered(sections) == ["refine makes coffee", "it is hot."]


def test_sentences(tmp_path):
    file = tmp_path / "README.md"
    file.write_text(
        "# Title\nOne of [a link](x.md): two. `three` and\nfour; five.\n\n"
        "<!-- hidden. -->\n```bash\ncommand. Not this.\n```\n| a | b |\n|---|---|\n| c | **d** |\n"
        "<!-- benchmarks/x.py -->\n| e | f |\n|---|---|\n| g | h |\n<!-- end -->\n"
    )
    assert readme.sentences(file) == ["One of a link: two.", "three and four", "five.", "c | d"]


# What a promise cannot be, and what is said of it.
WRONG = {
    "neither tests nor a result": {},
    "no file python_tests/none.py": {"tests": ["python_tests/none.py"]},
    "no test test_none in python_tests/test_files.py": {
        "tests": ["python_tests/test_files.py::test_none"]
    },
    "unknown: test": {"test": "python_tests/test_files.py"},
    "`figure` says what to print": {"benchmark": "crf_375x500", "command": "python x.py"},
    "`command` is missing": {"benchmark": "crf_375x500", "figure": "{machine[cores]}"},
    "KeyError": {"benchmark": "crf_375x500", "figure": "{speed}", "command": "python x.py"},
    "No such file": {"result": "none", "figure": "{speed}", "command": "python x.py"},
}


@pytest.mark.parametrize("said", WRONG)
def test_wrong_promises(tmp_path, said):
    file = tmp_path / "crf.yaml"
    file.write_text(json.dumps({"title": "CRF", "promises": [{"promise": "Fast."} | WRONG[said]]}))
    with pytest.raises(PromiseError, match=f"crf.yaml: Fast.*{re.escape(said)}"):
        read(file)


def test_a_theme_without_a_place(tmp_path):
    (tmp_path / "coffee.yaml").write_text("title: Coffee\npromises: []\n")
    with pytest.raises(PromiseError, match="coffee: not in THEMES"):
        read_all(tmp_path)


def test_every_result_and_theme_is_used(sections):
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(THEMES)
    named = {promise.result for section in sections for promise in section.promises}
    recorded = {path.stem for path in (ROOT / "trust" / "results").glob("*.json")}
    assert recorded - named == {suite.NAME}


JUNIT = """<testsuites><testsuite>
<testcase classname="python_tests.test_files" name="test_writes_the_file[a]"/>
<testcase classname="python_tests.test_files" name="test_writes_the_file[b]"><skipped/></testcase>
<testcase classname="python_tests.test_metrics.TestClass" name="test_x"><failure/></testcase>
<testcase classname="" name="python_tests.pydensecrf.test_original"><skipped/></testcase>
</testsuite></testsuites>"""


def test_outcomes_of_a_run(tmp_path):
    junit = tmp_path / "junit.xml"
    junit.write_text(JUNIT)
    found = suite.outcomes(junit)
    writes = "python_tests/test_files.py::test_writes_the_file"
    assert suite.of_selector(writes, found) == {"passed": 1, "skipped": 1}
    assert suite.of_selector("python_tests/test_files.py", found) == {"passed": 1, "skipped": 1}
    assert suite.of_selector("python_tests/test_metrics.py", found) == {"failed": 1}
    assert suite.of_selector("python_tests/pydensecrf/test_original.py", found) == {"skipped": 1}
    # what the run does not bear out: one whose test failed, and all whose tests did not run
    wrong = suite.failures(found)
    assert any("1 of its tests failed" in line for line in wrong)
    assert any("None of its tests ran" in line for line in wrong)


def test_figures_of_numbers_as_names():
    values = json.loads('{"ratios": {"2": 9.5}}', object_hook=Values)
    assert "{ratios[2]:.1f} x".format(**values) == "9.5 x"


def test_the_page_is_what_was_recorded():
    assert page.PAGE.read_text() == page.current()


def test_what_is_missed_is_said(sections):
    promise = next(p for s in sections for p in s.promises if p.result)
    recorded = json.loads((ROOT / "trust" / "results" / "suite.json").read_text())
    entry = page._entry(promise, recorded, page.Machines())
    assert figure_of(promise) in entry
    assert "**missed**" not in entry
    failed = promise.measured() | {"passed": False}
    missed = type("Missed", (type(promise),), {"measured": lambda self: failed})(**vars(promise))
    assert f"**missed**: {figure_of(promise)}" in page._entry(missed, recorded, page.Machines())


def test_the_readmes_table_of_times_is_what_was_measured():
    """Milliseconds and ratios of the CRF beside pydensecrf."""
    text = (ROOT / "README.md").read_text()
    rows = re.findall(r"^\| (\d+)x(\d+), (\d+) labels \| (\d+)/(\d+) \|(.*)\|$", text, re.MULTILINE)
    said = {tuple(map(int, row[:5])): " ".join(row[5].replace(",", "").split()) for row in rows}
    measured = {}
    for name in ("crf_375x500", "crf_1024x2048"):
        file = ROOT / "benchmarks" / "results" / f"{name}.json"
        for result in json.loads(file.read_text())["results"]:
            case, times, ratios = result["case"], result["timings"], result["ratios"]
            keys = ("height", "width", "labels", "sigma_alpha", "sigma_beta")
            cells = [f"{times['pydensecrf']['median'] * 1e3:.0f}"]
            for threads in ("whole 1", "whole 2"):
                cells.append(f"{times[threads]['median'] * 1e3:.0f} ({ratios[threads]:.1f} x)")
            measured[tuple(case[key] for key in keys)] = " | ".join(cells)
    assert said == measured
    assert len(said) == 8


def test_pages_name_no_folder_of_a_machine():
    assert not re.search(r"/(tmp|home|root)/", Path(page.PAGE).read_text())
