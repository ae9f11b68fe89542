"""The kernel as a drop-in module: `Optimized` takes the place of the reference's `Model`.

Works as `import op` beside this file or as a module of a package; needs torch and this folder.
"""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType


def _support() -> ModuleType:
    folder = Path(__file__).resolve().parent
    op = json.loads((folder / "export.json").read_text())["op"]
    name = f"kernelevolve_export_{op}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, folder / "_support" / "optimized.py")
        assert spec is not None  # noqa: S101  the file is part of the export
        assert spec.loader is not None  # noqa: S101
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


support = _support()
Optimized = support.Optimized
from_reference = support.from_reference
load = support.load
