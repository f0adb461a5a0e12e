import subprocess
import sys

import pytest


def test_import_contracts_hold(repository):
    pytest.importorskip("importlinter", reason="the extra 'lint' is not installed")
    code = "from importlinter.cli import lint_imports_command as run; run(['--no-cache'])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
