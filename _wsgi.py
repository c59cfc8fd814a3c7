"""The web server for `gunicorn _wsgi:app`, with settings from the environment."""

from model import EacpsModel  # noqa: I001 - first, because it finds the package in a checkout
from eacps.labelstudio.web.wsgi import web_process

app = web_process(EacpsModel)
