import json

import pytest

from lmri.errors import StoreError
from lmri.store.provenance import ENTRIES, code_hash, provenance, slice_hash

# A package with the shape of lmri: localise imports score (inside a function) and one module of
# store through its __init__; the report imports nothing of these.
FILES = {
    "__init__.py": '"""Doc."""\n__version__ = "1"\n',
    "cli/__init__.py": "from lmri.cli.entry import main\n",
    "cli/entry.py": "import lmri.localise\n",
    "localise/__init__.py": "from lmri.localise.job import localise_subject\n",
    "localise/job.py": (
        "from lmri.store import read\nfrom .helper import help_out\n"
        "def localise_subject():\n    from lmri import score\n"
    ),
    "localise/helper.py": "def help_out(): import lmri.cli\n",
    "localise/unused.py": "X = 1\n",
    "localise/data/template.txt": "one",
    "localise/data/model.safetensors": "weights",
    "score/__init__.py": "LEVEL = 1\nfrom lmri.score.deep import f\n",
    "score/deep.py": "def f(): pass\n",
    "store/__init__.py": "from lmri.store.tables import read\nfrom lmri.store.maps import write\n",
    "store/tables.py": "def read(): pass\n",
    "store/maps.py": "def write(): pass\n",
    "report/__init__.py": "def write_report(): pass\n",
}


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "lmri"
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    "name",
    [
        "localise/job.py",
        "localise/helper.py",
        "localise/data/template.txt",
        "score/__init__.py",
        "score/deep.py",
        "store/tables.py",
    ],
)
def test_hash_changes_with_what_the_stage_uses(root, name):
    before = code_hash("localise", root)
    (root / name).write_text(FILES[name] + "# changed\n")
    assert code_hash("localise", root) != before
    (root / name).write_text(FILES[name])
    assert code_hash("localise", root) == before


@pytest.mark.parametrize(
    "name",
    [
        "__init__.py",
        "cli/__init__.py",
        "cli/entry.py",
        "localise/unused.py",
        "localise/data/model.safetensors",
        "store/__init__.py",
        "store/maps.py",
        "report/__init__.py",
    ],
)
def test_hash_stays_with_what_it_does_not_use(root, name):
    before = code_hash("localise", root)
    (root / name).write_text(FILES[name] + "# changed\n")
    assert code_hash("localise", root) == before


BLOCKS = [
    "if X:\n    {}\nelse:\n    pass\n",
    "if X:\n    pass\nelif Y:\n    {}\n",
    "for x in X:\n    pass\nelse:\n    {}\n",
    "while X:\n    {}\n",
    "with X:\n    {}\n",
    "try:\n    {}\nfinally:\n    pass\n",
    "try:\n    pass\nexcept X:\n    {}\n",
    "try:\n    pass\nexcept* X:\n    {}\n",
    "try:\n    pass\nexcept X:\n    pass\nelse:\n    {}\n",
    "try:\n    pass\nfinally:\n    {}\n",
    "match X:\n    case 1:\n        {}\n",
    "class C:\n    def f(self):\n        {}\n",
    "async def f():\n    async with X:\n        async for x in X:\n            {}\n",
]


@pytest.mark.parametrize("block", BLOCKS)
def test_imports_count_wherever_they_stand(root, block):
    (root / "localise/helper.py").write_text(block.format("import lmri.localise.unused"))
    before = code_hash("localise", root)
    (root / "localise/unused.py").write_text("X = 2\n")
    assert code_hash("localise", root) != before


def test_hash_does_not_depend_on_the_place(root, tmp_path):
    moved = tmp_path / "elsewhere" / "lmri"
    moved.parent.mkdir()
    before = code_hash("localise", root)
    root.rename(moved)
    assert code_hash("localise", moved) == before


def test_every_stage_of_the_package_is_found():
    hashes = {stage: code_hash(stage) for stage in ENTRIES}
    assert all(len(value) == 64 for value in hashes.values())


def test_unknown_and_missing_stages(root):
    with pytest.raises(StoreError, match="must be one of"):
        code_hash("dream", root)
    with pytest.raises(StoreError, match="no module"):
        code_hash("validate", root)


def test_provenance_is_json_and_complete():
    made = provenance("report", {"b": 1, "a": [2]}, seed=7, subject_hash="abc")
    assert json.loads(json.dumps(made)) == made
    assert made["config"] == slice_hash({"a": [2], "b": 1})
    assert (made["seed"], made["subject"], made["stage"]) == (7, "abc", "report")
    assert {"torch", "zarr", "numpy", "transformers"} <= set(made["libraries"])
    assert made["code"] == code_hash("report")
