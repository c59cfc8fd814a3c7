"""`gunicorn _wsgi:app`: the web process, from the environment's settings."""

from backend import log
from backend.labelstudio.web import create_app
from backend.settings import load_settings
from model import EacpsModel

settings = load_settings()
log.configure(settings.log_level, settings.log_format, process="web")
app = create_app(settings, EacpsModel)
