"""Lets candidates with `torch.utils.cpp_extension.load_inline` be built once, ahead of their runs.

`python -m kernelevolve.runtime.inline model.py` imports the file, so that every extension it asks
for is built below `.build/inline/`; `use_prebuilt` makes later imports find them there.
"""

import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(".build") / "inline"


def build_into(folder: Path) -> None:
    """Redirect `load_inline` to build below `folder`."""
    from torch.utils import cpp_extension

    real: Callable[..., Any] = cpp_extension.load_inline

    def load_inline(name: str, *sources: Any, **options: Any) -> Any:
        target = folder / FOLDER / name
        target.mkdir(parents=True, exist_ok=True)
        return real(name, *sources, **{**options, "build_directory": str(target)})

    cpp_extension.load_inline = load_inline


def use_prebuilt(folder: Path) -> None:
    """Redirect `load_inline` to what was built below `folder`, where anything was."""
    if not (folder / FOLDER).is_dir():
        return
    from torch.utils import cpp_extension

    def load_inline(name: str, *sources: Any, **options: Any) -> Any:
        import_library: Callable[..., Any] = cpp_extension._import_module_from_library
        return import_library(name, str(folder / FOLDER / name), True)

    cpp_extension.load_inline = load_inline


if __name__ == "__main__":
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"  # noqa: TID251
    build_into(Path.cwd())
    sys.path.insert(0, str(Path.cwd()))
    runpy.run_path(sys.argv[1], run_name="model")
