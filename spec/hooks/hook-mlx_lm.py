"""mlx-lm imports these by the names that a model's config and tokenizer config have."""

from PyInstaller.utils.hooks import collect_submodules

hiddenimports = [
    module
    for package in ("models", "tool_parsers", "chat_templates", "processors", "kernels")
    for module in collect_submodules(f"mlx_lm.{package}", on_error="raise")
]
