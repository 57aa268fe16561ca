"""Stop strings: where an answer ends, though the model goes on."""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Lets text through until a stop string is complete, and holds back only what may be the start of one.

    Of several, the one that is complete first counts, so the result does not depend on how the text was cut.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        """`strings`: none of them empty."""
        self._strings = strings
        self._held = ""
        self.found = False
        self.string = ""
        """The one that was found; empty until then."""

    def feed(self, text: str) -> str:
        """The text that is certain to be part of the answer now; after a stop string nothing is."""
        if self.found or not self._strings:
            return "" if self.found else text
        text = self._held + text
        matches = [(at + len(stop), at, stop) for stop in self._strings if (at := text.find(stop)) >= 0]
        if matches:
            self.found, self._held = True, ""
            _, end, self.string = min(matches)
        else:
            end = min(_possible_start(text, stop) for stop in self._strings)
            self._held = text[end:]
        return text[:end]

    def flush(self) -> str:
        """What is held back: no more text comes, so it is no stop string."""
        held, self._held = self._held, ""
        return held


def _possible_start(text: str, stop: str) -> int:
    """Where the longest end of `text` begins that is a beginning of `stop`; len(text) if none is."""
    at = text.find(stop[0], max(0, len(text) - len(stop) + 1))
    while at >= 0 and not stop.startswith(text[at:]):
        at = text.find(stop[0], at + 1)
    return at if at >= 0 else len(text)
