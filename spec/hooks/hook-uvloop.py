"""uvloop is written in Cython, whose imports PyInstaller does not see: its own parts, and the standard library's."""

from PyInstaller.utils.hooks import collect_submodules

hiddenimports = [
    *collect_submodules("uvloop", filter=lambda name: not name.startswith("uvloop._testbase")),
    *("asyncio.sslproto", "concurrent.futures", "signal", "socket", "ssl", "subprocess", "threading"),
]
