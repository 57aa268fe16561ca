"""The words of `mlxserve service`."""

from __future__ import annotations

import argparse


def add_service_words(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the actions of `service` and their flags."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("--name", metavar="NAME", default="", help="tells several services of one machine apart")
    purpose = "run a launch or serve command from now on, also after the machine starts anew"
    installing = actions.add_parser("install", parents=[named], help=purpose, description=purpose, allow_abbrev=False)
    installing.add_argument("--print", action="store_true", help="show the file and where it goes; change nothing")
    installing.add_argument("words", metavar="COMMAND …", nargs=argparse.REMAINDER, help="launch or serve, with flags")
    for action, purpose in (("remove", "stop it and delete its file"), ("status", "show whether it runs")):
        actions.add_parser(action, parents=[named], help=purpose, description=purpose, allow_abbrev=False)
