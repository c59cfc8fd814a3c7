"""All settings in one class, read from `EACPS_*` variables in the environment or `.env`."""

from __future__ import annotations

import difflib
import io
import ipaddress
import os
from collections.abc import Iterable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic import (
    AliasChoices,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as PydanticSettingsError

from eacps import fingerprints, judge_names, plugins
from eacps.domain import ROUTES, FaceMapping, Route, SearchPlan
from eacps.errors import SettingsError

PACKAGE = Path(__file__).resolve().parent
CHECKOUT = PACKAGE.parents[1]
DEMO_PACK = PACKAGE / "demo" / "pack"
_PREFIX = "EACPS_"
_ENV_FILE_ENCODING = "utf-8-sig"
"""UTF-8, with or without the mark that some editors for Windows begin a file with."""
_OUTSIDE = ("EACPS_TEST_", "EACPS_DEMO_")
"""Variables for tests and the demo, which are not settings."""
_LIMITED = ("calls", "tokens", "cost")
_SPANS = ("task", "project", "day")
"""What EACPS_JUDGE_LIMITS may limit."""
Words = Annotated[tuple[str, ...], NoDecode]


def _face_models() -> Path:
    """`models/faces` in a checkout, or the user's data folder for an installed package."""
    if (CHECKOUT / "pyproject.toml").is_file():
        return CHECKOUT / "models" / "faces"
    return Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share") / "eacps" / "faces"


FACE_MODELS = _face_models()


def _field(
    group: str, default: Any, help_text: str, *, results: bool = False, **kwargs: Any
) -> Any:
    """A documented setting in a group; `results` means that it changes what a search returns."""
    extra: JsonDict = {"group": group, "changes_results": results}
    return Field(default=default, description=help_text, json_schema_extra=extra, **kwargs)


_label_studio_field = partial(_field, "Label Studio")
_task_field = partial(_field, "What a task looks like")
_image_field = partial(_field, "Images that come in")
_editor_field = partial(_field, "Editor")
_search_field = partial(_field, "Search")
_scoring_field = partial(_field, "Scoring")
_face_field = partial(_field, "Faces")
_plugin_field = partial(_field, "Plug-ins")
_project_field = partial(_field, "Projects")
_machine_field = partial(_field, "Machines")
_panel_field = partial(_field, "Panel")
_web_field = partial(_field, "Web")


def _shared_with_label_studio(name: str) -> AliasChoices:
    return AliasChoices(f"{_PREFIX}{name}", name)


class _UnmergedSource(PydanticBaseSettingsSource):
    """A source whose dicts are not merged with those of higher-priority sources."""

    def __init__(self, source: PydanticBaseSettingsSource) -> None:
        super().__init__(source.settings_cls)
        self._source = source

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Ask the wrapped source."""
        return self._source.get_field_value(field, field_name)

    def __call__(self) -> dict[str, Any]:
        """The values that no higher-priority source has set."""
        found = self._source()
        return {name: value for name, value in found.items() if name not in self.current_state}


class Settings(BaseSettings):
    """All settings; `eacps settings` prints them with their values and origins."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_file=".env",
        env_file_encoding=_ENV_FILE_ENCODING,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
    )

    label_studio_url: str = _label_studio_field(
        "",
        "Label Studio's address as seen from the workers. Empty: no Label Studio; predict answers "
        "plain HTTP clients itself.",
        validation_alias=_shared_with_label_studio("LABEL_STUDIO_URL"),
    )
    label_studio_api_key: SecretStr = _label_studio_field(
        SecretStr(""),
        "Personal access token (or legacy token) of a user who may edit the projects' tasks.",
        validation_alias=_shared_with_label_studio("LABEL_STUDIO_API_KEY"),
    )
    image_hosting: Literal["upload", "backend"] = _label_studio_field(
        "upload",
        "Where candidates' images are stored: uploaded to Label Studio (visible after login), or "
        "served by this backend under signed URLs.",
    )
    keep_shown_images: bool = _label_studio_field(
        True,
        "With EACPS_IMAGE_HOSTING=backend: keep the images that a task shows for longer than "
        "EACPS_RETENTION_DAYS. false: they are deleted then, and the task's cards are empty.",
    )
    predict_wait_seconds: float = _label_studio_field(
        2.0,
        "How long /predict waits for a fast task before it answers 'not yet'. Without Label "
        "Studio configured it waits EACPS_PREDICT_WAIT_WITHOUT_LABEL_STUDIO instead.",
        ge=0,
        le=95,
    )
    predict_wait_without_label_studio: float = _label_studio_field(
        90.0,
        "How long /predict waits when no Label Studio is configured.",
        ge=0,
        le=3600,
    )
    retry_failed_after_seconds: float = _label_studio_field(
        30.0,
        "'Retrieve predictions' retries a failed task, but only after this time.",
        ge=0,
    )
    catch_up_minutes: float = _label_studio_field(
        60.0,
        "How often the orchestrator asks Label Studio for tasks of connected projects that were "
        "never announced to it. It also asks after its start and after an outage. 0: never.",
        ge=0,
    )
    basic_auth_user: str = _label_studio_field(
        "",
        "User name that Label Studio must send to this backend. Empty: no password.",
        validation_alias=AliasChoices("EACPS_BASIC_AUTH_USER", "BASIC_AUTH_USER"),
    )
    basic_auth_pass: SecretStr = _label_studio_field(
        SecretStr(""),
        "Password for EACPS_BASIC_AUTH_USER.",
        validation_alias=AliasChoices("EACPS_BASIC_AUTH_PASS", "BASIC_AUTH_PASS"),
    )
    basic_auth_file: Path | None = _label_studio_field(
        None,
        "File with `user:password`, used if neither is set. `eacps serve` writes a new password to "
        "it if it is missing, except in an installation that 0.1 made. Empty: no file.",
    )
    allow_no_password: bool = _label_studio_field(
        False,
        "`true`: serve without a password on an address that other machines can reach. Everybody "
        "who reaches it may then use this backend.",
    )
    webhook_secret: SecretStr = _label_studio_field(
        SecretStr(""),
        "Secret that webhooks must send in the header X-EACPS-Webhook-Secret. Empty: none.",
    )

    image_field: str = _task_field("image", "Task data field with the source image.")
    instruction_field: str = _task_field("prompt", "Task data field with the instruction.")
    mask_field: str = _task_field("mask", "Task data field with a mask image (white is edited).")
    reference_field: str = _task_field(
        "reference", "Task data field with a character's picture, or a list of several."
    )
    face_mapping_field: str = _task_field(
        "face_mapping",
        "Task data field that overrides EACPS_FACE_MAPPING for this task.",
    )
    route_fields: Words = _task_field(
        ("route", "task", "type"),
        "Task data fields that may contain the route, checked in this order.",
    )
    route_labels: dict[str, Route] = _task_field(
        {
            "edit*": "edit",
            "global edit*": "edit",
            "local edit*": "edit",
            "inpaint*": "edit",
            "*face*swap*": "face_swap",
            "swap*face*": "face_swap",
            "*character*": "character",
        },
        "JSON object from label text (case-insensitive, with wildcards * and ?) to a route: edit, "
        "face_swap or character.",
    )
    strategy_labels: dict[str, str] = _task_field(
        {"eacps": "eacps"},
        "JSON object from label text (as in EACPS_ROUTE_LABELS) to a search strategy. Labels are "
        "read from the same places as routes.",
    )
    default_instruction: str = _task_field(
        "",
        "Instruction of tasks that have none, such as pictures that were uploaded with Label "
        "Studio's Import button. Projects may have their own. Empty: such a task asks for one.",
    )

    mask_labels: Words = _task_field(
        ("edit here*", "mask*"),
        "Labels, comma separated, of regions that mark where to edit (case-insensitive, with "
        "wildcards * and ?). Labels that name a route mark, too. Regions with other labels, such "
        "as boxes around objects, do not.",
    )

    allowed_hosts: Words = _image_field(
        (),
        "Hosts, comma separated, from which images may be fetched in addition to Label Studio's. "
        "`host`, `host:port` or `*.domain`. Listing a private host allows it.",
    )
    reference_hosts: Words = _image_field(
        (),
        "The only hosts, comma separated, from which pictures of characters may come. List those "
        "with pictures of people who have consented. Empty: all hosts of images.",
    )
    max_image_bytes: int = _image_field(30_000_000, "Maximum bytes of an image file.", ge=1024)
    max_image_pixels: int = _image_field(40_000_000, "Maximum number of pixels of an image.", ge=64)
    min_image_side: int = _image_field(8, "Minimum width and height of an image, in pixels.", ge=1)
    fetch_timeout_seconds: float = _image_field(20.0, "Timeout for one image.", gt=0)
    local_files_root: str = _image_field(
        "",
        "Folder that Label Studio serves as /data/local-files (its "
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT), if the workers can read it directly. Empty: "
        "ask Label Studio.",
    )

    editor: str = _editor_field(
        str(DEMO_PACK / "editor-early"),
        "A diffusers image-edit pipeline: a folder or a hub id. Or a plug-in: an "
        "entry point, `module:Class` or `file.py:Class`.",
        results=True,
    )
    editor_revision: str = _editor_field("", "Revision of a hub id.", results=True)
    editor_dtype: Literal["auto", "float32", "bfloat16", "float16"] = _editor_field(
        "auto",
        "Data type of the weights; auto: float32 on CPUs, bfloat16 on GPUs.",
        results=True,
    )
    steps: int = _editor_field(12, "Denoising steps of a full render.", results=True, ge=2, le=1000)
    guidance: float = _editor_field(
        2.0, "Text guidance (true_cfg_scale on Qwen).", results=True, ge=0
    )
    image_guidance: float = _editor_field(
        1.0, "Image guidance, if the pipeline supports it.", results=True
    )
    negative_prompt: str = _editor_field(
        " ", "Negative prompt, if the pipeline supports it.", results=True
    )
    pipeline_args: dict[str, Any] = _editor_field(
        {}, "JSON object of additional arguments for every pipeline call.", results=True
    )
    max_side: int = _editor_field(
        1024,
        "Longer side of the images that the editor works on, in pixels.",
        results=True,
        ge=16,
    )
    lora: str = _editor_field(
        "", "A LoRA to load into the editor: a folder, file or hub id.", results=True
    )
    offload: Literal["none", "model", "sequential"] = _editor_field(
        "none",
        "Move idle parts of the editor to the CPU to save GPU memory.",
    )
    editor_batch_size: int = _editor_field(
        4,
        "Number of trials in one batch on one device. With G devices and K global trials, K/G "
        "keeps all of them busy.",
        results=True,
        ge=1,
        le=64,
        validation_alias=AliasChoices("EACPS_BATCH_SIZE", "EACPS_EDITOR_BATCH_SIZE"),
    )
    paused_bytes: int = _editor_field(
        256_000_000,
        "Memory per worker for paused renders, in bytes (1 MB each for Qwen at 1024 pixels). The "
        "least recently used are dropped, and resumed from a stored copy or rendered again.",
        ge=0,
    )

    strategy: str = _search_field(
        "auto",
        "Search strategy (see docs/search.md), or a plug-in: an entry point, `module:Class` or "
        "`file.py:Class`.",
        results=True,
    )
    strategy_params: dict[str, Any] = _search_field(
        {},
        'JSON object of the strategy\'s parameters, e.g. {"k": 8, "m": 3, "k_local": 4}.',
        results=True,
    )
    seed: int = _search_field(0, "Seed of every search.", results=True, ge=0)
    max_candidates: int = _search_field(
        64,
        "The most candidates that a search may begin whose strategy, parameters or budget come "
        "from a project or a task. The server's own settings are not limited.",
        ge=1,
        le=1_000_000,
    )
    max_steps: int = _search_field(
        100, "The most denoising steps that a project or a task may ask for.", ge=2, le=1000
    )

    clip: str = _scoring_field(
        str(DEMO_PACK / "clip"),
        "open_clip model for pf, pf_dir and cons: a folder, or name/pretrained such as "
        "ViT-B-32/laion2b_s34b_b79k.",
        results=True,
    )
    verifier: str = _scoring_field(
        str(DEMO_PACK / "verifier"),
        "Verifier for satisfied, preserved, intact and verified: a folder, a plug-in (an entry "
        "point, `module:Class` or `file.py:Class`), a server's model (openai:MODEL, "
        "anthropic:MODEL, gemini:MODEL; docs/judges.md), which is then sent the pictures, or a "
        "model on this machine (local:FOLDER). Several, comma separated, are averaged. Empty: "
        "none. Opened only if the potential asks for it; a server's or local model that is named "
        "becomes the potential unless EACPS_POTENTIAL or EACPS_WEIGHTS is set.",
        results=True,
    )
    verifier_weights: dict[str, float] = _scoring_field(
        {},
        "JSON object of weights of the verifiers in EACPS_VERIFIER, where several answer a "
        'question, e.g. {"openai:MODEL": 2}. Those that it does not name count 1.',
        results=True,
    )
    finals: int = _scoring_field(
        4,
        "How many of the best candidates, if their potentials are nearly equal, a judge that reads "
        "language compares in pairs at the end, to order them. 0 or 1: none.",
        results=True,
        ge=0,
        le=12,
    )
    rubric: str = _scoring_field(
        "edit",
        "What judges that read language are asked: edit, viescore, realism, technical, yes_no, "
        "tt_scale_flux, editscore, editscore_qwen25 and unified_reward_edit (for these judges), or "
        "the path of a .toml file (`eacps judge rubric edit` prints one to change).",
        results=True,
    )
    judge_routes: Words = _scoring_field(
        ("edit",),
        "Routes whose pictures may be sent to servers that judge. `edit,character` also sends "
        "those with a person's face that was inserted.",
    )
    judge_limits: dict[str, float] = _scoring_field(
        {},
        "JSON object of limits on what servers that judge may be asked: calls, tokens or cost, "
        'per_task, per_project or per_day, e.g. {"tokens_per_task": 200000, "cost_per_day": 5}. '
        "Past a limit nothing is asked, and the cards say so.",
    )
    judge_cache_days: float = _scoring_field(
        90.0,
        "How many days the answers of servers that judge are kept, so that the same question is "
        "not asked again. 0: not at all.",
        ge=0,
    )
    scorers: Words = _scoring_field(
        (),
        "Additional scorers, comma separated, besides those of installed packages: "
        "`module:Class` or `file.py:Class`.",
        results=True,
    )
    lpips_trunk: str = _scoring_field(
        "clip",
        "Trunk of lpips: `alex`, `vgg` or `squeeze` (LPIPS itself; needs torchvision's weights) "
        "or `clip` (the distance in the features of `clip`; no download).",
        results=True,
    )
    potential: Literal["eacps", "weighted"] = _scoring_field(
        "eacps",
        "How metrics are combined: eacps = pf + alpha cons - beta lpips; weighted: EACPS_WEIGHTS. "
        "Unset: weighted if EACPS_WEIGHTS, or in EACPS_VERIFIER a judge or a folder, is named.",
        results=True,
    )
    alpha: float = _scoring_field(
        10.0, "alpha of potential eacps: consistency with the source.", results=True, ge=0, le=1000
    )
    beta: float = _scoring_field(
        3.0, "beta of potential eacps: distance to the source.", results=True, ge=0, le=1000
    )
    weights: dict[str, float] = _scoring_field(
        {},
        'JSON object of weights for potential "weighted", e.g. {"pf": 1, "lpips": 0.3}.',
        results=True,
    )

    face_engine: str = _face_field(
        "auto",
        "Face engine: `insightface` (your own model files, non-commercial), `basic` (the files "
        "that `eacps face-models` downloads), or auto: insightface if it is usable, else basic. "
        "Or a plug-in: an entry point, `module:Class` or `file.py:Class`.",
        results=True,
    )
    face_models: Path = _face_field(
        FACE_MODELS,
        "Folder with the files of engine `basic`; `eacps face-models` fills it. In a checkout "
        "the default is `models/faces`; for an installed package it is `eacps/faces` in the user's "
        "data folder (XDG_DATA_HOME, or `~/.local/share`).",
    )
    insightface_root: Path = _face_field(
        Path("~/.insightface"), "Folder that contains InsightFace's files in `models`."
    )
    insightface_pack: str = _face_field(
        "buffalo_l", "Folder of the detector and the recogniser in `models`.", results=True
    )
    inswapper: str = _face_field(
        "inswapper_128.onnx", "File of the swapper in `models`, or its path.", results=True
    )
    face_license_accepted: bool = _face_field(
        False,
        "InsightFace's models are for non-commercial research only. `true` confirms that you have "
        "read their licence and may use them; without it engine `insightface` stays off.",
        results=True,
        validation_alias=AliasChoices("EACPS_FACE_LICENSE_ACCEPTED", "EACPS_FACE_LICENCE_ACCEPTED"),
    )
    face_provider: Literal["auto", "cpu", "cuda"] = _face_field(
        "auto",
        "Where ONNX Runtime runs the face models; auto: on the worker's device, with a warning "
        "if it falls back to the CPU; cuda: fail instead of falling back.",
    )
    face_restorer: str = _face_field(
        "",
        "ONNX file of a face restorer (GFPGAN, 512 px), which adds a choice; engine insightface.",
        results=True,
    )
    face_mapping: FaceMapping = _face_field(
        "auto",
        "Which of several characters goes to which face: by `order` (left to right), by mask "
        "`regions` (in the order drawn), or by `similarity`; auto: regions if there are as many "
        "as characters, else order.",
        results=True,
    )
    face_alternatives: int = _face_field(
        3, "Maximum number of mappings of characters to faces to review.", results=True, ge=1
    )
    face_boosts: tuple[int, ...] = _face_field(
        (256, 512),
        "JSON list of crop sides in pixels, each a choice to review (engine insightface): "
        "multiples of 128.",
        results=True,
    )
    face_blends: tuple[float, ...] = _face_field(
        (1.0, 0.8),
        "JSON list of opacities, each a choice to review: 1 shows only the swapped face.",
        results=True,
    )
    face_shapes: tuple[float, ...] = _face_field(
        (0.7, 0.35),
        "JSON list of how far the face takes on the character's proportions, each a choice to "
        "review (engine basic).",
        results=True,
    )
    face_weights: dict[str, float] = _face_field(
        {"identity": 1.0, "landmarks": 0.3, "sharpness": 0.2, "outside": 0.2},
        "JSON object of the weights that rank face swaps.",
        results=True,
    )
    identity_weight: float = _face_field(
        3.0,
        "Weight of `identity` that route character adds to the potential.",
        results=True,
        ge=0,
    )
    face_mark: Literal["metadata", "visible"] = _face_field(
        "metadata",
        "How swapped images are marked: in their metadata, or also with a visible line.",
        results=True,
    )
    c2pa_certificate: str = _face_field(
        "",
        "File with your certificate chain (PEM, ES256), to sign swapped images with Content "
        "Credentials; needs the package c2pa-python.",
    )
    c2pa_key: str = _face_field("", "File with that certificate's key (PEM, PKCS#8).")

    plugin_options: dict[str, dict[str, Any]] = _plugin_field(
        {},
        'JSON object of options by plug-in, e.g. {"MyJudge": {"url": "http://judge:8000"}}; `eacps '
        "settings` lists them. A value `$NAME` is read from that environment variable.",
        results=True,
        # Some may be secret; only the plug-ins know which.
        repr=False,
    )

    project_weights: dict[str, float] = _project_field(
        {},
        'JSON object from a project\'s number to its weight, e.g. {"7": 3}: while several projects '
        "have tasks waiting, their shares of the workers are proportional to these. Default: 1; "
        '"*" sets it for all projects that are not named.',
    )
    project_quotas: dict[str, int] = _project_field(
        {},
        "JSON object from a project's number to the most candidates that its searches may begin on "
        'one day (UTC), e.g. {"7": 500, "*": 2000}. "*" is for each project that is not named. '
        "Tasks beyond that wait until the next day. Default: no limit.",
    )

    devices: Words = _machine_field(
        ("auto",),
        "Devices, comma separated, one worker each: `cpu`, `cuda:0,cuda:1`, or auto.",
    )
    threads: int = _machine_field(0, "CPU threads of one worker; 0: all cores / workers.", ge=0)
    data_dir: Path = _machine_field(
        Path(".eacps"), "Folder for the database, artifacts, locks and secret."
    )
    database_url: str = _machine_field(
        "", "Jobs database: postgresql://… Empty: SQLite in EACPS_DATA_DIR."
    )
    artifacts_url: str = _machine_field(
        "", "Artifact store, an fsspec URL. Empty: a folder in EACPS_DATA_DIR."
    )
    host_name: str = _machine_field(
        "", "This machine's stable name in the jobs database; empty: hostname."
    )
    retention_days: float = _machine_field(
        30.0, "How many days finished jobs and artifacts are kept.", gt=0
    )
    search_concurrency: int = _machine_field(
        0,
        "Maximum number of parallel searches; 0: two for each device, 16 where servers judge.",
        ge=0,
        le=512,
    )
    batch_timeout_seconds: float = _machine_field(
        900.0, "A batch that runs longer counts as hung.", gt=0
    )
    stale_after_seconds: float = _machine_field(
        30.0, "A worker without a heartbeat for this long counts as dead (several machines).", gt=0
    )

    metrics_port: int = _machine_field(
        0,
        "Port on which the orchestrator serves its own Prometheus metrics; the worker with slot N "
        "uses this port + 1 + N. 0: none. The web server's are at /metrics on EACPS_PORT.",
        ge=0,
        le=65535,
    )
    metrics_host: str = _machine_field(
        "127.0.0.1",
        "Address that EACPS_METRICS_PORT binds. These pages need no password.",
    )

    panel: Literal["on", "view", "off"] = _panel_field(
        "on",
        "The live panel in every task: on: people compare and steer; view: they only compare; off: "
        "there is none.",
    )
    browser_url: str = _panel_field(
        "",
        "This backend's address as seen from browsers, with a proxy's path if there is one; panels "
        "and signed image URLs begin with it. Empty: EACPS_PUBLIC_URL.",
    )
    label_studio_browser_url: str = _panel_field(
        "",
        "Label Studio's address as seen from browsers: only its pages may contain the panel. "
        "Empty: LABEL_STUDIO_URL.",
    )
    panel_secrets: SecretStr = _panel_field(
        SecretStr(""),
        "Secrets, comma separated, with which addresses of panels are signed. The first one signs, "
        "all are accepted. Empty: one made from the secret of image URLs.",
    )

    panel_actions_per_day: int = _panel_field(
        100,
        "Requests that a task's panel may make within a day.",
        ge=0,
        le=100_000,
    )
    panel_candidates_per_day: int = _panel_field(
        400,
        "Candidates that a task's panel may ask for within a day.",
        ge=0,
        le=1_000_000,
    )

    host: str = _web_field("127.0.0.1", "Address that the web server binds.")
    port: int = _web_field(9090, "Port that the web server binds.", ge=0, le=65535)
    public_url: str = _web_field("", "This backend's address as seen from Label Studio.")
    artifacts_redirect: Literal["auto", "always", "never"] = _web_field(
        "auto",
        "Whether an image's URL redirects to the artifact store, at a URL of the store that is "
        "valid for 5 minutes. auto: if the store is reached by https (s3://… without an endpoint "
        "of your own that is plain http). never: this backend sends the image itself.",
    )
    trusted_proxies: Words = _web_field(
        (),
        "Addresses or networks, comma separated, of proxies before this backend (10.0.0.5, "
        "10.1.0.0/16). The client is then the last other address in X-Forwarded-For. Also list "
        "Label Studio's address here if LABEL_STUDIO_URL does not lead to it.",
    )
    connections_per_client: int = _web_field(
        64,
        "Maximum number of connections of one client; 0: no limit. Label Studio and trusted "
        "proxies are not limited.",
        ge=0,
    )
    request_head_seconds: float = _web_field(
        10.0, "How long the headers of a request may take to arrive.", gt=0
    )
    request_seconds: float = _web_field(
        120.0,
        "How long the body of a request may take to arrive, and its answer to be taken.",
        gt=0,
    )
    max_request_bytes: int = _web_field(256_000_000, "Maximum bytes of a request.", ge=1024)
    max_tasks_per_request: int = _web_field(
        250_000, "Maximum number of tasks of one /predict. Webhooks may have any number.", ge=1
    )
    url_secret: SecretStr = _web_field(
        SecretStr(""), "Secret that signs image URLs. Empty: created and stored in EACPS_DATA_DIR."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = _web_field(
        "INFO", "Minimum level of log lines."
    )
    log_format: Literal["text", "json"] = _web_field("text", "Log lines as text, or as JSON.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments override the environment, which overrides `.env`; dicts are not merged."""
        return init_settings, _UnmergedSource(env_settings), _UnmergedSource(dotenv_settings)

    @model_validator(mode="before")
    @classmethod
    def _rank_by_what_is_named(cls, given: Any) -> Any:
        """Rank by weights, or by a judge's or verifier's answers, if only these are set."""
        if not isinstance(given, dict) or "potential" in given:
            return given
        if given.get("weights"):
            return {**given, "potential": "weighted"}
        verifier = given.get("verifier")
        if not isinstance(verifier, str):
            return given
        rubric = str(given.get("rubric") or cls.model_fields["rubric"].default)
        weights = judge_names.default_weights(verifier, rubric)
        return {**given, "potential": "weighted", "weights": weights} if weights else given

    @field_validator("judge_limits")
    @classmethod
    def _check_limits(cls, value: dict[str, float]) -> dict[str, float]:
        known = [f"{what}_per_{span}" for what in _LIMITED for span in _SPANS]
        for name, limit in value.items():
            if name not in known:
                raise ValueError(f"{name[:60]!r} is none of {', '.join(known)}")
            if not limit > 0:
                raise ValueError(f"{name} must be above 0")
        return value

    @field_validator("judge_routes")
    @classmethod
    def _check_routes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not set(value) <= set(ROUTES):
            raise ValueError(f"must be routes: {', '.join(ROUTES)}")
        return value

    @field_validator("verifier_weights")
    @classmethod
    def _check_verifier_weights(cls, value: dict[str, float]) -> dict[str, float]:
        if any(not 0 < weight < float("inf") for weight in value.values()):
            raise ValueError("every weight must be above 0")
        return value

    @field_validator("editor", "clip", "verifier")
    @classmethod
    def _resolve_demo_pack(cls, value: str) -> str:
        # 0.1 had the pack at this path in the checkout; now it is in the package.
        named = Path(value)
        if named.parts[:2] == ("demo", "pack") and not named.exists():
            return str(DEMO_PACK.joinpath(*named.parts[2:]))
        return value

    @field_validator("face_engine")
    @classmethod
    def _check_face_engine(cls, value: str) -> str:
        installed = [point.name for point in plugins.installed(plugins.FACE_ENGINES)]
        known = ("auto", "insightface", "basic", *installed)
        if value not in known and not plugins.is_reference(value):
            raise ValueError(f"must be {', '.join(known)}, `module:Class` or `file.py:Class`")
        return value

    @field_validator("face_boosts")
    @classmethod
    def _check_boosts(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or any(side % 128 or not 128 <= side <= 1024 for side in value):
            raise ValueError("must be a list of multiples of 128 from 128 to 1024")
        return value

    @field_validator("face_blends", "face_shapes")
    @classmethod
    def _check_shares(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or any(not 0 <= share <= 1 for share in value):
            raise ValueError("must be a list of numbers from 0 to 1")
        return value

    @field_validator(
        "reference_hosts",
        "allowed_hosts",
        "devices",
        "mask_labels",
        "route_fields",
        "scorers",
        "trusted_proxies",
        "judge_routes",
        mode="before",
    )
    @classmethod
    def _split_commas(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(word.strip() for word in value.split(",") if word.strip())
        return value

    @field_validator("basic_auth_file", mode="before")
    @classmethod
    def _no_file(cls, value: Any) -> Any:
        return value or None

    @field_validator("trusted_proxies")
    @classmethod
    def _check_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            try:
                ipaddress.ip_network(network)
            except ValueError:
                message = f"{network[:60]!r} is not an address or network such as 10.1.0.0/16"
                raise ValueError(message) from None
        return value

    @field_validator("project_weights")
    @classmethod
    def _check_weights(cls, value: dict[str, float]) -> dict[str, float]:
        if any(not 0.01 <= weight <= 100 for weight in value.values()):
            raise ValueError("weights must be numbers from 0.01 to 100")
        return _with_project_numbers(value)

    @field_validator("project_quotas")
    @classmethod
    def _check_quotas(cls, value: dict[str, int]) -> dict[str, int]:
        if any(quota < 1 for quota in value.values()):
            raise ValueError("quotas must be whole numbers of 1 or more")
        return _with_project_numbers(value)

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, value: str) -> str:
        known = ("postgresql://", "postgres://", "postgresql+psycopg://", "sqlite:///")
        if value and not value.startswith(known):
            raise ValueError("must begin with postgresql:// or sqlite:///")
        return value

    @field_validator("host")
    @classmethod
    def _without_brackets(cls, value: str) -> str:
        """An IPv6 address may be written as in a URL."""
        return value[1:-1] if value.startswith("[") and value.endswith("]") else value

    @field_validator("label_studio_url", "public_url", "browser_url", "label_studio_browser_url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return value.rstrip("/")

    @property
    def resolved_database_url(self) -> str:
        """The URL of the jobs database, after applying the default."""
        return self.database_url or f"sqlite:///{self.data_dir.resolve() / 'jobs.sqlite'}"

    @property
    def resolved_artifacts_url(self) -> str:
        """The URL of the artifact store, after applying the default."""
        return self.artifacts_url or f"file://{self.data_dir.resolve() / 'artifacts'}"

    @property
    def resolved_public_url(self) -> str:
        """The address of this backend, after applying the default."""
        return self.public_url or f"http://{self.bind_address}"

    @property
    def resolved_browser_url(self) -> str:
        """The address of this backend for browsers, after applying the default."""
        return self.browser_url or self.resolved_public_url

    @property
    def bind_address(self) -> str:
        """Host and port of the web server, with an IPv6 address in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def plan(self) -> SearchPlan:
        """The search plan of these settings."""
        return SearchPlan(
            self.strategy,
            self.strategy_params,
            self.seed,
            self.editor_batch_size,
            self.steps,
            self._finals,
        )

    def changed(self, changes: Mapping[str, Any]) -> Settings:
        """A copy with other values, which the caller has checked."""
        copy = self.model_copy(update=dict(changes))
        for name in ("fingerprint", "equipment"):
            copy.__dict__.pop(name, None)
        return copy

    @property
    def _finals(self) -> int:
        """How many finalists meet: none unless the potential asks a judge that reads language."""
        asked = self.potential == "weighted" and bool(judge_names.judges_named(self))
        return self.finals if asked and self.finals > 1 else 0

    @property
    def verifiers(self) -> tuple[str, ...]:
        """The names in EACPS_VERIFIER."""
        return tuple(name for part in self.verifier.split(",") if (name := part.strip()))

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all settings that change results."""
        return fingerprints.fingerprint(self)

    @cached_property
    def equipment(self) -> str:
        """A hash of the models that a worker loads with these settings."""
        return fingerprints.equipment(self)

    @property
    def model_version(self) -> str:
        """The model version that Label Studio shows."""
        return f"{plugins.label(self.strategy)}-{self.fingerprint}"


def _with_project_numbers(value: dict[str, Any]) -> dict[str, Any]:
    for name in value:
        if name != "*" and not (name.isascii() and name.isdecimal()):
            raise ValueError(f'{name[:40]!r} is neither the number of a project nor "*"')
    return value


def group_of(field: FieldInfo) -> str:
    """The group of this setting, or an empty string."""
    return str(_marks(field).get("group", ""))


def changes_results(field: FieldInfo) -> bool:
    """Whether this setting changes what a search returns."""
    return bool(_marks(field).get("changes_results"))


def _marks(field: FieldInfo) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], field.json_schema_extra or {})


def load_settings(**overrides: Any) -> Settings:
    """Load settings from the environment and `.env`; raises SettingsError for an invalid one."""
    _refuse_unknown_variables()
    given = {field_of(name): value for name, value in overrides.items()}
    try:
        settings = _with_password_file(Settings(**given))
        _refuse_what_ranks_nothing(settings)
        return settings
    except SettingsError:
        raise
    except ValidationError as error:
        first = error.errors()[0]
        name = _variable_of(str(first["loc"][0]) if first["loc"] else "")
        problem = first["msg"].removeprefix("Value error, ").removesuffix(".")
        if first["input"] == "":
            raise SettingsError(
                f"{name} is empty.", hint=f"Give {name} a value, or remove it."
            ) from None
        raise SettingsError(f"{name}: {problem}.", hint=f"Change {name}.") from None
    except PydanticSettingsError as error:
        # Its message names the field, but users know the variable.
        field = next((name for name in Settings.model_fields if f'"{name}"' in str(error)), "")
        name = _variable_of(field)
        raise SettingsError(
            f"{name} is not JSON.", hint=f"Change {name}; names and texts need double quotes."
        ) from None
    except Exception as error:
        raise SettingsError(f"Settings could not be read: {error}.") from None


def _refuse_what_ranks_nothing(settings: Settings) -> None:
    """Raise SettingsError for settings that were given, and that the potential leaves unused."""
    given = settings.model_fields_set
    if settings.potential == "eacps":
        if settings.weights:
            raise SettingsError(
                "EACPS_WEIGHTS does nothing, because EACPS_POTENTIAL is eacps.",
                hint="Remove EACPS_POTENTIAL to rank by the weights, or remove the weights.",
            )
        return
    idle = [name for name in ("alpha", "beta") if name in given]
    if idle:
        names = " and ".join(f"EACPS_{name.upper()}" for name in idle)
        raise SettingsError(
            f"{names} {'does' if len(idle) == 1 else 'do'} nothing where weights or a judge rank.",
            hint="Set EACPS_POTENTIAL=eacps, or remove them.",
        )


def _with_password_file(settings: Settings) -> Settings:
    """The settings with the user and password of EACPS_BASIC_AUTH_FILE, if they are needed."""
    path = settings.basic_auth_file
    if path is None or settings.basic_auth_user or settings.basic_auth_pass.get_secret_value():
        return settings
    try:
        user, _, word = path.read_text("utf-8").strip().partition(":")
    except FileNotFoundError:
        return settings
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"EACPS_BASIC_AUTH_FILE: {path} cannot be read: {error}.",
            hint="Let this user read it, or set EACPS_BASIC_AUTH_USER and EACPS_BASIC_AUTH_PASS.",
        ) from None
    if not user or not word:
        raise SettingsError(
            f"EACPS_BASIC_AUTH_FILE: {path} has no line `user:password`.",
            hint="Write one, or delete the file, so that `eacps serve` makes a new password.",
        )
    secret = {"basic_auth_user": user, "basic_auth_pass": SecretStr(word)}
    return settings.model_copy(update=secret)


def _variable_of(field: str) -> str:
    """The variable that set a field; if it is unset, the preferred name."""
    # pydantic's errors name a field with aliases by its first alias.
    every = {field: variable_names(field) for field in Settings.model_fields}
    names = next((known for own, known in every.items() if field in (own, *known)), (field,))
    given = {**variables_of_env_file(), **os.environ}
    return next((name for name in names if name in given), names[0])


def _refuse_unknown_variables() -> None:
    """Raise SettingsError for a misspelt setting, which would be ignored silently."""
    known = {name for field in Settings.model_fields for name in variable_names(field)}
    in_file = variables_of_env_file()
    for name in (*os.environ, *in_file):
        if name.startswith(_PREFIX) and not name.startswith(_OUTSIDE) and name not in known:
            raise _unknown_setting(name, known)
    for name, value in in_file.items():
        if name in known and value is None:
            raise SettingsError(
                f".env names {name} without a value.", hint=f"Write {name}=… or remove the line."
            )


def _unknown_setting(name: str, known: Iterable[str]) -> SettingsError:
    nearest = difflib.get_close_matches(name, list(known), n=1)
    meant = f"Did you mean {nearest[0]}?" if nearest else "`eacps settings` lists them all."
    return SettingsError(f"There is no setting {name}.", hint=meant)


def field_of(name: str) -> str:
    """The field for a name, which may also be a variable's without `EACPS_` and in lower case."""
    by_variable = {
        variable.removeprefix(_PREFIX).lower(): field
        for field in Settings.model_fields
        for variable in variable_names(field)
    }
    if name not in Settings.model_fields and name not in by_variable:
        raise _unknown_setting(name, by_variable)
    return name if name in Settings.model_fields else by_variable[name]


def variables_of_env_file() -> dict[str, str | None]:
    """The variables in the `.env` of the current folder; raises SettingsError for an unreadable
    line, which would be ignored silently."""
    if not Path(".env").is_file():
        return {}
    try:
        text = Path(".env").read_text(_ENV_FILE_ENCODING)
    except UnicodeDecodeError:
        raise SettingsError(".env is not UTF-8 text.", hint="Save it as UTF-8.") from None
    except OSError as error:
        raise SettingsError(f".env cannot be read: {error.strerror}.") from None
    for found in parse_stream(io.StringIO(text)):
        if found.error:
            blank = found.original.string[: -len(found.original.string.lstrip())].count("\n")
            # Without the line itself, which may hold a token.
            raise SettingsError(
                f"Line {found.original.line + blank} of .env cannot be read.",
                hint="Write NAME=value, and close every quote.",
            )
    return dotenv_values(stream=io.StringIO(text))


def variable_names(field: str) -> tuple[str, ...]:
    """All environment variables that set a field, the preferred one first."""
    alias = Settings.model_fields[field].validation_alias
    if isinstance(alias, AliasChoices):
        return tuple(str(choice) for choice in alias.choices)
    return (f"{_PREFIX}{field.upper()}",)
