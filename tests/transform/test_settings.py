"""A wrong declaration is refused before anything runs."""

import pytest
from pydantic import ValidationError

from transform.settings import DataSettings, Feature, FeatureSettings


def feature(name, kind="category"):
    return {"name": name, "kind": kind}


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ({"item_text": ["brand"]}, "contains 'title'"),
        ({"item_text": ["title", "title"]}, "each column once"),
        ({"user": [feature("brand")]}, "brand: declared 2 times"),
        ({"context": [feature("query")]}, "query: reserved by Tandem"),
        ({"item": [feature("item_tokens")]}, "item_tokens: reserved"),
        ({"context": [feature("filter_brand")]}, "filter_brand: reserved for filters of items"),
        ({"item": [feature("price", "number")], "item_text": ["title", "price"]}, "cannot be in item_text"),
        ({"item_text": ["title", "tags"], "user": [feature("tags")]}, "in item_text and a user or context"),
        ({"item": [feature("title", "path")]}, "only kind 'category'"),
        ({"user": [feature("a b")]}, "should match pattern"),
        ({"user": [feature("age", "vector")]}, "'category', 'path' or 'number'"),
        ({"event_types": {}}, "at least one"),
        ({"event_types": {"purchase": 0.0}}, "purchase: got weight 0.0"),
        ({"event_types": {"purchase": float("inf")}}, "finite number above 0"),
        ({"event_types": {"": 1.0}}, "empty event type"),
        ({"history_length": 0}, "greater than or equal to 1"),
        ({"history": 10}, "Extra inputs are not permitted"),
    ],
)
def test_wrong_declaration_is_refused_with_its_reason(declared, says):
    with pytest.raises(ValidationError, match=says):
        FeatureSettings.model_validate(declared)


def test_settings_survive_json():
    settings = FeatureSettings(user=(Feature(name="segment", kind="category"),), event_types={"buy": 2.0})
    assert FeatureSettings.model_validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize(
    "wrong", [{"holdout_days": 0}, {"max_rejected_share": 1.5}, {"window_spans": 0}, {"spans": 3}]
)
def test_wrong_data_setting_is_refused(wrong):
    with pytest.raises(ValidationError):
        DataSettings.model_validate({"dataset": "shop", **wrong})
