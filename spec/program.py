"""Where the frozen application starts; beside nothing that an import could find by mistake."""

from mlxserve.__main__ import main

main()
