"""Rank 0's part: it offers what it has of the model, and gives what is wanted, read from its files by ranges."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from io import FileIO
from itertools import cycle
from pathlib import Path

from mlxserve.errors import UserError
from mlxserve.models.folder import ModelSource
from mlxserve.models.progress import Report
from mlxserve.models.supply.digest import Digesting
from mlxserve.models.supply.line import PIECE_BYTES, Line, Offer, Range, Wanted
from mlxserve.models.supply.prints import identity_of, prints_of


class Giver:
    """Serves every worker in a thread of its own. Holds no more than two pieces of a file for each, and no array."""

    def __init__(self, source: ModelSource, report: Report, failed: Callable[[str], None]) -> None:
        """`failed` is called, in one of these threads, with a sentence when the files cannot be read."""
        self._source = source
        self._report = report
        self._failed = failed

    def start(self, lines: list[Line]) -> None:
        """Serve from now on."""
        threading.Thread(target=self._begin, args=(lines,), daemon=True, name="giver").start()

    def _begin(self, lines: list[Line]) -> None:
        try:
            offer = self._offer()
        except (UserError, OSError) as error:
            self._failed(str(error))
            return
        for line in lines:
            threading.Thread(target=self._serve, args=(line, offer), daemon=True, name="giver").start()

    def _offer(self) -> Offer:
        source = self._source
        prints = prints_of(source)
        small = {name: path.stat().st_size for name, path in source.small_files.items()}
        return Offer(identity_of(source, prints), source.commit, source.is_whole, small, prints)

    def _serve(self, line: Line, offer: Offer) -> None:
        digesting = Digesting()
        try:
            line.say(offer)
            while True:
                for wanted in line.hear(Wanted).ranges:
                    self._give(line, wanted, offer, digesting)
        except UserError as error:
            self._failed(str(error))
        except (OSError, EOFError):
            pass  # the worker has all it wants; if it is lost, its control link tells
        finally:
            line.close()
            digesting.close()

    def _give(self, line: Line, wanted: Range, offer: Offer, digesting: Digesting) -> None:
        if wanted.file not in offer.small and wanted.file not in offer.weights:
            raise UserError(f"a worker asks for {wanted.file!r}, which is no file of the model")
        path = self._source.bring(wanted.file, self._report)
        for piece in _pieces(path, wanted):
            digesting.add(piece)
            line.send(piece)
        line.send(memoryview(digesting.take()))


def _pieces(path: Path, wanted: Range) -> Iterator[memoryview]:
    """What is wanted of the file, a piece at a time; each stays until the one after the next. Raises UserError."""
    buffers = cycle(memoryview(bytearray(min(PIECE_BYTES, wanted.length))) for _ in range(2))
    with _opened(path, wanted.start) as file:
        left = wanted.length
        while left:
            buffer = next(buffers)
            piece = buffer[: _read(file, buffer[:left])]
            yield piece
            left -= len(piece)


def _opened(path: Path, start: int) -> FileIO:
    try:
        file = FileIO(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    file.seek(start)
    return file


def _read(file: FileIO, place: memoryview) -> int:
    try:
        count = file.readinto(place)
    except OSError as error:
        raise UserError(f"{file.name} cannot be read: {error.strerror}") from error
    if not count:
        raise UserError(f"{file.name} is cut short: get it again")
    return count
