"""`eacps connect`: connects a Label Studio project to this backend, wholly or not at all; safe to
repeat."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit

from eacps.errors import EacpsError
from eacps.faces.readiness import CONSENT, readiness
from eacps.labelstudio import label_config, merging
from eacps.labelstudio.client import MISSING, SSRF, LabelStudioClient, open_client
from eacps.labelstudio.config_choice import ConfigChoice, choose_config, require_accepted
from eacps.labelstudio.connection_record import Record, Records
from eacps.labelstudio.connections import (
    CONNECTED,
    OUR_TITLE,
    SWALLOWS_MARKS,
    UNREACHABLE,
    backend_body,
    has_url,
    row_of,
    serves,
    webhook_body,
)
from eacps.labelstudio.errors import LabelStudioError
from eacps.labelstudio.panel import addresses
from eacps.labelstudio.review_tab import tabs_of
from eacps.labelstudio.steps import Line, Report, Step, run, show
from eacps.labelstudio.tasks.choices import Choices, choices_of
from eacps.labelstudio.tasks.origins import project_version
from eacps.labelstudio.tasks.regions import mapping
from eacps.settings import Settings

WANTED_SETTINGS: Final[Mapping[str, bool]] = {
    "evaluate_predictions_automatically": True,
    "show_collab_predictions": True,
}


@dataclass(frozen=True)
class _Found:
    """A project as it is."""

    number: int
    title: str
    row: Mapping[str, Any]
    summary: Mapping[str, Any]
    backends: Sequence[Mapping[str, Any]]
    webhooks: Sequence[Mapping[str, Any]]
    tabs: Sequence[Mapping[str, Any]]

    @property
    def config(self) -> str:
        return str(self.row.get("label_config") or "")

    @property
    def tasks(self) -> int:
        return int(self.row.get("task_number") or 0)


def connect(
    settings: Settings,
    project: int | str,
    *,
    create: bool = False,
    backend_url: str = "",
    replace_config: bool = False,
    dry_run: bool = False,
    tell: Callable[[Line], None] = lambda _: None,
) -> list[Line]:
    """Connect a project, given by number or title; reports what was done or is wrong.

    `create` creates a missing project. `replace_config` installs the review label config in place
    of the project's own, instead of adding to it. `dry_run` only says what would be done.
    """
    report = Report(tell)
    try:
        client = open_client(settings)
        report.add("ok", f"Label Studio at {client.url} accepts the token of {client.whoami()}.")
        url = (backend_url or settings.resolved_public_url).rstrip("/")
        command = _Connect(settings, client, url, report, replace_config)
        command.connect(project, create, dry_run)
    except EacpsError as error:
        report.add("fail", str(error))
    except KeyboardInterrupt:
        report.add("fail", "Interrupted.")
        raise
    return report.lines


class _Connect:
    def __init__(
        self,
        settings: Settings,
        client: LabelStudioClient,
        url: str,
        report: Report,
        replace_config: bool,
    ) -> None:
        self._settings = settings
        self._client = client
        self._url = url
        self._report = report
        self._replace_config = replace_config
        self._backend_rows: _NewRows | None = None
        self.records = Records(settings.data_dir, client.url)

    def connect(self, wanted: int | str, create: bool, dry_run: bool) -> None:
        number = find_project(self._client, wanted, create)
        if number is None:
            with self.records.alone(str(wanted)):
                # Another command may have just created it.
                number = find_project(self._client, wanted, create)
                if number is None:
                    self._create_and_connect(str(wanted), dry_run)
                    return
        with self.records.alone(number):
            found = _found(self._client, number)
            self._report.add("ok", _introduction(found))
            self._connect(found, dry_run)

    def _create_and_connect(self, title: str, dry_run: bool) -> None:
        config = label_config.label_config(self._settings, self._url)
        plan = f"Create the project “{title}” with the review screen."
        if dry_run:
            self._report.add("plan", plan)
            self._report.add("plan", f"Connect it to {self._url}: ML backend, webhook, two tabs.")
            self._end_dry_run()
            return
        made: list[int] = []

        def create() -> str:
            body = {"title": title, "label_config": config, **WANTED_SETTINGS}
            made.append(int(self._client.call("POST", "/api/projects/", json=body)["id"]))
            return f"Project {made[0]} “{title}” was created."

        def remove() -> None:
            for number in made:
                self._client.call("DELETE", f"/api/projects/{number}/")

        def connect_it() -> str:
            with self.records.alone(made[0]):
                self._connect(_found(self._client, made[0]), dry_run)
            return ""

        run([Step(plan, create, remove), Step("", connect_it)], self._report)

    def _connect(self, found: _Found, dry_run: bool) -> None:
        config = choose_config(
            found.config, self._settings, self._url, instead=self._replace_config
        )
        if config.warning:
            self._report.add("warn", config.warning)
        if config.new is not None:
            used = mapping(found.summary.get("created_annotations"))
            require_accepted(
                self._client, found.number, used, config.new, instead=self._replace_config
            )
        self._require_fields(found)
        steps = [
            *self._backend_steps(found, config.new or found.config),
            *self._webhook_steps(found),
            *self._config_steps(found, config),
            *self._settings_steps(found),
            *self._tab_steps(found),
        ]
        show(steps, self._report)
        if dry_run:
            self._end_dry_run()
            return
        self._remember(found)
        run(steps, self._report)
        self._remember_tabs(found.number)
        self._say_what_is_in_place(found, config)
        self._warn_of_the_panel()
        self._warn_of_faces(found)
        self._say_what_is_next(found)

    # The label config

    def _config_steps(self, found: _Found, config: ConfigChoice) -> list[Step]:
        new = config.new
        if new is None:
            return []
        path = f"/api/projects/{found.number}/"

        def install() -> str:
            if self._client.project(found.number).get("label_config") != found.row["label_config"]:
                raise LabelStudioError(
                    "Somebody changed the label config in the meantime.",
                    hint="Run the same command again.",
                )
            copy = self.records.keep_copy(found.number, found.config)
            self._client.call("PATCH", path, json={"label_config": new})
            return f"{config.done} A copy of the earlier one is in {copy}."

        def put_back() -> None:
            if self._client.project(found.number).get("label_config") == new:
                self._client.call("PATCH", path, json={"label_config": found.config})

        return [Step(config.plan, install, put_back)]

    # The ML backend

    def _backend_steps(self, found: _Found, config: str) -> list[Step]:
        row = row_of(found.backends, self._url)
        moved = next((r for r in found.backends if OUR_TITLE.fullmatch(str(r["title"]))), None)
        extra = (row or moved or {}).get("extra_params")
        version = project_version(config, extra, self._settings)
        body = backend_body(found.number, self._url, self._settings, version, extra)
        if row is None:
            return self._move(found, moved, body) if moved else self._add_backend(found, body)
        check_state(row, self._url)
        renamed = row.get("title") != body["title"]
        interactive = bool(row.get("is_interactive"))
        if not renamed and not interactive and not self._settings.basic_auth_user:
            return []
        said = f"Label Studio now shows the scores of {body['title']}."
        plan = f"Show the scores of {body['title']} instead of {row.get('title')}."
        step = self._patch_backend(found, row, body)
        if interactive and not renamed:
            said = f"{SWALLOWS_MARKS} were switched off."
            plan = f"Switch off {SWALLOWS_MARKS[0].lower()}{SWALLOWS_MARKS[1:].rstrip(',')}."
            return [replace(step, plan=plan, do=_saying(step.do, said))]
        return [replace(step, plan=plan, do=_saying(step.do, said)) if renamed else step]

    def _add_backend(self, found: _Found, body: Mapping[str, Any]) -> list[Step]:
        rows = _NewRows(self._client, "/api/ml", found.number, self._url, found.backends)

        def add() -> str:
            try:
                rows.add(body)
            except LabelStudioError as error:
                self._explain(found.number, error)
                raise
            check_state(rows.kept(), self._url)
            return f"The ML backend is now {self._url}."

        self._backend_rows = rows
        return [Step(f"Add the ML backend {self._url}.", add, rows.remove)]

    def _move(self, found: _Found, row: Mapping[str, Any], body: Mapping[str, Any]) -> list[Step]:
        """Another address of this backend. Label Studio would wait a second for the old one on
        every event, so its webhook goes, too."""
        old = str(row["url"]).rstrip("/")
        step = self._patch_backend(found, row, body)
        hooks = [hook for hook in found.webhooks if has_url(hook, f"{old}/webhook")]
        plan = f"Change the ML backend's address from {old} to {self._url}."
        moved = replace(step, plan=plan, do=_saying(step.do, f"The ML backend is now {self._url}."))
        return [moved, *(self._delete_webhook(found.number, hook) for hook in hooks)]

    def _patch_backend(
        self, found: _Found, row: Mapping[str, Any], body: Mapping[str, Any]
    ) -> Step:
        path = f"/api/ml/{row['id']}"

        def change() -> str:
            try:
                changed = self._client.call("PATCH", path, json=body)
            except LabelStudioError as error:
                self._explain(found.number, error)
                raise
            check_state(changed, self._url)
            return ""

        def put_back() -> None:
            earlier = {key: row.get(key) for key in ("url", "title", "is_interactive")}
            self._client.call("PATCH", path, json={**earlier, "project": found.number})

        return Step("", change, put_back)

    def _explain(self, project: int, error: LabelStudioError) -> None:
        """Raise what an error of Label Studio means for the backend's address."""
        if error.code == SSRF:
            if row_of(self._client.list_rows("/api/ml", project=project), self._url) is not None:
                self._report.add(
                    "warn",
                    "Label Studio created the ML backend but refused its webhook. Setting only "
                    "ML_BLOCK_LOCAL_IP=false causes this.",
                )
            return
        lowered = error.message.lower()
        if "can't connect to ml backend" in lowered or "health check failed" in lowered:
            message = UNREACHABLE.format(url=self._url)
            raise LabelStudioError(message, code="backend_unreachable") from None
        host = urlsplit(self._url).hostname or ""
        # For an IPv6 address, some versions and settings of Label Studio answer only "500".
        if "can't resolve hostname" in lowered or ":" in host:
            raise LabelStudioError(
                f"Label Studio finds no IPv4 address for {host}.",
                hint="It reaches no IPv6 addresses: set EACPS_PUBLIC_URL to a name or address that "
                "leads to this backend by IPv4, and EACPS_HOST to that address.",
                code="backend_unreachable",
            ) from None
        if "valid ml backend" in lowered:
            raise LabelStudioError(
                f"The server at {self._url} is not this backend.",
                hint="Check EACPS_PUBLIC_URL.",
                code="backend_wrong_address",
            ) from None

    # The webhook

    def _webhook_steps(self, found: _Found) -> list[Step]:
        wanted = webhook_body(found.number, f"{self._url}/webhook", self._settings)
        row = row_of(found.webhooks, wanted["url"])
        if row is None:
            return [self._add_webhook(found, wanted)]
        if serves(row, wanted):
            return []
        path = f"/api/webhooks/{row['id']}/"

        def correct() -> str:
            self._client.call("PATCH", path, json=wanted)
            return "The webhook that announces new tasks was corrected."

        def put_back() -> None:
            self._client.call("PATCH", path, json={key: row.get(key) for key in wanted})

        return [Step("Correct the webhook that announces new tasks.", correct, put_back)]

    def _add_webhook(self, found: _Found, wanted: Mapping[str, Any]) -> Step:
        path = "/api/webhooks/"
        rows = _NewRows(self._client, path, found.number, wanted["url"], found.webhooks)

        def add() -> str:
            # Label Studio has made one together with the ML backend, for other events.
            rows.add_or_change(wanted)
            return "The webhook that announces new tasks was added."

        def remove() -> None:
            if not (self._backend_rows and self._backend_rows.made_elsewhere):
                rows.remove()

        return Step(f"Add a webhook that announces new tasks to {self._url}.", add, remove)

    def _delete_webhook(self, project: int, row: Mapping[str, Any]) -> Step:
        body = {key: row.get(key) for key in webhook_body(project, "", self._settings)}

        def delete() -> str:
            self._client.call("DELETE", f"/api/webhooks/{row['id']}/")
            return f"The webhook to {row['url']} was removed."

        def put_back() -> None:
            rows = self._client.list_rows("/api/webhooks/", project=project)
            if all(other["id"] != row["id"] for other in rows):
                self._client.call("POST", "/api/webhooks/", json={**body, "project": project})

        return Step(f"Remove the webhook to {row['url']}.", delete, put_back)

    # Settings and tabs

    def _settings_steps(self, found: _Found) -> list[Step]:
        changed = {k: v for k, v in WANTED_SETTINGS.items() if found.row.get(k) != v}
        if not changed:
            return []
        path = f"/api/projects/{found.number}/"

        def switch_on() -> str:
            self._client.call("PATCH", path, json=changed)
            return "Predictions are now fetched and shown automatically."

        def put_back() -> None:
            earlier = {key: found.row.get(key) for key in changed}
            self._client.call("PATCH", path, json=earlier)

        plan = f"Fetch and show predictions automatically ({', '.join(changed)})."
        return [Step(plan, switch_on, put_back)]

    def _tab_steps(self, found: _Found) -> list[Step]:
        there = {_title(tab) for tab in found.tabs}
        tabs = [tab for tab in tabs_of(self._settings) if tab["title"] not in there]
        return [self._add_tab(found, tab) for tab in tabs]

    def _add_tab(self, found: _Found, tab: Mapping[str, Any]) -> Step:
        title = tab["title"]
        path = "/api/dm/views/"
        rows = _NewRows(self._client, path, found.number, title, found.tabs, name=_title)

        def add() -> str:
            rows.add({"project": found.number, "data": tab})
            rows.kept()
            return f"The tab “{title}” was added to the Data Manager."

        return Step(f"Add the tab “{title}” to the Data Manager.", add, rows.remove)

    # Before and after

    def _require_fields(self, found: _Found) -> None:
        """Raise LabelStudioError if the tasks have other fields than this backend reads."""
        columns = mapping(found.summary.get("all_data_columns"))
        if not columns:
            return
        chosen = self._chosen(found)
        own = self._settings.changed(chosen.columns)
        wanted = own.image_field
        shown = ", ".join(f"`{name}`" for name in list(columns)[:8])
        if wanted not in columns:
            raise LabelStudioError(
                f"The tasks of project {found.number} have no field `{wanted}`, but {shown}.",
                hint="Show them in the project's label config, or set EACPS_IMAGE_FIELD and "
                "EACPS_INSTRUCTION_FIELD to their names, also for `eacps serve`.",
            )
        if own.instruction_field not in columns and not chosen.default_instruction:
            self._report.add(
                "warn",
                f"No task has the field `{own.instruction_field}`, but {shown}. If one "
                "of these is the instruction, set EACPS_INSTRUCTION_FIELD to its name, also for "
                "`eacps serve`.",
            )

    def _remember(self, found: _Found) -> None:
        """Keep what disconnecting restores: the project before it was connected first."""
        known = self.records.read(found.number)
        ours = row_of(found.backends, known.backend) if known else None
        if known and ours:
            self.records.write(replace(known, backend=self._url))
            return
        earlier = {key: found.row.get(key) for key in WANTED_SETTINGS}
        config = found.config
        if known and (merging.parts(config) or merging.is_review(config)):
            config = known.label_config
        record = Record(self._client.url, found.number, self._url, config, earlier)
        self.records.write(record)

    def _remember_tabs(self, project: int) -> None:
        known = self.records.read(project)
        if known:
            rows = self._client.list_rows("/api/dm/views/", project=project)
            ours = {tab["title"] for tab in tabs_of(self._settings)}
            tabs = {_title(row): int(row["id"]) for row in rows if _title(row) in ours}
            self.records.write(replace(known, tabs=tabs))

    def _say_what_is_in_place(self, found: _Found, config: ConfigChoice) -> None:
        if config.new is None:
            self._report.add("ok", "The review label config is in place.")
        self._report.add("ok", f"Label Studio is connected to {self._url}.")
        if row_of(found.webhooks, f"{self._url}/webhook"):
            self._report.add("ok", "The webhook that announces new tasks is in place.")
        there = {_title(tab) for tab in found.tabs}
        for tab in tabs_of(self._settings):
            if tab["title"] in there:
                self._report.add("ok", f"The Data Manager has the tab “{tab['title']}”.")

    def _warn_of_the_panel(self) -> None:
        if self._settings.panel != "off":
            for problem in addresses.problems(self._settings, self._url):
                self._report.add("warn", problem)

    def _warn_of_faces(self, found: _Found) -> None:
        columns = mapping(found.summary.get("all_data_columns"))
        possible = not columns or self._settings.reference_field in columns
        if possible and readiness(self._settings).engine:
            self._report.add("warn", f"Face swaps are available. {CONSENT}")

    def _chosen(self, found: _Found) -> Choices:
        """What the project chooses for itself."""
        extra = (row_of(found.backends, self._url) or {}).get("extra_params")
        return choices_of({}, found.config, extra, self._settings)

    def _say_what_is_next(self, found: _Found) -> None:
        own = self._settings.changed(self._chosen(found).columns)
        fields = f"`{own.image_field}` and `{own.instruction_field}`"
        server = self._settings.label_studio_browser_url or self._client.url
        address = f"{server.rstrip('/')}/projects/{found.number}/data"
        if found.tasks:
            self._report.add(
                "next",
                "Tasks that are there already are searched when they are opened, or all at once: "
                f"select them at {address}, then Actions > Retrieve predictions.",
            )
        self._report.add("next", f"Import tasks with the fields {fields} at {address}.")

    def _end_dry_run(self) -> None:
        self._report.add("ok", "Nothing was changed, because of --dry-run.")


class _NewRows:
    """A row that is added to a project, once even if two machines add it at the same time."""

    def __init__(
        self,
        client: LabelStudioClient,
        path: str,
        project: int,
        wanted: str,
        known: Sequence[Mapping[str, Any]],
        name: Callable[[Mapping[str, Any]], str] = lambda row: str(row.get("url")).rstrip("/"),
    ) -> None:
        self._client = client
        self._path = path
        self._project = project
        self._wanted = wanted
        self._known = {row["id"] for row in known}
        self._name = name
        self._made: int | None = None
        self.made_elsewhere = False

    def add(self, body: Mapping[str, Any]) -> None:
        """Add the row."""
        self._made = int(self._client.call("POST", self._path, json=body)["id"])

    def add_or_change(self, body: Mapping[str, Any]) -> None:
        """Make the first row of this name what it should be; adds one if there is none."""
        rows = self._of_this_name()
        if not rows:
            self.add(body)
            self.kept()
            return
        end = "/" * self._path.endswith("/")
        path = f"{self._path.rstrip('/')}/{rows[0]['id']}{end}"
        self._client.call("PATCH", path, json=body)
        for double in rows[1:]:
            self._delete(double["id"])

    def kept(self) -> Mapping[str, Any]:
        """The first row of this name; ours is removed if another machine was faster."""
        rows = self._of_this_name()
        first = rows[0]
        if self._made != first["id"] and self._made is not None:
            self._delete(self._made)
            self._made = None
            self._known.add(first["id"])
            self.made_elsewhere = True
        return first

    def remove(self) -> None:
        """Remove our row, or, if the answer to our request was lost, what it may have made."""
        made = [row["id"] for row in self._of_this_name() if row["id"] not in self._known]
        for number in made if self._made is None else [self._made]:
            if number in made:
                self._delete(number)

    def _of_this_name(self) -> list[dict[str, Any]]:
        rows = self._client.list_rows(self._path, project=self._project)
        return sorted(
            (row for row in rows if self._name(row) == self._wanted), key=lambda row: row["id"]
        )

    def _delete(self, number: int) -> None:
        end = "/" * self._path.endswith("/")
        self._client.call("DELETE", f"{self._path.rstrip('/')}/{number}{end}")


def find_project(client: LabelStudioClient, wanted: int | str, create: bool = False) -> int | None:
    """The number of a project, given by number or title; None if it is to be created."""
    if isinstance(wanted, int) or wanted.isdecimal():
        return int(wanted)
    rows = client.list_rows("/api/projects/", title=wanted, page_size=1000)
    same = [row for row in rows if row.get("title") == wanted]
    if not same and not create:
        raise LabelStudioError(
            f"There is no project titled “{wanted}”.", hint="Add --create to create it."
        )
    if len(same) > 1:
        raise LabelStudioError(
            f"There are {len(same)} projects titled “{wanted}”.", hint="Use its number."
        )
    return int(same[0]["id"]) if same else None


def project_row(client: LabelStudioClient, number: int) -> dict[str, Any]:
    """A project; raises LabelStudioError with a sentence if there is none."""
    try:
        return client.project(number)
    except LabelStudioError as error:
        if error.code != MISSING:
            raise
        raise LabelStudioError(
            f"There is no project {number}.",
            hint="Its number is in its address, /projects/NUMBER/. The token's user must see it.",
            code=MISSING,
        ) from None


def check_state(row: Mapping[str, Any], url: str) -> None:
    """Raise LabelStudioError if Label Studio cannot reach an ML backend."""
    if row.get("state") in CONNECTED:
        return
    told = str(row.get("error_message") or "").strip()
    message = UNREACHABLE.format(url=url) + (f" It says: {told[:300]}" if told else "")
    raise LabelStudioError(message, code="backend_unreachable")


def _found(client: LabelStudioClient, number: int) -> _Found:
    row = project_row(client, number)
    return _Found(
        number,
        str(row.get("title")),
        row,
        mapping(client.call("GET", f"/api/projects/{number}/summary/")),
        client.list_rows("/api/ml", project=number),
        client.list_rows("/api/webhooks/", project=number),
        client.list_rows("/api/dm/views/", project=number),
    )


def _introduction(found: _Found) -> str:
    annotations = found.row.get("total_annotations_number") or 0
    if not found.tasks:
        return f"Project {found.number} “{found.title}”."
    counted = f"{_counted(found.tasks, 'task')} and {_counted(annotations, 'annotation')}"
    return f"Project {found.number} “{found.title}” has {counted}."


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _title(tab: Mapping[str, Any]) -> str:
    return str(mapping(tab.get("data")).get("title"))


def _saying(do: Callable[[], str], said: str) -> Callable[[], str]:
    def act() -> str:
        do()
        return said

    return act
