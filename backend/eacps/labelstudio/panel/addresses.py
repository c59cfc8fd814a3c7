"""Where browsers find the panel, and which pages may contain it."""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import urlsplit

from eacps.settings import Settings

PATH: Final = "/panel"
_LOCAL: Final = ("localhost", "127.0.0.1")


def panel_address(settings: Settings, backend_url: str = "") -> str:
    """The address below which browsers find all panels."""
    base = settings.browser_url or backend_url or settings.resolved_public_url
    return f"{base.rstrip('/')}{PATH}"


def ancestors(settings: Settings) -> str:
    """The origins of the pages that may contain the panel, for `frame-ancestors`."""
    address = settings.label_studio_browser_url or settings.label_studio_url
    parts = urlsplit(address)
    host = parts.hostname or ""
    if not host:
        return "'none'"
    hosts = dict.fromkeys((host, *_LOCAL)) if is_local(host) else (host,)
    return " ".join(_origin(parts.scheme, each, parts.port) for each in hosts)


def problems(settings: Settings, backend_url: str = "") -> list[str]:
    """What keeps browsers from showing the panel in Label Studio, in words."""
    panel = urlsplit(panel_address(settings, backend_url))
    outer = urlsplit(settings.label_studio_browser_url or settings.label_studio_url)
    found = []
    if outer.scheme == "https" and panel.scheme == "http" and not is_local(panel.hostname or ""):
        found.append(
            "Browsers will not show the panel: Label Studio is reached by https, and the panel by "
            "http. Set EACPS_BROWSER_URL to an https address of this backend."
        )
    if (panel.hostname or "") in ("0.0.0.0", "::"):  # noqa: S104 - an address that nobody can open
        found.append(
            f"Browsers cannot open {panel.scheme}://{panel.netloc}, where the panel would be. Set "
            "EACPS_BROWSER_URL, or EACPS_PUBLIC_URL, to an address that they can open."
        )
    elif is_local(panel.hostname or "") and not is_local(outer.hostname or ""):
        found.append(
            f"Only browsers on this machine can open the panel at {panel.scheme}://{panel.netloc}. "
            "Set EACPS_BROWSER_URL to the address that annotators' browsers reach."
        )
    return found


def is_local(host: str) -> bool:
    """Whether a host in a URL is the browser's own machine. Names are not resolved."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _origin(scheme: str, host: str, port: int | None) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"{scheme}://{name}" + (f":{port}" if port else "")
