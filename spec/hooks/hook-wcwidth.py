"""Its tables are imported by name; no more than modules is needed of it, and no stubs."""

from PyInstaller.utils.hooks import collect_submodules

hiddenimports = collect_submodules("wcwidth")
