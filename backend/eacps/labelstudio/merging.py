"""The review screen in a label config that a project has of its own: adds it, finds it, removes it.

Our part is appended as a block of its own, so that the project's part stays as it was written,
character by character. Names of tags that both parts have are changed in ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from xml.etree import ElementTree

from eacps.labelstudio import label_config
from eacps.labelstudio.errors import LabelStudioError
from eacps.labelstudio.tasks.regions import parse_config

_BEGIN: Final = '<View className="with-review">\n'
_BETWEEN: Final = '\n<View className="review">'
_END: Final = "\n</View>"
_PREFIX: Final = "eacps_"
_NAME: Final = re.compile(r'(?<![\w.-])name\s*=\s*["\']([^"\']*)["\']')
_DECLARATION: Final = re.compile(r"^\s*(<\?xml[^>]*\?>)?\s*")
_FIXED: Final = frozenset({label_config.RANKER, label_config.CANDIDATES, "ranked", "rejected"})
"""Names to which predictions refer."""
_RENAMED: Final = re.compile(rf"{_PREFIX}(?:\d+_)?(\w+)")


def merged(own: str, review: str) -> str:
    """A project's own label config with the review screen below it; raises LabelStudioError."""
    if parse_config(own) is None:
        raise LabelStudioError("The project's label config cannot be read as XML.")
    taken = names(own)
    fixed = sorted(_FIXED & taken)
    if fixed:
        raise LabelStudioError(
            f"The project's label config already has a tag or bucket named `{fixed[0]}`, a name "
            "that the review screen needs.",
            hint="Rename it if nothing was annotated with it, or connect another project.",
        )
    for name in sorted(names(review) & taken):
        review = _renamed(review, name, _free_name(name, taken | names(review)))
    return f"{_BEGIN}{own_part(own)}\n{review.strip()}{_END}"


def own_part(own: str) -> str:
    """A project's own label config as it stands in a merged one: without an XML declaration."""
    return _DECLARATION.sub("", own, count=1).rstrip()


def parts(config: str) -> tuple[str, str] | None:
    """The project's own part and the review screen of a merged label config; None if it is none."""
    config = config.strip().replace("\r\n", "\n")
    start = config.rfind(_BETWEEN)
    if not config.startswith(_BEGIN) or start < 0 or not config.endswith(_END):
        return None
    own, review = config[len(_BEGIN) : start], config[start + 1 : -len(_END)]
    if parse_config(own) is None or not is_review(review):
        return None
    return own, review


def is_review(config: str) -> bool:
    """Whether a label config is a review screen, possibly changed by hand: it ranks our cards."""
    root = parse_config(config)
    if root is None:
        return False
    rankers = [tag for tag in root.iter("Ranker") if tag.get("name") == label_config.RANKER]
    lists = [tag for tag in root.iter("List") if tag.get("name") == label_config.CANDIDATES]
    return bool(rankers and lists)


def is_empty(config: str) -> bool:
    """Whether a label config has no tags, as in a new project."""
    root = parse_config(config)
    return not config.strip() or (root is not None and root.tag == "View" and len(root) == 0)


def names(config: str) -> frozenset[str]:
    """All names in a label config, which Label Studio requires to be unique."""
    return frozenset(_NAME.findall(config))


def own_name(config: Any, name: str) -> str:
    """The name that one of our tags has in a label config: merging may have changed it."""
    root = parse_config(config)
    review = None if root is None else _review_of(root)
    for tag in () if review is None else review.iter():
        given = tag.get("name", "")
        changed = _RENAMED.fullmatch(given)
        if given == name or (changed and changed[1] == name):
            return given
    return name


def _review_of(root: ElementTree.Element) -> ElementTree.Element | None:
    """The innermost View with class `review` around our ranker, or everything."""
    for view in root.iter("View"):
        if view.get("className") == "review" and any(
            tag.get("name") == label_config.RANKER for tag in view.iter("Ranker")
        ):
            return view
    return root


def _free_name(name: str, taken: frozenset[str]) -> str:
    candidates = [f"{_PREFIX}{name}", *(f"{_PREFIX}{number}_{name}" for number in range(2, 100))]
    return next(one for one in candidates if one not in taken)


def _renamed(config: str, name: str, new: str) -> str:
    pattern = rf'(?<![\w.-])(name|toName)="{re.escape(name)}"'
    return re.sub(pattern, rf'\1="{new}"', config)


def annotated_names_missing(one: Mapping[str, Any], config: str) -> list[str]:
    """The tags with annotations (`created_annotations` of a project's summary) that a label config
    lacks."""
    present = names(config)
    used = {str(key).partition("|")[0] for key in one}
    return sorted(used - present)
