"""Progress: trials, tokens a second, bytes and time left on a terminal; one line in a log."""

import io
import re

import pandas as pd
import pytest

from lmri.record.progress import Progress
from lmri.store import Recording, write_table

BAR = r"(\d+)%\|.*\| ([\d.]+k?)/([\d.]+k?) \[.*token/s, (\d+)/(\d+) trials(?:, [\d.]+ MB)?\]"


class Terminal(io.StringIO):
    def isatty(self):
        return True

    @property
    def lines(self):
        return [line.strip() for line in re.split(r"[\r\n]", self.getvalue()) if line.strip()]


@pytest.fixture
def terminal(monkeypatch):
    """Make a terminal of standard error; in a test, since pytest sets its own before each."""

    def make():
        screen = Terminal()
        monkeypatch.setattr("sys.stderr", screen)
        return screen

    return make


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass as a test says."""
    now = [1000.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    return now


def test_a_terminal_shows_trials_tokens_bytes_and_time_left(terminal, clock):
    screen = terminal()
    progress = Progress("record x", 4, 400)
    clock[0] += 10
    progress.advance(1, 100, 5_000_000)
    last = screen.lines[-1]
    assert last.startswith("record x:  25%|")
    assert "100/400 [00:10<00:30, 10.0token/s, 1/4 trials, 5.0 MB]" in last
    progress.close()


def test_what_will_not_come_shortens_the_time_left(terminal, clock):
    screen = terminal()
    progress = Progress("record x", 4, 400)
    clock[0] += 10
    progress.spare(200)
    progress.advance(2, 100)
    assert "50%" in screen.lines[-1]
    assert "100/200 [00:10<00:10, 10.0token/s, 2/4 trials]" in screen.lines[-1]
    progress.close()
    assert "tokens in" not in screen.getvalue()


def test_a_log_gets_one_line_at_the_end(capsys):
    progress = Progress("record x", 2, 20)
    progress.advance(1, 10, 1_000_000)
    progress.advance(1, 10, 2_500_000)
    assert capsys.readouterr().err == ""
    progress.close()
    line = r"record x: 2 trials, 20 tokens in \d+\.\d s \(\d+ tokens/s\), 2\.5 MB of values\n"
    assert re.fullmatch(line, capsys.readouterr().err)


@pytest.fixture
def few(stimuli, tmp_path):
    """Ten trials of two lengths."""
    table = pd.read_parquet(stimuli).groupby("task").head(5).assign(split="selection")
    write_table(tmp_path / "few.parquet", table)
    return tmp_path / "few.parquet"


@pytest.mark.parametrize("when", ["after", "during"])
@pytest.mark.parametrize("ends", [False, True])
def test_a_recording_ends_at_all_of_its_tokens(
    record, few, tmp_path, terminal, monkeypatch, when, ends
):
    screen = terminal()
    monkeypatch.setattr("tqdm.std.time", iter(range(1, 10**6)).__next__)
    if ends:  # at one word of two
        monkeypatch.setattr("lmri.intervene.decoding.end_tokens", lambda _: list(range(0, 200, 2)))
    record(tmp_path, table=few, when=when, rows=2, quantities=("router",), full=())
    bars = {"after": ["answer tiny", "record tiny"], "during": ["record tiny"]}[when]
    tokens = Recording(tmp_path / "0.zarr").array("tokens/index/trial").shape[0]
    for label in bars:
        drawn = [re.search(BAR, line) for line in screen.lines if line.startswith(label)]
        shares = [int(found[1]) for found in drawn if found]
        assert len(shares) > 3 and shares == sorted(shares) and shares[-1] == 100
        assert drawn[-1][2] == drawn[-1][3] == str(tokens)
        assert drawn[-1][4] == drawn[-1][5] == "10"


@pytest.mark.parametrize("when", ["after", "during"])
def test_a_log_of_a_recording_has_a_line_for_each_pass(record, few, tmp_path, capsys, when):
    record(tmp_path, table=few, when=when, quantities=("router",), full=())
    lines = capsys.readouterr().err.splitlines()
    labels = {"after": ["answer tiny", "record tiny"], "during": ["record tiny"]}[when]
    assert [line.split(":")[0] for line in lines] == labels
    assert all("10 trials, " in line and "tokens/s" in line for line in lines)
