"""Run first in the frozen application: Ctrl-C while all else is loaded ends it without a traceback."""

import _signal  # not signal, which takes longer to load

if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
