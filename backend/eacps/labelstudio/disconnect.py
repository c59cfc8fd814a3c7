"""`eacps disconnect`: undoes what `eacps connect` did in a project; safe to repeat."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from eacps.errors import EacpsError
from eacps.labelstudio import label_config, merging
from eacps.labelstudio.client import LabelStudioClient, open_client
from eacps.labelstudio.config_choice import refusal
from eacps.labelstudio.connect import WANTED_SETTINGS, find_project, project_row
from eacps.labelstudio.connection_record import Record, Records
from eacps.labelstudio.connections import has_url
from eacps.labelstudio.errors import LabelStudioError
from eacps.labelstudio.review_tab import tabs_of
from eacps.labelstudio.steps import Line, Report, Step, run, show
from eacps.labelstudio.tasks.regions import mapping
from eacps.settings import Settings


def disconnect(
    settings: Settings,
    project: int | str,
    *,
    backend_url: str = "",
    dry_run: bool = False,
    tell: Callable[[Line], None] = lambda _: None,
) -> list[Line]:
    """Disconnect a project, given by number or title; reports what was undone, and what stays."""
    report = Report(tell)
    try:
        client = open_client(settings)
        number = find_project(client, project)
        assert number is not None
        url = (backend_url or settings.resolved_public_url).rstrip("/")
        records = Records(settings.data_dir, client.url)
        with records.alone(number):
            known = records.read(number)
            _Disconnect(client, settings, number, known, url, report).run(records, dry_run)
    except EacpsError as error:
        report.add("fail", str(error))
    except KeyboardInterrupt:
        report.add("fail", "Interrupted. Run the same command again.")
        raise
    return report.lines


class _Disconnect:
    def __init__(
        self,
        client: LabelStudioClient,
        settings: Settings,
        project: int,
        known: Record | None,
        url: str,
        report: Report,
    ) -> None:
        self._client = client
        self._settings = settings
        self._project = project
        self._known = known
        self._urls = {url, *([known.backend] if known else [])}
        self._report = report
        self._row = project_row(client, project)

    def run(self, records: Records, dry_run: bool) -> None:
        self._report.add("ok", f"Project {self._project} “{self._row.get('title')}”.")
        # Each step is safe to repeat, so none is undone when a later one fails.
        steps = [
            *self._delete("/api/webhooks/", "/webhook", "webhook"),
            *self._settings_steps(),
            *self._delete("/api/ml", "", "ML backend"),
            *self._tab_steps(),
            *self._config_steps(records),
        ]
        show(steps, self._report)
        if dry_run:
            self._report.add("ok", "Nothing was changed, because of --dry-run.")
            return
        run(steps, self._report, undo=False)
        records.forget(self._project)
        if not steps:
            self._report.add("ok", "The project is not connected to this backend.")
        self._report.add(
            "ok", "Tasks, their pictures and results, predictions and annotations were kept."
        )

    def _delete(self, path: str, suffix: str, name: str) -> list[Step]:
        rows = self._client.list_rows(path, project=self._project)
        end = "/" * path.endswith("/")
        return [
            self._deletion(f"{path.rstrip('/')}/{row['id']}{end}", f"the {name} {row['url']}")
            for row in rows
            if any(has_url(row, f"{url}{suffix}") for url in self._urls)
        ]

    def _deletion(self, path: str, what: str) -> Step:
        def delete() -> str:
            self._client.call("DELETE", path)
            return f"{what[0].upper()}{what[1:]} was removed."

        return Step(f"Remove {what}.", delete)

    def _settings_steps(self) -> list[Step]:
        if self._known is None:
            self._report.add(
                "warn",
                f"No record of this project is in {self._settings.data_dir}, so its settings "
                f"({', '.join(WANTED_SETTINGS)}) stay as they are.",
            )
            return []
        earlier = {
            key: value
            for key, value in self._known.settings.items()
            if key in WANTED_SETTINGS and self._row.get(key) != value
        }
        if not earlier:
            return []

        def put_back() -> str:
            self._client.call("PATCH", f"/api/projects/{self._project}/", json=earlier)
            return "The project's settings are as they were."

        return [Step(f"Put back the settings {', '.join(earlier)}.", put_back)]

    def _tab_steps(self) -> list[Step]:
        ours = {tab["title"]: tab for tab in tabs_of(self._settings)}
        made = set(self._known.tabs.values()) if self._known else set()
        steps = []
        for row in self._client.list_rows("/api/dm/views/", project=self._project):
            data = mapping(row.get("data"))
            title = str(data.get("title"))
            if title in ours and (row["id"] in made or _is_same(data, ours[title])):
                steps.append(self._deletion(f"/api/dm/views/{row['id']}/", f"the tab “{title}”"))
        return steps

    def _config_steps(self, records: Records) -> list[Step]:
        existing = str(self._row.get("label_config") or "")
        earlier = self._earlier_config(existing)
        if earlier is None:
            return []
        problem = self._needs_ours(earlier) or refusal(self._client, self._project, earlier)
        if problem:
            self._report.add("warn", f"The label config is kept: {problem}")
            return []

        def put_back() -> str:
            copy = records.keep_copy(self._project, existing)
            path = f"/api/projects/{self._project}/"
            if self._client.project(self._project).get("label_config") != existing:
                raise LabelStudioError(
                    "Somebody changed the label config in the meantime.",
                    hint="Run the same command again.",
                )
            self._client.call("PATCH", path, json={"label_config": earlier})
            return f"The label config is as it was. A copy of the review screen is in {copy}."

        return [Step("Put back the label config from before.", put_back)]

    def _earlier_config(self, existing: str) -> str | None:
        """The label config from before; None if it is there already, or unknown."""
        both = merging.parts(existing)
        if both:
            earlier = self._known.label_config if self._known else ""
            return earlier if merging.own_part(earlier) == both[0] else both[0]
        if not merging.is_review(existing):
            return None
        if self._known is None or not self._known.label_config:
            self._report.add("warn", "The label config is kept: no earlier one is known.")
            return None
        earlier = self._known.label_config
        return None if label_config.same_config(existing, earlier) else earlier

    def _needs_ours(self, config: str) -> str:
        """Why annotations need the review screen; empty if they do not."""
        # Label Studio itself would let go of it for a label config without any tags.
        summary = self._client.call("GET", f"/api/projects/{self._project}/summary/")
        used = [
            mapping(summary.get(key)) for key in ("created_annotations", "created_labels_drafts")
        ]
        for names in used:
            missing = merging.annotated_names_missing(names, config)
            if missing:
                return f"annotations were made with its tag `{missing[0]}`."
        return ""


def _is_same(tab: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Whether nobody changed a tab since it was added."""
    return all(tab.get(key) == value for key, value in ours.items())
