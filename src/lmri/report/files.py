"""The data behind the figures: CSV files beside the page."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

FOLDER = "files"


class Files:
    """Collects tables until the report is written.

    The name of a file is made from anchors, which hold nothing but letters, digits and hyphens.
    """

    def __init__(self) -> None:
        self._frames: dict[str, pd.DataFrame] = {}

    def add(self, name: str, frame: pd.DataFrame) -> str:
        """Keep a table for writing.

        Parameters
        ----------
        name : str
            Name without suffix; adding the same name again replaces the table.
        frame : DataFrame
            The table; an empty one is not written.

        Returns
        -------
        str
            Path relative to the report, empty when there is nothing to write.
        """
        if frame.empty:
            return ""
        self._frames[name] = frame
        return f"{FOLDER}/{name}.csv"

    def write(self, folder: Path) -> None:
        """Write all tables.

        Parameters
        ----------
        folder : Path
            Folder of the report.
        """
        (folder / FOLDER).mkdir()
        for name, frame in self._frames.items():
            frame.to_csv(folder / FOLDER / f"{name}.csv", index=False)
