"""The README leads where it says; a wrong command or path in it is found and its line named."""

import subprocess
import sys

import pytest

START = "# lmri\n\n## Two commands\n\n```\nmake demo  # sets up\nmake test  # tests\n```\n\n"


@pytest.fixture
def newcomer(repository, tmp_path):
    """Check a README, that of the repository if no text is given."""

    def run(text: str | None = None, *flags: str) -> subprocess.CompletedProcess:
        readme = repository / "README.md"
        if text is not None:
            readme = tmp_path / "README.md"
            readme.write_text(text, encoding="utf-8")
        command = [sys.executable, repository / ".ci/newcomer", "--readme", readme, *flags]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)

    return run


@pytest.mark.slow
def test_every_command_and_path_of_the_readme_is_there(newcomer):
    done = newcomer(None, "--check")
    assert done.returncode == 0, done.stderr


def test_a_right_readme_is_told_so(newcomer):
    text = "[a page](docs/tutorial.md#1-setup), `config/config.yaml`, `a * b`, `results/mine`\n"
    done = newcomer(START + text, "--check")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("```\nmake dmo\n```\n", "README.md:11: make dmo: "),
        (
            "```\n.venv/bin/lmri checking my_study.yaml\n```\n",
            "README.md:11: .venv/bin/lmri checking",
        ),
        ("```\n.venv/bin/lmri export --nothing\n```\n", "unrecognized arguments|required"),
        ("```\nsnakemaek --cores 2\n```\n", "there is no program snakemaek"),
        ("```\n.ci/running\n```\n", "there is no program .ci/running"),
        ("See [a page](docs/nowhere.md).\n", "README.md:10: ./docs/nowhere.md: there is no"),
        ("Copy `config/nothing.yaml`.\n", "README.md:10: config/nothing.yaml: there is no"),
        ("Type `make nothing` then.\n", "README.md:10: make nothing: "),
    ],
)
def test_what_is_wrong_is_named_with_its_line(newcomer, text, told):
    done = newcomer(START + text, "--check")
    assert done.returncode == 1
    assert any(part in done.stderr for part in told.split("|")), done.stderr
    assert "Traceback" not in done.stderr


def test_commands_are_typed_in_a_clean_copy_with_an_empty_home(newcomer, monkeypatch):
    monkeypatch.setenv("SECRET_OF_MINE", "known")
    monkeypatch.setenv("PIP_INDEX_URL", "https://index")
    say = 'echo "home: $(ls -A $HOME | wc -l) $SECRET_OF_MINE$PIP_INDEX_URL"; ls -A; ls docs'
    done = newcomer(f"## Two commands\n\n```\n{say}\n```\n\n## Others\n\n```\nfalse\n```\n")
    assert "home: 0 https://index\n" in done.stdout
    assert "known" not in done.stdout
    there = done.stdout.split()
    assert {"README.md", "Makefile", "tutorial.md", "src", ".git"} <= set(there)
    assert not {".venv", ".snakemake"} & set(there)
    # The study it should have left behind is not there.
    assert done.returncode == 1
    assert "no results/default/report/index.html" in done.stderr


def test_a_command_that_fails_ends_it(newcomer):
    done = newcomer("## Two commands\n\n```\nexit 3\ntouch never\n```\n", "--only", "exit")
    assert done.returncode == 1
    assert "README.md:4: exit 3: ended with 3" in done.stderr
    assert "newcomer: touch" not in done.stdout
    nothing = newcomer("# lmri\n")
    assert nothing.returncode == 1
    assert "there is no command" in nothing.stderr
