"""MLX imports its private modules from C++. The others are found as usual: collecting all was seen to load it twice."""

import importlib.util
from pathlib import Path

folders = importlib.util.find_spec("mlx").submodule_search_locations
modules = {file.stem for folder in folders for file in Path(folder).glob("_*.py")}
hiddenimports = [f"mlx.{module}" for module in sorted(modules - {"__main__"})]
