"""Whatever is put in, changed and taken out: answers are those of comparing every item of the catalogue as it then is."""

import datetime
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.catalogue_log import LOG, CatalogueLog
from serving.changed_items import ChangedItems
from serving.live_catalogue import LiveCatalogue
from serving.loaded_bundle import LoadedBundle, load_bundle
from serving.request_inputs import Limits, RequestError
from serving.settings import IndexSettings
from serving.write_bundle import Catalogue, write_bundle
from tests.serving.catalogue_oracle import Client, answers_as, embed_item, ids_of, inputs_of, own_items
from tests.serving.conftest import Shop

TITLES = ("red mug", "blue lamp red", "green", "red red red mug")


@pytest.fixture(scope="module")
def loaded(shop: Shop) -> LoadedBundle:
    return load_bundle(shop.bundle_dir)


@pytest.fixture
def bundle(loaded: LoadedBundle) -> LoadedBundle:
    loaded.changes = ChangedItems(60, 8)
    return loaded


@pytest.fixture
def catalogue(bundle: LoadedBundle, tmp_path: Path) -> LiveCatalogue:
    return opened(tmp_path, bundle)


def opened(folder: Path, *bundles: LoadedBundle) -> LiveCatalogue:
    """As a server does at its start: the log is read, then versions are loaded."""
    made = LiveCatalogue(CatalogueLog(folder), Limits())
    for bundle in bundles:
        bundle.changes = ChangedItems(60, 8)
        made.attach(bundle)
    return made


POOL = st.sampled_from(["sku-0", "sku-1", "sku-27", "sku-57", "sku-9", "new-1", "new-2", "new-3"])
UPSERT = st.tuples(
    st.just("upsert"), st.dictionaries(POOL, st.sampled_from([*TITLES, "as it was"]), min_size=1)
)
DELETE = st.tuples(st.just("delete"), st.lists(POOL, min_size=1, unique=True))
SOME = st.lists(
    st.tuples(
        st.just("delete"),
        st.lists(st.sampled_from([f"sku-{n}" for n in range(60)]), min_size=40, unique=True),
    ),
    max_size=1,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(UPSERT | DELETE, min_size=1, max_size=6), many=SOME, restarts=st.booleans())
def test_any_sequence_of_changes_answers_as_brute_force(
    shop: Shop, loaded: LoadedBundle, tmp_path_factory, steps, many, restarts
) -> None:
    folder = tmp_path_factory.mktemp("catalog")
    catalogue = opened(folder, loaded)
    originals = own_items(shop)
    live = dict(zip(shop.catalogue.item_ids, shop.catalogue.vectors.astype(np.float64), strict=True))
    for kind, what in [*many, *steps]:
        if kind == "delete":
            catalogue.apply({"delete": what}, Client())
            live = {item_id: vector for item_id, vector in live.items() if item_id not in what}
            continue
        items = []
        for item_id, title in what.items():
            item = {"item_id": item_id, "title": title, "price": 3.5}
            items.append(originals.get(item_id, item) if title == "as it was" else item)
            live[item_id] = embed_item(shop, items[-1])
        catalogue.apply({"upsert": items}, Client())
    for _ in range(2 if restarts else 1):
        assert answers_as(loaded, live, "red mug")
        assert answers_as(loaded, live, "", ("sku-1", "new-1", "sku-57", "sku-27", "nowhere"))
        opened(folder, loaded)  # what was replayed from the log answers alike


def test_answers_hold_what_was_upserted_and_not_what_was_deleted(catalogue, bundle: LoadedBundle) -> None:
    before = bundle.changes
    best = bundle.run("serving_default", inputs_of("red mug"))["item_ids"][0, 0].decode()
    answer = catalogue.apply(
        {
            "upsert": [{"item_id": "new", "title": "red mug red mug", "category": "x"}],
            "delete": [best, "who"],
        },
        Client(),
    )
    assert answer == {"upserted": 1, "deleted": 2, "not_found": ["who"], "versions": [0]}
    assert "new" in ids_of(bundle) and best not in ids_of(bundle)
    ids = np.array([b"new", best.encode(), b"sku-2"], object)
    described = bundle.run("items", {"item_ids": ids})
    assert described["titles"].tolist()[:2] == [b"red mug red mug", b""] and described["titles"][2]
    assert described["categories"].tolist()[:2] == [b"x", b""]
    assert not before and bundle.changes.number > before.number


def test_the_comparison_sees_an_answer_that_misses_a_change(
    catalogue, shop: Shop, bundle: LoadedBundle
) -> None:
    vectors = dict(zip(shop.catalogue.item_ids, shop.catalogue.vectors.astype(np.float64), strict=True))
    best = next(iter(ids_of(bundle)))
    catalogue.apply({"delete": [best]}, Client())
    assert answers_as(bundle, {i: v for i, v in vectors.items() if i != best}, "red mug")
    assert not answers_as(bundle, vectors, "red mug")


def test_content_that_the_version_holds_already_is_left_to_its_index(
    catalogue, shop: Shop, bundle: LoadedBundle
) -> None:
    original = own_items(shop)["sku-9"]
    for content, beside in (
        (original | {"title": "red"}, 1),
        (original, 0),
        (original | {"price": 900.0}, 1),
    ):
        catalogue.apply({"upsert": [content]}, Client())
        assert len(bundle.changes.beside) == bundle.changes.hidden == beside
        assert answers_as(
            bundle,
            {i: embed_item(shop, c) for i, c in (own_items(shop) | {"sku-9": content}).items()},
            "red mug",
        )


@pytest.fixture(scope="module")
def loaded_next(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> LoadedBundle:
    """The next version, whose catalogue has "new" and another title of sku-9, and no sku-8."""
    items = own_items(shop) | {
        "sku-9": own_items(shop)["sku-9"] | {"title": "white horse"},
        "new": {"item_id": "new", "title": "red mug new"},
    }
    del items["sku-8"]
    ids = sorted(items)
    vectors = np.stack([embed_item(shop, items[i]) for i in ids]).astype(np.float32)
    texts = ([items[i].get(name, "") for i in ids] for name in ("title", "category"))
    directory = tmp_path_factory.mktemp("next") / "bundle"
    write_bundle(shop.towers_dir, Catalogue(ids, *texts, vectors), str(directory), IndexSettings(k=20))
    return load_bundle(directory)


@pytest.fixture
def caught_up(loaded_next: LoadedBundle) -> LoadedBundle:
    loaded_next.changes = ChangedItems(60, 8)
    return loaded_next


def test_next_version_shows_every_change_and_only_what_it_does_not_hold_is_beside_it(
    catalogue, shop: Shop, bundle: LoadedBundle, caught_up: LoadedBundle
) -> None:
    upserts = [
        {"item_id": "new", "title": "red mug new"},  # the next version has it as it is here
        own_items(shop)["sku-9"] | {"title": "white horse"},
        own_items(shop)["sku-8"] | {"title": "black horse"},  # and this not at all
        own_items(shop)["sku-7"] | {"title": "red horse"},  # and this with its old title
    ]
    catalogue.apply({"upsert": upserts, "delete": ["sku-1", "sku-2"]}, Client())
    catalogue.apply({"upsert": [{"item_id": "sku-2", "title": "red"}], "delete": ["new-too"]}, Client())
    catalogue.attach(caught_up)
    assert {item.item_id for item in caught_up.changes.beside} == {b"sku-8", b"sku-7", b"sku-2"}
    live = (
        own_items(shop)
        | {item["item_id"]: item for item in upserts}
        | {"sku-2": {"item_id": "sku-2", "title": "red"}}
    )
    del live["sku-1"]
    vectors = {item_id: embed_item(shop, item) for item_id, item in live.items()}
    for version in (bundle, caught_up):
        assert not version.has(b"sku-1")
        assert answers_as(version, vectors, "red mug", ("sku-1", "sku-8", "sku-9"))
    catalogue.apply({"delete": ["new"]}, Client())  # which one has beside its index, and the other in it
    assert not bundle.has(b"new") and not caught_up.has(b"new")


def made(bundle: LoadedBundle, seconds: float) -> LoadedBundle:
    """The same as if it had been made so many seconds from now."""
    when = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    bundle.manifest = bundle.manifest.model_copy(update={"created": when.isoformat()})
    return bundle


def test_upsert_that_a_push_has_taken_in_does_not_stand_against_later_datasets(
    shop: Shop, bundle: LoadedBundle, caught_up: LoadedBundle, tmp_path: Path
) -> None:
    def titles(version: LoadedBundle) -> list[str]:
        ids = np.array([b"sku-9", b"new", b"sku-1"], object)
        return [title.decode() for title in version.run("items", {"item_ids": ids})["titles"]]

    old, own = made(bundle, -60), own_items(shop)["sku-9"]["title"]
    upserts = [
        own_items(shop)["sku-9"] | {"title": "white horse"},
        {"item_id": "new", "title": "red mug new"},
    ]
    catalogue = opened(tmp_path, old)
    catalogue.apply({"upsert": upserts, "delete": ["sku-1"]}, Client())
    in_training = made(load_bundle(shop.bundle_dir), 10)  # its dataset was read before the change
    opened(tmp_path, in_training)
    assert titles(in_training) == ["white horse", "red mug new", ""]
    catalogue.attach(made(caught_up, 20))
    moved_on = made(
        in_training, 30
    )  # with the old title again, and without the new item: so says the dataset
    for _ in range(2):
        moved_on.changes = ChangedItems(60, 8)
        catalogue.attach(moved_on)
        assert titles(moved_on) == [own, "", ""]
        assert titles(old) == titles(caught_up) == ["white horse", "red mug new", ""]  # for a rollback
        catalogue = opened(tmp_path, old)
    catalogue.attach(moved_on)
    catalogue.apply({"upsert": [{"item_id": "sku-9", "title": "black horse"}]}, Client())
    assert titles(old)[0] == titles(moved_on)[0] == "black horse"
    assert len(CatalogueLog(tmp_path).open()) == 3


def test_wrong_change_is_refused_and_nothing_is_changed(
    catalogue: LiveCatalogue, bundle: LoadedBundle, tmp_path: Path
) -> None:
    right, wrong = {"item_id": "a", "title": "mug"}, {"item_id": "b", "titel": "mug"}
    with pytest.raises(
        RequestError, match=r"upsert\[1\]: column 'titel' is unknown.*brand, category, item_id"
    ):
        catalogue.apply({"upsert": [right, wrong]}, Client())
    assert not bundle.changes and not (tmp_path / LOG).exists()


def test_log_that_cannot_be_written_refuses_the_change_whole(bundle: LoadedBundle) -> None:
    catalogue = opened(Path("/proc/tandem-catalog"), bundle)
    with pytest.raises(RequestError, match="cannot be written.*Nothing was changed") as caught:
        catalogue.apply({"upsert": [{"item_id": "new", "title": "red mug"}], "delete": ["sku-1"]}, Client())
    assert caught.value.status == "FAILED_PRECONDITION"
    assert not bundle.changes and bundle.has(b"sku-1") and not catalogue.state.entries


def test_item_that_overflows_the_model_is_refused(catalogue, bundle: LoadedBundle, monkeypatch) -> None:
    run = bundle.run
    monkeypatch.setattr(
        bundle, "run", lambda signature, inputs: {"embedding": run(signature, inputs)["embedding"] * np.inf}
    )
    with pytest.raises(RequestError, match="makes no finite vector of item 'new'"):
        catalogue.apply({"upsert": [{"item_id": "new", "title": "red mug"}]}, Client())
    assert not bundle.changes and not catalogue.state.entries


def test_without_a_version_there_is_nothing_that_could_embed(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no version is loaded") as caught:
        opened(tmp_path).apply({"delete": ["a"]}, Client())
    assert caught.value.status == "UNAVAILABLE"


def test_readers_see_a_change_whole_and_writers_do_not_lose_one(
    catalogue, bundle: LoadedBundle, tmp_path
) -> None:
    pair = [{"item_id": f"pair-{n}", "title": "red mug red mug"} for n in range(2)]
    seen: list[int] = []
    stopped = threading.Event()

    def read() -> None:
        while not stopped.is_set():
            seen.append(len(ids_of(bundle) & {"pair-0", "pair-1"}))

    def write(name: str) -> None:
        for n in range(5):
            catalogue.apply({"upsert": [{"item_id": f"{name}-{n}", "title": "x"}]}, Client())

    threads = [threading.Thread(target=read) for _ in range(2)]
    threads += [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for _ in range(5):
        catalogue.apply({"upsert": pair}, Client())
        catalogue.apply({"delete": ["pair-0", "pair-1"]}, Client())
    for thread in threads[2:]:
        thread.join()
    stopped.set()
    for thread in threads[:2]:
        thread.join()
    assert set(seen) <= {0, 2}
    assert all(bundle.has(f"{name}-{n}".encode()) for name in "abcd" for n in range(5))
    assert len(CatalogueLog(tmp_path).open()) == 30
