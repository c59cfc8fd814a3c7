"""The system under test: `eacps serve`, on Postgres a second host, a Label Studio, a store."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from eacps.jobs.client import JobClient
from eacps.settings import Settings
from tests.chaos.faults import plugin
from tests.chaos.faults.label_studio import FaultyLabelStudio
from tests.chaos.postgres import Postgres
from tests.label_studio_server import free_port
from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[3]
PLUGIN = Path(plugin.__file__)
USER, PASSWORD = "label-studio", "a-password-of-the-web-server"
DATABASE_PASSWORD = "a-password-of-the-database"
MARKS = {"web": "gunicorn", "orchestrator": "--orchestrator", "worker": "--slot"}
CANDIDATES = 4
CONNECTIONS = 90
DISK = "96m"


class Mount:
    """A small disk of its own, if this user may mount one."""

    def __init__(self, folder: Path, *, wanted: bool = True) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.mounted = wanted and self._mount(
            "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)
        )

    def set_read_only(self, value: bool) -> bool:
        """Whether that was possible: a file that is being written prevents it."""
        return self._mount("-o", f"remount,{'ro' if value else 'rw'}", str(self.folder))

    def fill(self) -> None:
        """Leave no byte free."""
        size = 1_000_000
        with suppress(OSError), (self.folder / "ballast").open("ab", buffering=0) as ballast:
            while size:
                try:
                    ballast.write(b"x" * size)
                except OSError:
                    size //= 2

    def free(self) -> None:
        """Give the space back."""
        (self.folder / "ballast").unlink(missing_ok=True)

    def remove(self) -> None:
        """Unmount it."""
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.folder)], check=False)

    @staticmethod
    def _mount(*arguments: str) -> bool:
        try:
            done = subprocess.run(["mount", *arguments], capture_output=True, check=False)
        except OSError:
            return False
        return done.returncode == 0


class Host:
    """A machine with its supervisor, which is started again when it ends, as systemd does."""

    def __init__(self, name: str, arguments: Sequence[str], variables: Mapping[str, str],
                 log: Path) -> None:  # fmt: skip
        self.name = name
        self.starts = 0
        self._command = [sys.executable, "-m", "eacps", *arguments]
        self._variables = {**variables, "EACPS_HOST_NAME": name}
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._due = 0.0
        self._known: dict[int, psutil.Process] = {}

    def keep_running(self) -> None:
        """Start it if it is not running."""
        if self._process is not None and self._process.poll() is None:
            return
        if self._process is not None:
            self._process = None
            self._due = time.monotonic() + 1
        if time.monotonic() < self._due:
            return
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._log.parent,
                env=self._variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.starts += 1

    def stop(self) -> None:
        """As Ctrl-C does."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(PATIENCE)
        self._process = None

    def processes(self, role: str) -> list[psutil.Process]:
        """The live processes of a role: supervisor, web, orchestrator, worker, everything."""
        tree = self._tree()
        if role == "everything":
            return tree
        if role == "supervisor":
            return tree[:1]
        return [process for process in tree[1:] if MARKS[role] in _command_line(process)]

    def _tree(self) -> list[psutil.Process]:
        if self._process is None or self._process.poll() is not None:
            return []
        try:
            supervisor = psutil.Process(self._process.pid)
            return [supervisor, *supervisor.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def _command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


class System:
    """All of it, in a folder of its own."""

    def __init__(
        self, database: str, *, render_seconds: float = 0.2, small_disks: bool = True
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="eacps-faults-"))
        self.notes = self.folder / "renders.jsonl"
        self.notes.touch()
        self.log = self.folder / "log"
        self.log.touch()
        self.postgres: Postgres | None = None
        self.disk = Mount(self.folder / "disk", wanted=small_disks)
        self.store_disk = Mount(self.folder / "store-disk", wanted=small_disks)
        self.store = self.folder / "store"
        self.store.mkdir()
        self.put_store_back()
        self.label_studio = FaultyLabelStudio()
        self.label_studio.__enter__()
        if database == "postgres":
            self.postgres = Postgres(DATABASE_PASSWORD)
            self.postgres.limit_connections(CONNECTIONS)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.label_studio.connect(self.url)
        self.variables = self._variables(port, render_seconds)
        self.hosts = [Host("first", ["serve"], self.variables, self.log)]
        if self.postgres:
            other = {**self.variables, "EACPS_DATA_DIR": str(self.folder / "other")}
            self.hosts.append(Host("second", ["worker"], other, self.log))

    @property
    def settings(self) -> Settings:
        """To look into the database and the store."""
        return Settings(
            _env_file=None,
            data_dir=self.disk.folder,
            database_url=self.variables["EACPS_DATABASE_URL"],
            artifacts_url=self.variables["EACPS_ARTIFACTS_URL"],
        )

    def client(self) -> JobClient:
        """The queue, as our own commands see it."""
        return JobClient(self.settings)

    def keep_running(self) -> None:
        """Start again what ended."""
        for host in self.hosts:
            host.keep_running()

    def take_store_away(self) -> None:
        """As a mount that is lost: the folder is there and empty."""
        self._unmount_store()

    def put_store_back(self) -> None:
        """What was written into the empty folder is hidden again."""
        source, target = str(self.store_disk.folder), str(self.store)
        self.store_is_mounted = Mount._mount("--bind", source, target)

    def break_store(self) -> None:
        """A file in place of the folder."""
        if self.store_is_mounted:
            self._unmount_store()
        self.store.rename(self.folder / "store-aside")
        self.store.write_text("no folder")

    def mend_store(self) -> None:
        """The folder again."""
        self.store.unlink()
        (self.folder / "store-aside").rename(self.store)
        if self.store_disk.mounted:
            self.put_store_back()

    def _unmount_store(self) -> None:
        subprocess.run(["umount", "-l", str(self.store)], check=True)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One `eacps` command on the first host."""
        return subprocess.run(
            [sys.executable, "-m", "eacps", *arguments],
            cwd=self.folder,
            env={**self.variables, "EACPS_HOST_NAME": "first"},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def render_notes(self) -> list[dict[str, Any]]:
        """What the editor noted."""
        return [json.loads(line) for line in self.notes.read_text().splitlines()]

    def leftovers(self) -> list[psutil.Process]:
        """Processes of this system that live, whoever started them."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(plugin.NOTES) == str(self.notes):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def close(self, *, keep: bool = False) -> None:
        """End everything; the folder stays if it is to be looked at."""
        for process in self.leftovers():
            for number in (signal.SIGCONT, signal.SIGKILL):
                try:
                    process.send_signal(number)
                except psutil.NoSuchProcess:
                    break
        self.label_studio.__exit__()
        if self.postgres:
            self.postgres.freeze(False)
            self.postgres.remove()
        if not keep:
            if self.store_is_mounted:
                self._unmount_store()
            self.store_disk.remove()
            self.disk.remove()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _variables(self, port: int, render_seconds: float) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("EACPS_", "LABEL_ST"))}
        return {
            **kept,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "backend"), str(ROOT)]),
            "HF_HUB_OFFLINE": "1",
            plugin.NOTES: str(self.notes),
            plugin.SECONDS: str(render_seconds),
            "LABEL_STUDIO_URL": self.label_studio.url,
            "LABEL_STUDIO_API_KEY": self.label_studio.token,
            "EACPS_BASIC_AUTH_USER": USER,
            "EACPS_BASIC_AUTH_PASS": PASSWORD,
            "EACPS_DATA_DIR": str(self.disk.folder),
            "EACPS_DATABASE_URL": self.postgres.url if self.postgres else "",
            "EACPS_ARTIFACTS_URL": f"file://{self.store}",
            "EACPS_PORT": str(port),
            "EACPS_DEVICES": "cpu",
            "EACPS_THREADS": "1",
            "EACPS_EDITOR": f"{PLUGIN}:Painter",
            "EACPS_SCORERS": f"{PLUGIN}:Grey",
            "EACPS_POTENTIAL": "weighted",
            "EACPS_WEIGHTS": '{"grey": 1}',
            "EACPS_STRATEGY": "eacps",
            "EACPS_STRATEGY_PARAMS": '{"k": 2, "m": 1, "k_local": 2}',
            "EACPS_BATCH_SIZE": "1",
            "EACPS_PREDICT_WAIT_SECONDS": "0",
            "EACPS_CATCH_UP_MINUTES": "0.5",
            "EACPS_BATCH_TIMEOUT_SECONDS": "30",
            # Long enough that a busy machine does not look like a dead one.
            "EACPS_STALE_AFTER_SECONDS": "12",
        }
