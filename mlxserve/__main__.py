"""Where the program starts, frozen or not."""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path

from mlxserve import bundle
from mlxserve.errors import MlxserveError


def main() -> None:
    """Run the command line and exit with its code."""
    multiprocessing.freeze_support()
    if bundle.is_frozen():
        settle(Path(sys.executable).parent)
    sys.exit(run(sys.argv[1:]))


def settle(folder: Path) -> None:
    """Use the unpacked `folder`, and clear away what earlier builds left."""
    from mlxserve import unpacked

    unpacked.hold(folder)
    unpacked.remove_outdated(folder)


def run(argv: list[str]) -> int:
    """Run `argv` and return the exit code; an error becomes its sentence on stderr."""
    from mlxserve import cli

    try:
        return cli.main(argv)
    except MlxserveError as error:
        print(f"mlxserve: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    main()
