"""Put on record what this version stores: `python -m tests.unit.stored.write 0.2`."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from eacps.domain import to_json
from tests.unit.stored import examples


def main(version: str) -> None:
    """Write every format; refuses to change a record that is there."""
    folder = Path(__file__).parents[2] / "fixtures" / "stored" / version / "formats"
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as place:
        report = to_json(dict(examples.run_report(Path(place))))
    texts: dict[str, Any] = {**examples.texts(), "run.json": report}
    texts["state-owner.json"] = examples.state_owners()[0]
    for name, content in texts.items():
        text = json.dumps(content, indent=1, ensure_ascii=False)
        (folder / name).write_text(f"{text}\n", encoding="utf-8")
    (folder / "state.safetensors").write_bytes(examples.paused_state())


if __name__ == "__main__":
    main(sys.argv[1])
