"""The Flask app: label-studio-ml's routes with our views, images, health and status."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import cache, partial
from itertools import islice
from threading import Thread
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, jsonify, request
from gunicorn.http.errors import NoMoreData, ParseException
from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge

from eacps.artifacts import (
    MEDIA_TYPES,
    ArtifactStore,
    MissingArtifactError,
    UrlSigner,
    open_signer,
    open_store,
)
from eacps.errors import EacpsError
from eacps.labelstudio.panel import views as panel
from eacps.labelstudio.tasks.choices import extra_params_text
from eacps.labelstudio.tasks.extra_params import name_of
from eacps.labelstudio.tasks.origins import project_number, project_version
from eacps.labelstudio.tasks.regions import mapping, sequence
from eacps.labelstudio.web import compat, predictor, status
from eacps.labelstudio.web.headers import PAGE_POLICY, SECURITY_HEADERS
from eacps.labelstudio.web.metrics import metrics_page, new_registry
from eacps.labelstudio.web.ml_model import EXTENSION, BackendModel, Services
from eacps.labelstudio.web.observing import ObservedApp
from eacps.labelstudio.web.password import (
    AS_BEFORE,
    OPEN_TO_ALL,
    Password,
    has_exception,
    is_loopback,
)
from eacps.labelstudio.web.readiness import Readiness
from eacps.labelstudio.webhook_secret import WEBHOOK_SECRET_HEADER, accepts_secret
from eacps.settings import Settings

if TYPE_CHECKING:
    from eacps.jobs.contract import JobQueue

log = logging.getLogger(__name__)

_SUBMITTED = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED")
_OPEN_ENDPOINTS = ("health", "ready", "artifact")
_YEAR = 365 * 24 * 3600
MAX_JSON_VALUES = 20_000_000
"""More values than in any import: parsed, these take a second and about a gigabyte."""
MAX_MALFORMED_TASKS = 1_000
"""Label Studio sends none; refusing each of millions would take a minute."""
REDIRECT_SECONDS = 300
"""How long a URL of the store is valid. Tasks hold our own URLs, which do not end."""


def create_app(
    settings: Settings,
    model_class: type[Any] = BackendModel,
    *,
    open_jobs: Callable[[Settings], JobQueue] | None = None,
) -> Flask:
    """Create the WSGI app. It opens the database and the store on the first request."""
    services = Services(settings, open_jobs) if open_jobs else Services(settings)
    registry = new_registry(services)
    views = {
        "_predict": lambda: _predict(model_class, services),
        "_setup": lambda: _setup(services),
        "webhook": lambda: _webhook(services),
        "health": lambda: _health(services),
        "metrics": lambda: metrics_page(registry, request.headers.get("Accept", "")),
        "nothing": lambda: jsonify(model_version=settings.model_version, versions=[]),
    }
    app = compat.new_app(model_class, views)
    app.extensions[EXTENSION] = services
    app.config["MAX_CONTENT_LENGTH"] = settings.max_request_bytes
    _require_password(app, settings)
    app.after_request(lambda response: _with_security_headers(response, settings))
    _return_errors_as_json(app)
    app.add_url_rule("/artifacts/<signature>/<name>", "artifact", _artifact_view(settings))
    app.add_url_rule("/ready", "ready", _ready_view(services))
    status.register(app, services)
    panel.register(app, services)
    app.wsgi_app = ObservedApp(app)  # type: ignore[method-assign]
    return app


def _predict(model_class: type[Any], services: Services) -> Response:
    body = _body()
    project = body.get("project")
    model = model_class(project_id=project, label_config=body.get("label_config"))
    parameters = mapping(body.get("params"))
    context = parameters.get("context", body.get("context"))
    _require_few_tasks(body.get("tasks"), services.settings)
    results = model.predict(body.get("tasks"), context=context)
    version = predictor.project_version_of(
        project, body.get("label_config"), services.settings, services.jobs
    )
    return jsonify(results=results, model_version=version)


def _setup(services: Services) -> Response:
    """Answer with the project's model version, and remember its extra parameters."""
    body = _body()
    project, given = project_number({}, body.get("project")), body.get("extra_params")
    remembered = extra_params_text(given)
    if project is not None and "extra_params" in body and services.settings.label_studio_url:
        remember = partial(_remember, services, project, remembered)
        # Label Studio waits for 3 s, and opening the queue may take as long.
        remember() if services.is_open else Thread(target=remember, daemon=True).start()
    extra = json.loads(remembered) if remembered else None
    version = project_version(body.get("schema"), extra, services.settings)
    return jsonify(model_version=version)


def _remember(services: Services, project: int, extra_params: str) -> None:
    try:
        name = name_of(project, services.settings)
        if services.jobs.remember_extra_params(name, extra_params):
            log.info("project %d has other extra parameters now", project)
    except Exception as error:
        # Label Studio sends them again before it asks for predictions.
        log.warning("extra parameters of project %d cannot be remembered: %s", project, error)


def _require_few_tasks(tasks: Any, settings: Settings) -> None:
    limit = settings.max_tasks_per_request
    if isinstance(tasks, list) and len(tasks) > limit:
        raise RequestEntityTooLarge(
            f"The request has {len(tasks):,} tasks; at most {limit:,} are read. Send fewer at "
            "once, or raise EACPS_MAX_TASKS_PER_REQUEST."
        )


def _require_tasks(tasks: Any) -> None:
    malformed = (each for each in sequence(tasks) if not predictor.is_task(each))
    if len(list(islice(malformed, MAX_MALFORMED_TASKS + 1))) > MAX_MALFORMED_TASKS:
        raise BadRequest(
            f"More than {MAX_MALFORMED_TASKS:,} entries of `tasks` are no objects with an object "
            "`data`, so this was not sent by Label Studio."
        )


def _webhook(services: Services) -> Response:
    body = _body()
    action = body.get("action")
    if action in ("TASKS_CREATED", *_SUBMITTED):
        sent = request.headers.get(WEBHOOK_SECRET_HEADER, "")
        if not accepts_secret(sent, services.settings):
            return _json_error(
                401, "secret_needed", f"This webhook needs the header {WEBHOOK_SECRET_HEADER}."
            )
        _require_tasks(body.get("tasks"))
        read = predictor.annotated if action in _SUBMITTED else predictor.tasks_created
        count = read(body, services.settings, services.jobs)
        log.info("webhook: %d new jobs", count)
        return jsonify(status="queued", jobs=count)
    if action == "START_TRAINING":
        message = "This backend does not support training on request."
        return jsonify(status="ignored", message=message)
    log.info("webhook: %s ignored", str(action)[:60])
    return jsonify(status="ignored")


def _health(services: Services) -> Response:
    services.warm_up()
    version = services.settings.model_version
    return jsonify(status="UP", model_class="EACPS", model_version=version)


def _ready_view(services: Services) -> Callable[[], Response]:
    readiness = Readiness(services)
    password = Password.of(services.settings)

    def ready() -> Response:
        checks = readiness.checks()
        is_ready = all(checks[name].ok for name in readiness.REQUIRED)
        answer: dict[str, Any] = {"ready": is_ready}
        # Load balancers need only the status; what is wrong is not for everybody.
        if password.accepts(request.headers.get("Authorization", "")):
            answer["checks"] = {
                name: {
                    "ok": check.ok,
                    "required": name in readiness.REQUIRED,
                    "message": check.message,
                }
                for name, check in checks.items()
            }
        response = jsonify(answer)
        response.status_code = 200 if is_ready else 503
        return response

    return ready


def _body() -> dict[str, Any]:
    _require_few_values(request.get_data())
    try:
        body = request.get_json(force=True, silent=True)
    except RecursionError:
        body = None
    if not isinstance(body, dict):
        raise BadRequest("The request body must be a JSON object.")
    return body


def _require_few_values(raw: bytes) -> None:
    # Counting also what stands in texts, which is fast and never too little.
    if raw.count(b",") + raw.count(b"[") + raw.count(b"{") > MAX_JSON_VALUES:
        raise RequestEntityTooLarge(
            f"The request has more than {MAX_JSON_VALUES:,} JSON values. Send fewer tasks at once."
        )


def _artifact_view(settings: Settings) -> Callable[[str, str], Response]:
    opened: dict[str, tuple[ArtifactStore, UrlSigner]] = {}

    def artifact(signature: str, name: str) -> Response:
        if not opened:
            opened["both"] = (open_store(settings), open_signer(settings))
        store, signer = opened["both"]
        return _artifact(store, signer, settings.artifacts_redirect, signature, name)

    return artifact


def _artifact(
    store: ArtifactStore, signer: UrlSigner, redirects: str, signature: str, name: str
) -> Response:
    headers = {
        "Cache-Control": f"public, max-age={_YEAR}, immutable",
        "ETag": f'"{name}"',
        "Access-Control-Allow-Origin": "*",
        "Cross-Origin-Resource-Policy": "cross-origin",
    }
    if not signer.valid(signature, name):
        return _json_error(404, "not_found", "Image not found.")
    if request.if_none_match.contains(name):
        return Response(status=304, headers=headers)
    elsewhere = _store_url(store, redirects, name)
    if elsewhere:
        # Browsers may follow it again for as long as it is surely valid.
        kept = f"private, max-age={REDIRECT_SECONDS // 2}"
        return Response(
            status=302,
            headers={**headers, "Location": elsewhere, "Cache-Control": kept},
        )
    try:
        content = store.get(name)
    except MissingArtifactError as error:
        return _json_error(404, error.code, str(error))
    return Response(content, mimetype=MEDIA_TYPES[name.rsplit(".", 1)[1]], headers=headers)


def _store_url(store: ArtifactStore, redirects: str, name: str) -> str | None:
    """Where the store itself serves an artifact for some minutes; None to serve it from here."""
    if redirects == "never" or not store.signs_urls or not store.exists(name):
        return None
    url = store.signed_url(name, REDIRECT_SECONDS)
    # Plain http is rather the address of a server that browsers do not reach, or do not trust.
    return url if url and (redirects == "always" or url.startswith("https://")) else None


def _require_password(app: Flask, settings: Settings) -> None:
    password = Password.of(settings)

    @cache
    def excepted() -> bool:
        found = has_exception(settings)
        if found:
            log.warning("%s %s", OPEN_TO_ALL, AS_BEFORE)
        return found

    def check() -> Response | None:
        if not password:
            return None if settings.allow_no_password else _refuse_strangers(excepted)
        # Label Studio's health check sends no password; image URLs carry their own signature, and
        # panels a capability.
        if request.endpoint in _OPEN_ENDPOINTS or request.blueprint == panel.BLUEPRINT:
            return None
        if password.accepts(request.headers.get("Authorization", "")):
            return None
        response = _json_error(
            401, "password_needed", "This backend requires a user name and password."
        )
        response.headers["WWW-Authenticate"] = 'Basic realm="eacps"'
        return response

    # First in the list, to check the password before reading the body.
    app.before_request_funcs.setdefault(None, []).insert(0, check)


def _refuse_strangers(excepted: Callable[[], bool]) -> Response | None:
    """`eacps serve` does not start without a password on an open address, but other commands of
    gunicorn do, with addresses that we cannot know."""
    if not request.remote_addr or is_loopback(request.remote_addr) or excepted():
        return None
    log.warning("a request of another machine was refused: %s", OPEN_TO_ALL)
    message = "This backend has no password, so it answers only its own machine."
    return _json_error(403, "no_password", message)


def _with_security_headers(response: Response, settings: Settings) -> Response:
    if request.blueprint == panel.BLUEPRINT:
        response.headers.update(panel.headers(settings))
        return response
    if response.mimetype == "text/html":
        response.headers.setdefault("Content-Security-Policy", PAGE_POLICY)
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def _return_errors_as_json(app: Flask) -> None:
    def known(error: EacpsError) -> Response:
        return _json_error(503, error.code, str(error))

    def http(error: HTTPException) -> Response:
        return _json_error(error.code or 500, "http_error", error.description or error.name)

    def unknown(error: Exception) -> Response:
        log.error("request failed", exc_info=error)
        return _json_error(500, "internal", "The backend failed; see its log.")

    app.register_error_handler(EacpsError, known)
    app.register_error_handler(HTTPException, http)
    # Raised by gunicorn for a body that is incomplete or has wrong chunk sizes.
    for broken in (ParseException, NoMoreData):
        app.register_error_handler(broken, lambda _: http(BadRequest()))
    # Override label-studio-ml's handlers, which return the plain exception.
    for kind in (Exception, AssertionError, IndexError, FileNotFoundError):
        app.register_error_handler(kind, unknown)


def _json_error(status: int, code: str, message: str) -> Response:
    response = jsonify(error={"code": code, "message": message})
    response.status_code = status
    return response
