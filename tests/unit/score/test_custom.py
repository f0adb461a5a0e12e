"""A user's scorer: imported only from where it was named, checked at every step."""

import sys

import pytest

from lmri.errors import ScoreError
from lmri.score import Custom

SOURCE = """
def length(answer, trial):
    return len(answer) / 10

def reads(answer, trial):
    return 1.0 if answer == trial["reference"] else None

def one(answer):
    return 1.0

def fails(answer, trial):
    raise KeyError("gone")

def word(answer, trial):
    return "a"

def undefined(answer, trial):
    return float("nan")

constant = 3
"""
TRIALS = [{"trial": "t1", "reference": "yes"}, {"trial": "t2", "reference": "no"}]


@pytest.fixture
def folder(tmp_path):
    """A folder with a package; forgotten afterwards."""
    package = tmp_path / "lab_of_tests"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "scores.py").write_text(SOURCE)
    (package / "broken.py").write_text("import nowhere_at_all")
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("lab_of_tests")]:
        del sys.modules[name]


def own(folder, function, **options):
    return Custom("lab", f"lab_of_tests.{function}", folder=folder, **options)


def test_a_function_scores_answers_with_their_trials(folder):
    path = list(sys.path)
    found = own(folder, "scores:length", low=0, high=1).score(["yes", "maybe"], TRIALS)
    assert found.tolist() == [0.3, 0.5]
    found = own(folder, "scores:reads").score(["yes", "yes"], TRIALS)
    assert found[0] == 1 and found[1] != found[1]
    assert sys.path == path


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("scores.length", r"must be 'package.module:function'. Got 'lab_of_tests.scores.length'"),
        ("scores:gone", "must be one of lab_of_tests.scores. Got 'gone', which is none"),
        ("scores:constant", "Got 'constant', which is none"),
        ("scores:one", r"must take an answer and a trial. Got lab_of_tests.scores:one\(answer\)"),
        ("broken:length", "cannot be imported .ModuleNotFoundError"),
        ("absent:length", "cannot be imported .ModuleNotFoundError"),
        ("scores:length; import os", "must be 'package.module:function'"),
    ],
)
def test_what_cannot_be_called_is_refused(folder, function, words):
    with pytest.raises(ScoreError, match=words) as info:
        own(folder, function).load()
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("length", r"must give a number in \[0, 0.4\], or None. Got 0.5 on trial 't2'"),
        ("fails", r"failed on trial 't1' \(KeyError: .*gone"),
        ("word", "must give a number .* Got 'a' on trial 't1'"),
        ("undefined", "must give a number .* Got nan"),
    ],
)
def test_what_is_no_score_is_refused(folder, function, words):
    with pytest.raises(ScoreError, match=words):
        own(folder, f"scores:{function}", low=0, high=0.4).score(["yes", "maybe"], TRIALS)


def test_nothing_is_imported_that_was_not_named(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    with pytest.raises(ScoreError, match=r"must be installed\. Found no 'lab_of_tests'"):
        Custom("lab", "lab_of_tests.scores:length").load()
    assert "lab_of_tests" not in sys.modules
    with pytest.raises(ScoreError, match=r"'json' of scorer 'lab' must lie in .* another of that"):
        Custom("lab", "json:dumps", folder=folder).load()
    with pytest.raises(ScoreError, match="folder of scorer 'lab' must exist"):
        Custom("lab", "lab_of_tests.scores:length", folder=folder / "none").load()
    with pytest.raises(ScoreError, match="must go up"):
        own(folder, "scores:length", low=1, high=0).load()


def test_an_installed_package_needs_no_folder():
    with pytest.raises(ScoreError, match="must take an answer and a trial"):
        Custom("lab", "pandas.io.common:is_url").load()
