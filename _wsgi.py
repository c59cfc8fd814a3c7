"""`gunicorn _wsgi:app`: the web process, from the environment's settings."""

from model import EacpsModel  # noqa: I001 - first, because it finds the package in a checkout
from eacps.labelstudio.web.wsgi import web_process

app = web_process(EacpsModel)
