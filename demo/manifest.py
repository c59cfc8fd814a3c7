"""Write the pack's manifest: `python -m demo.manifest [DIR]`; `eacps.weights` checks it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from eacps.files import file_hash
from eacps.settings import DEMO_PACK
from eacps.weights import FORMAT, MANIFEST, verify_manifest

PACK: Final = DEMO_PACK


def write_manifest(folder: Path) -> Path:
    """List every file of the pack's parts (its subfolders) with its size and sha256."""
    files = {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": file_hash(path),
        }
        for path in sorted(folder.glob("*/**/*"))
        if path.is_file() and not path.name.startswith(".")
    }
    manifest = folder / MANIFEST
    content = {"format": FORMAT, "files": files}
    manifest.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    return manifest


def main() -> None:
    """Write the manifest and check all files against it."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else PACK
    manifest = write_manifest(folder)
    verify_manifest(folder)
    print(f"{manifest}: {len(json.loads(manifest.read_text())['files'])} files")


if __name__ == "__main__":
    main()
