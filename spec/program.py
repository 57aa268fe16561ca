"""Where the frozen application starts; beside nothing that an import could find by mistake."""

import os

from mlxserve.bundle import restore_environment

restore_environment(os.environ)

from mlxserve.__main__ import main  # noqa: E402

main()
