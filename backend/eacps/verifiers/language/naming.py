"""Makes the judges that EACPS_VERIFIER names as `openai:MODEL` and the like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from eacps.errors import SettingsError
from eacps.judge_names import JudgeName, options_written, rubric_of
from eacps.metric_range import MetricRange
from eacps.options import checked, from_environment
from eacps.plugins import OPTIONS, Context
from eacps.rubrics.reading import Rubric, read_rubric
from eacps.settings import Settings
from eacps.verifiers.language.options import LocalOptions, ServerOptions
from eacps.verifiers.protocol import Verifier

if TYPE_CHECKING:
    from eacps.verifiers.language.asking import Place

_SERVICES: Final = {
    "openai": "eacps.verifiers.language.services.openai_chat:OpenAIChat",
    "anthropic": "eacps.verifiers.language.services.anthropic_messages:AnthropicMessages",
    "gemini": "eacps.verifiers.language.services.gemini_content:GeminiContent",
}


@dataclass(frozen=True)
class LanguageVerifier:
    """A judge that reads language, as the registry holds it: named, and not yet loaded."""

    name: str
    judge: JudgeName
    rubric: Rubric

    @property
    def ranges(self) -> Mapping[str, MetricRange]:
        """The questions that it answers, with their ranges."""
        return self.rubric.ranges

    @property
    def Options(self) -> type[ServerOptions] | type[LocalOptions]:  # noqa: N802 - as plug-ins' classes have it
        """What EACPS_PLUGIN_OPTIONS may say for it."""
        return ServerOptions if self.judge.remote else LocalOptions

    def options(self, settings: Settings) -> Any:
        """Its options, checked."""
        written = options_written(self.name, settings)
        whole = from_environment(written, OPTIONS)
        return checked(
            self.Options,
            whole,
            what=f"The options of judge {self.judge.label!r}",
            setting=OPTIONS,
            hidden=[name for name, value in whole.items() if value != written[name]],
        )

    def address(self, settings: Settings) -> str:
        """Where it is asked; empty for a model on this machine. Raises SettingsError without a key
        where one is needed."""
        if not self.judge.remote:
            return ""
        return _place(self, self.options(settings)).address

    def load(self, context: Context) -> Verifier:
        """The judge, ready to be asked."""
        options = self.options(context.settings)
        if self.judge.remote:
            return _server_judge(self, options, context.settings)
        from eacps.verifiers.language.local import LocalJudge

        device = options.device or context.device
        return LocalJudge.load(self.judge.model, self.rubric, options, device)


def language_verifier(name: str, judge: JudgeName, settings: Settings) -> LanguageVerifier:
    """The judge of this name under these settings."""
    rubric = read_rubric(rubric_of(name, settings))
    if rubric.task_questions and not judge.remote:
        raise SettingsError(
            f"The rubric {rubric.name} has questions written for each task, which the judge "
            f"{judge.label} cannot do: models on this machine write no questions.",
            hint=f"Give it another rubric, such as edit: {OPTIONS}="
            f'{{"local": {{"rubric": "edit"}}}}, or serve the model and name it openai:MODEL@http://…',
        )
    return LanguageVerifier(name, judge, rubric)


def _server_judge(found: LanguageVerifier, options: ServerOptions, settings: Settings) -> Verifier:
    from eacps.verifiers.language.asking import Asker
    from eacps.verifiers.language.judge import ServerJudge
    from eacps.verifiers.language.storage import Storage

    judge = found.judge
    _check_limits(judge, options, settings)
    storage = Storage(
        settings.data_dir, keep_days=settings.judge_cache_days, limits=settings.judge_limits
    )
    place = _place(found, options)
    asker = Asker(place, options, storage)
    engine = f"{judge.label}@{place.address}"
    return ServerJudge(
        judge.label,
        found.rubric,
        options,
        asker,
        storage,
        engine=engine,
        routes=settings.judge_routes,
    )


def _place(found: LanguageVerifier, options: ServerOptions) -> Place:
    from eacps.verifiers.language.asking import Place
    from eacps.verifiers.language.keys import find_address, find_key

    judge = found.judge
    where, _, member = _SERVICES[judge.service].partition(":")
    service = getattr(import_module(where), member)()
    address = find_address(service, judge.address or options.base_url)
    official = address == service.default_address
    key = find_key(service, options.api_key, options.api_key_file, address, required=official)
    return Place(service, judge.model, address, key.get_secret_value(), judge.label)


def _check_limits(judge: JudgeName, options: ServerOptions, settings: Settings) -> None:
    limited = [name for name in settings.judge_limits if name.startswith("cost_")]
    if limited and not (options.price_read or options.price_written):
        raise SettingsError(
            f"EACPS_JUDGE_LIMITS has {limited[0]}, but the price of {judge.label} is not known.",
            hint=f'Set it in {OPTIONS}: {{"{judge.label}": {{"price_read": 1.25, "price_written": '
            "10}}, in money per million tokens.",
        )
