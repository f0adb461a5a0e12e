"""What a run writes is what docs/artefacts.md says, no more and no less."""

import json
import re

import pytest
import xarray as xr

from lmri.store import read_finding, read_map, read_table

pytestmark = pytest.mark.slow

# What the small study does not ask for: subjects to train, sparse runs, information.
NOT_ASKED_FOR = (
    *("bases/", "draws/", "plans/", "sparse/", "analyses/", "experiments/"),
    "report/information",
    "comparisons.parquet",  # of two subjects
)

# Folders whose inside is described elsewhere: Hugging Face layout, zarr nodes, one file per job.
WHOLE = ("subjects/<subject>/", "bases/<base_seed>/", "logs/", "benchmarks/")


@pytest.fixture(scope="module")
def page(repository) -> str:
    return (repository / "docs/artefacts.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def study(finished):
    return finished.root / "results/small"


def section(page: str, start: str) -> str:
    """Text from a marker to the next heading."""
    text = page.split(start, 1)[1]
    return re.split(r"^## ", text, maxsplit=1, flags=re.M)[0]


def first_columns(text: str) -> list[str]:
    """Names in the first column of the first table of a text."""
    rows = re.search(r"(?:^\|.*\n)+", text, re.M).group().splitlines()[2:]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])]


def documented_paths(page: str) -> list[str]:
    return first_columns(section(page, "library versions.\n"))


def pattern(path: str) -> str:
    inside = ".*" if path in WHOLE or path.endswith(".zarr") else ""
    text = re.sub(r"<\w+>", "[^/]+", re.escape(path).replace(r"\<", "<").replace(r"\>", ">"))
    return text.replace(r"\*", "[^/]+") + inside


def test_every_file_is_documented(study, page):
    patterns = [pattern(path) for path in documented_paths(page)]
    written = [path.relative_to(study).as_posix() for path in study.rglob("*") if path.is_file()]
    # Snakemake drops a time stamp into every folder that a rule writes.
    written = [path for path in written if not path.endswith(".snakemake_timestamp")]
    assert [path for path in written if not any(re.fullmatch(p, path) for p in patterns)] == []


def test_every_documented_file_is_written(study, page):
    written = [path.relative_to(study).as_posix() for path in study.rglob("*") if path.is_file()]
    for path in documented_paths(page):
        if not path.startswith(NOT_ASKED_FOR):
            assert any(re.fullmatch(pattern(path), file) for file in written), path


@pytest.mark.parametrize(
    ("file", "start"),
    [
        ("validation/localised/arms.parquet", "`arms.parquet`: one row"),
        ("validation/localised/transcripts.parquet", "`transcripts.parquet`: paired"),
        ("validation/localised/trials.parquet", "`trials.parquet`: one row per trial and arm"),
        ("validation/localised/claims.parquet", "`claims.parquet`: one row per claim"),
        ("validation/localised/verdicts.parquet", "`verdicts.parquet`: one row per finding"),
        ("verdicts.parquet", "`verdicts.parquet`: one row per finding"),
    ],
)
def test_columns_of_tables(study, page, file, start):
    assert set(read_table(study / file).columns) == set(first_columns(section(page, start)))


def test_columns_of_stimuli(study, page):
    documented = set(first_columns(section(page, "## Stimuli")))
    general = {"carrier_<name>", "class_<name>"}
    assert general <= documented
    columns = set(read_table(study / "stimuli/events.parquet").columns)
    own = {name for name in columns if name.startswith(("carrier_", "class_"))}
    assert own == {"carrier_place", "carrier_year", "class_place", "class_year"}
    assert columns - own == documented - general


def test_nodes_of_recordings(study, page):
    store = study / "recordings/localised/events/0.zarr"
    stimuli = set(read_table(study / "stimuli/events.parquet").columns)
    text = section(page, "## Recording")
    rows = [row.split("|") for row in text.splitlines() if row.startswith("| `/")]
    documented = {row[1].strip(" `"): row for row in rows}
    with xr.open_datatree(store, engine="zarr", consolidated=False, chunks=None) as tree:
        written = {node.path: node.dataset for node in tree.subtree if node.data_vars}
        assert set(written) <= set(documented)
        asked_for = {path for path in documented if "on request" in documented[path][3]}
        assert set(documented) - set(written) <= asked_for
        for path, dataset in written.items():
            names = set(re.findall(r"`([^`]+)`", documented[path][3])) - {"phases"}  # an attribute
            variables = set(map(str, dataset.data_vars))
            assert variables - (stimuli if path == "/trials" else set()) == names, path
            axes = set(re.split(r", | / ", documented[path][2].strip()))
            assert set(map(str, dataset.sizes)) == axes, path


@pytest.mark.parametrize("contrast", ["refusal", "null_places"])
@pytest.mark.parametrize("name", ["expert.resonance", "head.welch_t"])
def test_variables_of_maps(study, page, contrast, name):
    text = section(page, "## Map")
    statistics = read_map(study / f"maps/localised/{contrast}.prompt_last/{name}.zarr")
    rows = [row.split("|") for row in text.splitlines() if row.startswith("| `")]
    counted = {"expert.resonance": ("`expert.resonance`", "the same"), "head.welch_t": ("other",)}
    crossed = ("contrasts",) if contrast == "refusal" else ()
    documented = {
        variable
        for row in rows
        if row[2].strip().startswith(("all", *counted[name], *crossed))
        for variable in re.findall(r"`(\w+)`", row[1])
    }
    assert set(map(str, statistics.data_vars)) == documented
    undocumented = {key for key in statistics.attrs if key not in text}
    assert undocumented == {"provenance"}


def test_fields_of_findings(study, page):
    example = json.loads(re.search(r"```json\n(.*?)```", page, re.S).group(1))
    folder = study / "findings/localise/localised"
    finding = read_finding(folder / "refusal.prompt_last/expert.resonance.json")
    assert set(finding) == set(example)
    for field in ("primary_endpoint", "secondary", "controls"):
        assert set(finding[field]) == set(example[field]), field
    for field in ("units", "baseline", "calibration"):
        assert set(finding[field][0]) == set(example[field][0]), field
    empty = read_finding(folder / "null_places.prompt_last/expert.resonance.json")
    assert set(example) - set(empty) == {
        *("baseline", "calibration", "primary_endpoint", "secondary", "controls", "claims"),
        "sham_doses",
    }
