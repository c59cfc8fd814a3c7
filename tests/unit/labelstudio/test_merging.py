"""The review screen in a label config that a project has of its own."""

from __future__ import annotations

import pytest

from eacps.labelstudio.errors import LabelStudioError
from eacps.labelstudio.label_config import is_unchanged, label_config
from eacps.labelstudio.merging import annotated_names_missing, is_empty, merged, own_name, parts
from eacps.labelstudio.tasks.regions import parse_config
from eacps.settings import Settings

OWN = """<View>
  <!-- kept > as "it" is -->
  <Image name="img" value="$image"/><Choices name='verdict' toName="img">
  <Choice value="good" alias="route"/></Choices>
  <RectangleLabels name="eacps_verdict" toName="img"><Label value="Bear"/></RectangleLabels>
</View>"""


def test_both_parts_come_back_as_they_were() -> None:
    both = merged(OWN, label_config())
    found = parts(both)
    assert found is not None
    assert found[0] == OWN
    assert merged(found[0], label_config()) == both
    assert parts(both.replace("\n", "\r\n")) == found
    assert parts(OWN) is None
    assert parts(label_config()) is None


def test_names_are_unique_and_those_that_both_have_are_changed_in_ours() -> None:
    root = parse_config(merged(OWN, label_config()))
    assert root is not None
    names = [tag.get("name") for tag in root.iter() if tag.get("name")]
    assert len(names) == len(set(names))
    targets = {tag.get("toName") for tag in root.iter() if tag.get("toName")}
    assert targets <= set(names)
    both = merged(OWN, label_config())
    assert own_name(both, "verdict") == "eacps_2_verdict"
    assert own_name(both, "img") == "eacps_img"
    assert own_name(both, "comment") == "comment"
    assert own_name(label_config(), "verdict") == "verdict"
    assert own_name("", "verdict") == "verdict"


@pytest.mark.parametrize("name", ["rank", "cands", "ranked", "rejected"])
def test_names_that_predictions_need_are_refused(name: str) -> None:
    with pytest.raises(LabelStudioError, match=f"`{name}`"):
        merged(OWN.replace('"eacps_verdict"', f'"{name}"'), label_config())


@pytest.mark.parametrize("odd", ["<View", "<!DOCTYPE x><View/>", "", "text"])
def test_what_is_no_label_config_is_refused(odd: str) -> None:
    with pytest.raises(LabelStudioError, match="cannot be read"):
        merged(odd, label_config())


def test_a_new_projects_label_config_is_empty() -> None:
    assert is_empty("<View></View>")
    assert is_empty(" <View> </View> ")
    assert is_empty("")
    assert not is_empty(OWN)


def test_our_label_configs_are_known_for_any_fields() -> None:
    other = Settings(_env_file=None, image_field="img", instruction_field="instruction")
    assert is_unchanged(label_config(other))
    assert not is_unchanged(label_config().replace("Accept best", "Accept"))


def test_tags_with_annotations_that_would_go_are_found() -> None:
    used = {"box|img|rectanglelabels": 3, "verdict|img|choices": 1}
    assert annotated_names_missing(used, label_config()) == []
    assert annotated_names_missing({**used, "label|x|choices": 1}, label_config()) == ["label"]
