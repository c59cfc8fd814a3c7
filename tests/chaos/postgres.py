"""A PostgreSQL server of our own, to be ill-treated."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import psutil
import psycopg

ROOT = Path(__file__).resolve().parents[2]


def has_postgres() -> bool:
    """Whether the server's programs are on this machine."""
    return bool(list(Path("/usr/lib/postgresql").glob("*/bin/initdb")))


class Postgres:
    """A new server in a folder of its own."""

    def __init__(self, password: str = "") -> None:
        # Not pytest's folder: the server's owner, who is not root, could not reach it.
        self.folder = Path(tempfile.mkdtemp(prefix="eacps-postgres-"))
        self.folder.chmod(0o755)
        url = self._do("start")
        self.url = url.replace("eacps@", f"eacps:{password}@", 1) if password else url
        self._held: list[psycopg.Connection[tuple[object, ...]]] = []

    def crash(self) -> None:
        """Stop it as a power cut does."""
        self._do("crash")

    def resume(self) -> None:
        """Start it again."""
        self._do("resume")

    def stop(self) -> None:
        """Stop it as its administrator does."""
        self._do("stop")

    def remove(self) -> None:
        """Stop it for good, also after a test left it crashed."""
        with contextlib.suppress(RuntimeError):
            self.stop()
        shutil.rmtree(self.folder)

    def set_read_only(self, value: bool) -> None:
        """As a standby is."""
        state = "on" if value else "off"
        self._do_sql(
            "SET default_transaction_read_only = off",
            f"ALTER SYSTEM SET default_transaction_read_only = {state}",
            "SELECT pg_reload_conf()",
        )

    def limit_connections(self, count: int) -> None:
        """Allow only so many connections."""
        self._do_sql(
            f"ALTER SYSTEM SET max_connections = {count}",
            "ALTER SYSTEM SET superuser_reserved_connections = 0",
        )
        self.stop()
        self.resume()

    def use_up_connections(self) -> None:
        """Take all connections that are left."""
        while True:
            try:
                self._held.append(psycopg.connect(self.url, autocommit=True))
            except psycopg.OperationalError:
                return

    def free_connections(self) -> None:
        """Give them back."""
        for connection in self._held:
            connection.close()
        self._held.clear()

    def end_connections(self) -> None:
        """Cut the connections of everybody else."""
        self._do_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        )

    def freeze(self, value: bool) -> None:
        """Let the server neither answer nor refuse, or go on."""
        first = (self.folder / "cluster" / "data" / "postmaster.pid").read_text().split("\n")[0]
        server = psutil.Process(int(first))
        for process in (server, *server.children(recursive=True)):
            try:
                os.kill(process.pid, signal.SIGSTOP if value else signal.SIGCONT)
            except ProcessLookupError:
                continue

    def _do_sql(self, *statements: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def _do(self, action: str) -> str:
        command = [str(ROOT / ".ci" / "postgres"), action, str(self.folder / "cluster")]
        # The server keeps the pipe of what started it open, so nothing may be read to its end.
        with tempfile.TemporaryFile("w+") as shown:
            done = subprocess.run(command, check=False, stdout=shown, stderr=shown)
            shown.seek(0)
            text = shown.read().strip()
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {text}")
        return text
