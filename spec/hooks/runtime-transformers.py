"""Give transformers the list of its classes that was written down when the application was frozen.

It would read them from the source files of its packages, which are not there. (spec/transformers_parts.py)
"""

import importlib.util
import json
import os
import sys

READER = "transformers.utils.import_utils"
ROOT = os.path.join(sys._MEIPASS, "transformers")


class Finder:
    """Finds the module that reads the source files, as it would be found without this, and mends it when loaded."""

    def find_spec(self, name, path, target=None):
        """Called by Python's import."""
        if name != READER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def load_and_mend(module):
            load(module)
            module.define_import_structure = define_import_structure

        spec.loader.exec_module = load_and_mend
        return spec


def define_import_structure(module_path, prefix=None):
    """As the function that it stands in for: `module_path` is the folder of all models, or the `__init__` of a package
    in it, whose modules are then named below that package."""
    package = str(module_path)
    if os.path.basename(package).startswith("__init__."):
        package = os.path.dirname(package)
    parts = os.path.relpath(package, ROOT).split(os.sep)[1:]
    below = "".join(f"{part}." for part in parts)
    ahead = f"{prefix}." if prefix else ""
    with open(os.path.join(ROOT, "import_structure.json"), encoding="utf-8") as file:
        return {
            frozenset(backends): {
                ahead + module.removeprefix(below): set(classes)
                for module, classes in modules.items()
                if module.startswith(below)
            }
            for backends, modules in json.load(file)
        }


sys.meta_path.insert(0, Finder())
