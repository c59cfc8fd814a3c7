"""The layouts of preference pairs that trainers read.

- `images`: prompt, original, chosen and rejected. In JSON Lines the pictures are paths, named as
  the `imagefolder` loader of Hugging Face datasets expects; in Parquet they are images.
- `pick-a-pic`: the columns of Pick-a-Pic v2 (`jpg_0`, `jpg_1`, `label_0`, `caption`, ...), which
  Diffusion-DPO and reward models for pictures read.
- `trl`: TRL's conversational preference format with `images`, for a vision language model that
  judges: it is shown the original and both edits, and says which is better.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from eacps.domain import digest
from eacps.export.pairs import Pair
from eacps.export.pictures import suffix_of, uid
from eacps.export.table import arrow

Layout = Literal["images", "pick-a-pic", "trl"]
LAYOUTS: Final[tuple[str, ...]] = get_args(Layout)
_QUESTION: Final = (
    "The first picture is the original. The second and the third picture are edits of it. "
    "Instruction: {prompt}\nWhich edit is better, the second or the third picture?"
)
_QUESTION_WITHOUT_ORIGINAL: Final = (
    "The first and the second picture are edits of the same picture. "
    "Instruction: {prompt}\nWhich edit is better, the first or the second picture?"
)


@dataclass(frozen=True)
class Sides:
    """A pair with its pictures. Which of them comes first is decided by a hash of the pair, so that
    the place says nothing about the preference."""

    pair: Pair
    original: bytes | None
    chosen: bytes
    rejected: bytes

    @property
    def chosen_first(self) -> bool:
        """Whether the chosen picture is shown first."""
        review = self.pair.review
        names = sorted((self.pair.chosen, self.pair.rejected))
        first = names[int(digest([review["task"], *names]), 16) % 2]
        return first == self.pair.chosen

    @property
    def in_order(self) -> tuple[tuple[str, bytes], tuple[str, bytes]]:
        """Both candidates as they are shown."""
        chosen, rejected = (self.pair.chosen, self.chosen), (self.pair.rejected, self.rejected)
        return (chosen, rejected) if self.chosen_first else (rejected, chosen)


def about(pair: Pair) -> dict[str, Any]:
    """What every layout says of a pair besides its pictures."""
    review = pair.review
    return {
        "prompt": pair.prompt,
        "task": review["task"],
        "annotation": review["annotation"],
        "by": review["by"],
        "reason": pair.reason,
        "chosen_id": pair.chosen,
        "rejected_id": pair.rejected,
    }


def row_of(layout: Layout) -> Callable[[Sides], dict[str, Any]]:
    """What makes a row of a Parquet file of this layout."""
    rows: Mapping[Layout, Callable[[Sides], dict[str, Any]]] = {
        "images": _images,
        "pick-a-pic": _pick_a_pic,
        "trl": _trl,
    }
    return rows[layout]


def schema_of(layout: Layout) -> Any:
    """The schema of a Parquet file of this layout, which says what is an image."""
    schemas: Mapping[Layout, Callable[[], Any]] = {
        "images": _images_schema,
        "pick-a-pic": _pick_a_pic_schema,
        "trl": _trl_schema,
    }
    return schemas[layout]()


def _images(sides: Sides) -> dict[str, Any]:
    pictures = {"original": sides.original, "chosen": sides.chosen, "rejected": sides.rejected}
    return {**about(sides.pair), **{name: _image(each) for name, each in pictures.items()}}


def _image(content: bytes | None) -> dict[str, Any] | None:
    return (
        None
        if content is None
        else {"bytes": content, "path": f"{uid(content)}.{suffix_of(content)}"}
    )


def _pick_a_pic(sides: Sides) -> dict[str, Any]:
    (_, one), (_, two) = sides.in_order
    label, review = float(sides.chosen_first), sides.pair.review
    records = [sides.pair.record(name) for name, _ in sides.in_order]
    said = about(sides.pair)
    return {
        "are_different": one != two,
        "best_image_uid": uid(sides.chosen),
        "caption": said.pop("prompt"),
        "created_at": review["updated_at"],
        "has_label": True,
        "image_0_uid": uid(one),
        "image_0_url": records[0].get("image"),
        "image_1_uid": uid(two),
        "image_1_url": records[1].get("image"),
        "jpg_0": one,
        "jpg_1": two,
        "label_0": label,
        "label_1": 1.0 - label,
        "model_0": records[0].get("model_version"),
        "model_1": records[1].get("model_version"),
        "ranking_id": review["annotation"],
        "user_id": review["by"],
        "num_example_per_prompt": 1,
        "jpg_original": sides.original,
        **said,
    }


def _trl(sides: Sides) -> dict[str, Any]:
    said = about(sides.pair)
    edits = [content for _, content in sides.in_order]
    places, question = ("first", "second"), _QUESTION_WITHOUT_ORIGINAL
    if sides.original is not None:
        edits, places, question = [sides.original, *edits], ("second", "third"), _QUESTION
    better, worse = places if sides.chosen_first else reversed(places)
    pictures = [_image(content) for content in edits]
    asked = [{"type": "image", "text": None} for _ in pictures]
    # Not str.format, because an instruction may contain braces.
    question = question.replace("{prompt}", said.pop("prompt"))
    return {
        "images": pictures,
        "prompt": [{"role": "user", "content": [*asked, _text(question)]}],
        "chosen": [_answer(better)],
        "rejected": [_answer(worse)],
        **said,
    }


def _answer(place: str) -> dict[str, Any]:
    return {"role": "assistant", "content": [_text(f"The {place} picture is better.")]}


def _text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def _said_types() -> dict[str, Any]:
    pa = arrow()
    numbers = dict.fromkeys(("task", "annotation", "by"), pa.int64())
    return {**numbers, **dict.fromkeys(("reason", "chosen_id", "rejected_id"), pa.string())}


def _image_type() -> Any:
    pa = arrow()
    return pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def _images_schema() -> Any:
    pa = arrow()
    pictures = dict.fromkeys(("original", "chosen", "rejected"), _image_type())
    fields = {"prompt": pa.string(), **_said_types(), **pictures}
    return _with_features(fields, {name: {"_type": "Image"} for name in pictures})


def _pick_a_pic_schema() -> Any:
    pa = arrow()
    text, number, share = pa.string(), pa.int64(), pa.float64()
    fields = {
        **{"are_different": pa.bool_(), "best_image_uid": text, "caption": text},
        **{"created_at": text, "has_label": pa.bool_()},
        **{"image_0_uid": text, "image_0_url": text, "image_1_uid": text, "image_1_url": text},
        **{"jpg_0": pa.binary(), "jpg_1": pa.binary(), "label_0": share, "label_1": share},
        **{"model_0": text, "model_1": text, "ranking_id": number, "user_id": number},
        **{"num_example_per_prompt": number, "jpg_original": pa.binary()},
        **_said_types(),
    }
    return pa.schema(list(fields.items()))


def _trl_schema() -> Any:
    pa = arrow()
    content = pa.list_(pa.struct([("text", pa.string()), ("type", pa.string())]))
    messages = pa.list_(pa.struct([("content", content), ("role", pa.string())]))
    spoken = dict.fromkeys(("prompt", "chosen", "rejected"), messages)
    fields = {"images": pa.list_(_image_type()), **spoken, **_said_types()}
    return _with_features(fields, {"images": {"feature": {"_type": "Image"}, "_type": "List"}})


def _with_features(fields: Mapping[str, Any], images: Mapping[str, Any]) -> Any:
    """A schema with the description that Hugging Face datasets looks for in a Parquet file."""
    features = {name: images.get(name) or _feature(kind) for name, kind in fields.items()}
    told = {"info": {"features": features}}
    schema = arrow().schema(list(fields.items()))
    return schema.with_metadata({"huggingface": json.dumps(told)})


def _feature(kind: Any) -> Any:
    """A type, as Hugging Face datasets describes it."""
    types = arrow().types
    if types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    if types.is_struct(kind):
        return {kind.field(at).name: _feature(kind.field(at).type) for at in range(kind.num_fields)}
    return {"dtype": str(kind), "_type": "Value"}
