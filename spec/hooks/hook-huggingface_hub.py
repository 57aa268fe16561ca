"""huggingface_hub imports its modules when their names are first asked for."""

from PyInstaller.utils.hooks import collect_submodules

UNUSED = ("huggingface_hub.cli", "huggingface_hub.inference._mcp")

hiddenimports = collect_submodules("huggingface_hub", filter=lambda name: not name.startswith(UNUSED))
