"""Where the program starts, frozen or not. Nothing is imported here that takes time: see `end_at_once`."""

from __future__ import annotations

import gc
import os
import signal
import sys

from mlxserve import streams
from mlxserve.errors import MlxserveError

INTERRUPTED = 128 + signal.SIGINT
UNREAD = 128 + signal.SIGPIPE
"""The exit code where nobody reads the output any more, as shells have it."""
YOUNG_OBJECTS = 50_000
"""New objects after which garbage is looked for: there is hardly any in what is loaded, and in what streams have."""


def main() -> None:
    """Run the command line and exit with its code."""
    end_at_once()
    gc.set_threshold(YOUNG_OBJECTS)
    streams.complete()
    settle()
    try:
        code = run(sys.argv[1:])
    finally:
        end_at_once()
        streams.flush()
    sys.exit(code)


def end_at_once() -> None:
    """Let Ctrl-C end the program without a traceback wherever no command has its own handler: while all is loaded."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # it may be ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def settle() -> None:
    """Make the frozen application at home: in its environment and its folder, without what earlier builds left."""
    import multiprocessing
    from pathlib import Path

    from mlxserve import bundle

    bundle.restore_environment(os.environ)
    multiprocessing.freeze_support()
    if bundle.is_frozen():
        from mlxserve import unpacked

        folder = Path(sys.executable).parent
        unpacked.hold(folder)
        unpacked.remove_outdated(folder)


def run(argv: list[str]) -> int:
    """Run `argv` and return the exit code; an error becomes its sentence on stderr."""
    from mlxserve import cli

    try:
        code = cli.main(argv)
        sys.stdout.flush()
        return code
    except MlxserveError as error:
        return _told(str(error), error.exit_code)
    except BrokenPipeError:
        return UNREAD
    except OSError as error:
        place = "" if error.filename is None else f": {error.filename}"
        return _told(f"cannot go on: {error.strerror or error}{place}", MlxserveError.exit_code)
    except KeyboardInterrupt:
        return INTERRUPTED


def _told(sentence: str, code: int) -> int:
    try:
        print(f"mlxserve: error: {sentence}", file=sys.stderr)
    except OSError:
        streams.drop(sys.stderr)
    return code


if __name__ == "__main__":
    main()
