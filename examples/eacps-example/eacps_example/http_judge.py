"""A verifier: asks a server of your own about each edit."""

import base64
import io
import json
from urllib.request import Request, urlopen

from pydantic import BaseModel, Field, SecretStr

from eacps import Answers, MetricRange

MOST_BYTES = 100_000


class Options(BaseModel):
    """What EACPS_PLUGIN_OPTIONS may say."""

    url: str = Field(pattern="^https?://", description="where to send edits")
    token: SecretStr = Field(SecretStr(""), description="sent as a bearer token")
    timeout_seconds: float = Field(60, gt=0, description="how long to wait for an answer")


class HttpJudge:
    """Sends instruction, source and edit as JSON; is answered with numbers and a sentence."""

    ranges = {
        "satisfied": MetricRange(worst=0, best=1),
        "preserved": MetricRange(worst=0, best=1),
    }
    Options = Options

    def __init__(self, options):
        self._options = options

    def judge(self, task, images, edited, progress):
        source = as_text(images.source)
        return [self._ask(task.instruction, source, as_text(image)) for image in edited]

    def _ask(self, instruction, source, edited):
        content = {"instruction": instruction, "source": source, "edited": edited}
        token = self._options.token.get_secret_value()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        request = Request(self._options.url, json.dumps(content).encode(), headers)
        with urlopen(request, timeout=self._options.timeout_seconds) as answer:
            said = json.loads(answer.read(MOST_BYTES))
        values = {name: float(said[name]) for name in self.ranges if name in said}
        return Answers(values, str(said.get("why", ""))[:500])


def as_text(image):
    """A PNG in base64."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
