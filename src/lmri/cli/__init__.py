"""The command line: one sub-command per rule of the workflow."""

from lmri.cli.entry import COMMANDS, build_parser, main, user_message

__all__ = ["COMMANDS", "build_parser", "main", "user_message"]
