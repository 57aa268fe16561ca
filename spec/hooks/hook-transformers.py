"""transformers imports tokenizers and configs by name. In place of the hook that comes with PyInstaller's collection,
which adds all source files, for PyTorch's sake."""

from transformers_parts import found_by_name

hiddenimports = found_by_name()
