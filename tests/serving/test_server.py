"""An unmodified tensorflow-serving-api client gets what TensorFlow Serving would give it, over a socket."""

import re
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving import server as servers
from serving.bundle import publish
from serving.client import Interaction, RetrievalClient, wait_until_available
from tests.serving.conftest import Shop
from transform.errors import TandemError


@pytest.fixture(scope="module")
def address(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    push_dir = tmp_path_factory.mktemp("push")
    publish(shop.bundle_dir, push_dir, 7)
    server = servers.start(push_dir, 0, poll_seconds=0.05)
    wait_until_available(f"127.0.0.1:{server.port}")
    yield f"127.0.0.1:{server.port}"
    server.stop()


@pytest.fixture(scope="module")
def stub(address: str) -> Iterator[prediction_service_pb2_grpc.PredictionServiceStub]:
    with grpc.insecure_channel(address) as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


def request_of(signature: str = "", *, name: str = "retrieval", **inputs) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(value if isinstance(value, TensorProto) else tf.make_tensor_proto(value))
    return request


def refusal(stub, request) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        stub.Predict(request, timeout=10)
    return caught.value.code().name, caught.value.details()


def test_text_query_gets_the_shops_own_ids_best_first(shop: Shop, stub) -> None:
    response = stub.Predict(request_of(query=["red mug", "blue lamp"]), timeout=10)
    assert response.model_spec.name == "retrieval"
    assert response.model_spec.version.value == 7
    assert response.model_spec.signature_name == "serving_default"
    ids = tf.make_ndarray(response.outputs["item_ids"])
    scores = tf.make_ndarray(response.outputs["scores"])
    assert ids.shape == scores.shape == (2, 20)
    vectors = shop.embed_queries(query=["red mug", "blue lamp"])
    for row in range(2):
        assert [item.decode() for item in ids[row]] == shop.best(vectors[row], 20)
        best = np.sort(shop.catalogue.vectors.astype(np.float64) @ vectors[row])[::-1][:20]
        np.testing.assert_allclose(scores[row], best, rtol=1e-4)


def test_every_signature_answers_and_exact_agrees_with_the_index(shop: Shop, stub) -> None:
    history = {"history_item_ids": [["sku-3", "sku-8"]]}
    default = stub.Predict(request_of(**history), timeout=10)
    exact = stub.Predict(request_of("exact", **history), timeout=10)
    assert list(default.outputs["item_ids"].string_val) == list(exact.outputs["item_ids"].string_val)
    vector = stub.Predict(request_of("embed_query", **history), timeout=10).outputs["embedding"]
    np.testing.assert_allclose(tf.make_ndarray(vector), shop.embed_queries(**history), rtol=1e-5)
    one = {name: value[:1] for name, value in shop.items.items()}
    item = stub.Predict(request_of("embed_item", **one), timeout=10).outputs["embedding"]
    np.testing.assert_allclose(tf.make_ndarray(item), shop.catalogue.vectors[:1], rtol=1e-5)
    known = stub.Predict(request_of("items", item_ids=["sku-9", "gone", "sku-0"]), timeout=10).outputs
    rows = [list(shop.catalogue.item_ids).index(item) for item in ("sku-9", "sku-0")]
    titles = [shop.catalogue.titles[row].encode() for row in rows]
    assert list(known["titles"].string_val) == [titles[0], b"", titles[1]]
    row = tf.train.Example()
    row.features.feature["query"].bytes_list.value.append(b"red mug")
    row.features.feature["target_item_ids"].bytes_list.value.append(b"sku-0")
    measured = stub.Predict(request_of("evaluate", examples=[row.SerializeToString()]), timeout=10)
    assert set(measured.outputs) == {"recall_at_10", "recall_at_100", "ndcg_at_10", "mrr"}


def test_absent_inputs_mean_no_value(shop: Shop, stub) -> None:
    short = stub.Predict(request_of(history_item_ids=[["sku-3"], [""]]), timeout=10)
    spelled_out = stub.Predict(
        request_of(
            query=["", ""],
            segment=["", ""],
            basket=np.full(2, np.nan, np.float32),
            history_item_ids=[["sku-3"], [""]],
            history_event_types=[[""], [""]],
            history_ages=np.full((2, 1), np.nan, np.float32),
        ),
        timeout=10,
    )
    assert short.outputs == spelled_out.outputs


def test_output_filter_and_version_of_a_request_are_kept(stub) -> None:
    request = request_of(query=["mug"])
    request.output_filter.append("scores")
    request.model_spec.version.value = 7
    assert set(stub.Predict(request, timeout=10).outputs) == {"scores"}


def tensor(dtype, dims, **values) -> TensorProto:
    shape = tf.TensorShape(dims).as_proto()
    return TensorProto(dtype=dtype.as_datatype_enum, tensor_shape=shape, **values)


def nonsense() -> dict[str, tuple[predict_pb2.PredictRequest, str, str]]:
    """Name -> request, status, what the message must say."""
    label, version, output = (request_of(query=["mug"]) for _ in range(3))
    label.model_spec.version_label = "canary"
    version.model_spec.version.value = 6
    output.output_filter.append("price")
    long = "x" * 10_000
    bad = "INVALID_ARGUMENT"
    number, text = tf.float32, tf.string
    count = "another number of values"
    return {
        "model": (request_of(name="ranking", query=["mug"]), "NOT_FOUND",
            "'ranking' is not served, expected 'retrieval'"),
        "version": (version, "NOT_FOUND", "version 6 .* is not loaded, expected 7"),
        "label": (label, bad, "version_label is 'canary'"),
        "signature": (request_of("classify", query=["mug"]), bad,
            "'classify' is unknown, expected one of embed_item, "),
        "output": (output, bad, "output 'price' is unknown .* expected some of item_ids, scores"),
        "input": (request_of(query=["mug"], price=[1.0]), bad,
            "input 'price' is unknown to .* expected some of "),
        "nothing": (request_of(), bad, "received no input, expected some of .*query"),
        "missing": (request_of("evaluate"), bad, "received no input, expected some of examples"),
        "dtype": (request_of(query=[1.0]), bad, "input 'query' has dtype float32, expected string"),
        "double": (request_of(basket=tensor(tf.float64, [1], double_val=[1.0])), bad,
            "'basket' has dtype float64, expected float32"),
        "no dtype": (request_of(query=TensorProto()), bad, "'query' has dtype .*expected string"),
        "odd dtype": (request_of(query=TensorProto(dtype=9999)), bad, "'query' has dtype .*expected string"),
        "scalar": (request_of(query="mug"), bad, r"'query' has shape \[\], expected \[batch\]"),
        "matrix": (request_of(query=[["mug"]]), bad, r"'query' has shape \[1, 1\], expected \[batch\]"),
        "flat history": (request_of(history_item_ids=["a"]), bad,
            r"has shape \[1\], expected \[batch, length\]"),
        "no rows": (request_of(query=tensor(text, [0])), bad,
            r"shape \[0\], expected \[batch\] with a batch of 1 to 1024"),
        "no shape": (request_of(query=tensor(text, None)), bad, "has an unknown shape, expected"),
        "below zero": (request_of(query=minus_one()), bad, r"shape \[-1\]"),
        "bomb": (request_of(query=tensor(text, [1 << 40], string_val=[b"x"])), bad, "batch of 1 to 1024"),
        "wide": (request_of(history_item_ids=[["a"] * 1001]), bad, "length of 0 to 1000"),
        "more values than places": (request_of(query=tensor(text, [1], string_val=[b"a", b"b"])), bad, count),
        "content of a string": (request_of(query=tensor(text, [1], tensor_content=b"abcd")), bad, count),
        "content too short": (request_of(basket=tensor(number, [2], tensor_content=b"abc")), bad, count),
        "batches differ": (request_of(query=["a", "b"], segment=["gold"]), bad,
            "differ in batch size: query 2, segment 1"),
        "lengths differ": (request_of(history_item_ids=[["a"]], history_event_types=[["v", "v"]]), bad,
            "differ in length"),
        "long query": (request_of(query=[long]), bad, "a query of 10,000 characters, expected at most 2,000"),
        "long id": (request_of(history_item_ids=[[long * 3]]), bad,
            "a string of 30,000 bytes, expected at most 20,000"),
        "not UTF-8": (request_of(query=tensor(text, [1], string_val=[b"\xff\xfe"])), bad, "not UTF-8"),
        "infinite": (request_of(query=["a"], basket=[np.inf]), bad, "'basket' holds an infinite number"),
        "no example": (request_of("evaluate", examples=["x"]), bad, "signature 'evaluate': "),
        "long name": (request_of(query=["a"], **{long: ["b"]}), bad, "input 'xxx"),
    }  # fmt: skip


def minus_one() -> TensorProto:
    proto = tensor(tf.string, [1])
    proto.tensor_shape.dim[0].size = -1
    return proto


@pytest.mark.parametrize("case", sorted(nonsense()))
def test_nonsense_gets_the_right_status_and_a_reason(stub, case: str) -> None:
    request, status, reason = nonsense()[case]
    code, details = refusal(stub, request)
    assert code == status
    assert len(details) <= 1000
    assert re.search(reason, details), details


def test_query_of_exactly_the_limit_is_answered(stub) -> None:
    # 2,000 characters, of two bytes each: the limit counts characters.
    assert stub.Predict(request_of(query=["é" * 2000]), timeout=10).outputs["item_ids"].string_val
    assert refusal(stub, request_of(query=["é" * 2001]))[0] == "INVALID_ARGUMENT"


@given(
    name=st.sampled_from(["query", "segment", "basket", "history_item_ids", "history_ages", "price"]),
    dtype=st.sampled_from([0, 1, 2, 3, 7, 9, 20, 101, 5000]),
    dims=st.lists(st.integers(-2, 5), max_size=3),
    strings=st.lists(st.binary(max_size=20), max_size=4),
    floats=st.lists(st.floats(width=32), max_size=4),
    content=st.binary(max_size=12),
    signature=st.sampled_from(["", "exact", "embed_query", "items", "embed_item"]),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_tensors_are_answered_or_refused_but_never_break_the_server(
    stub, name, dtype, dims, strings, floats, content, signature
) -> None:
    proto = TensorProto(dtype=dtype, string_val=strings, float_val=floats, tensor_content=content)
    for size in dims:
        proto.tensor_shape.dim.add().size = size
    try:
        stub.Predict(request_of(signature, **{name: proto}), timeout=10)
    except grpc.RpcError as error:
        assert error.code().name == "INVALID_ARGUMENT", error.details()


def test_metadata_describes_what_is_served(stub) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest()
    request.model_spec.name = "retrieval"
    with pytest.raises(grpc.RpcError, match=r"expected \['signature_def'\]"):
        stub.GetModelMetadata(request, timeout=10)
    request.metadata_field.append("signature_def")
    response = stub.GetModelMetadata(request, timeout=10)
    assert response.model_spec.version.value == 7
    definitions = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(definitions)
    signatures = definitions.signature_def
    assert set(signatures) == {"serving_default", "exact", "embed_query", "embed_item", "evaluate", "items"}
    assert signatures["exact"] == signatures["serving_default"]
    assert [d.size for d in signatures["exact"].inputs["history_item_ids"].tensor_shape.dim] == [-1, -1]
    assert [d.size for d in signatures["exact"].outputs["scores"].tensor_shape.dim] == [-1, 20]


def test_status_tells_which_version_is_available(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "retrieval"
        status = stub.GetModelStatus(request, timeout=10).model_version_status
        assert [(s.version, s.state) for s in status] == [
            (7, get_model_status_pb2.ModelVersionStatus.AVAILABLE)
        ]
        for name, version in (("ranking", None), ("retrieval", 8)):
            request.model_spec.name = name
            if version:
                request.model_spec.version.value = version
            with pytest.raises(grpc.RpcError) as caught:
                stub.GetModelStatus(request, timeout=10)
            assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_rest_of_the_api_is_unimplemented(stub) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.MultiInference(inference_pb2.MultiInferenceRequest(), timeout=10)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_client_searches_by_text_history_and_features(shop: Shop, address: str) -> None:
    with RetrievalClient(address) as client:
        result = client.search("red mug", k=10)
        assert result.item_ids == shop.best(shop.embed_queries(query=["red mug"])[0])
        assert (len(result.scores), result.version) == (10, 7)
        assert result.milliseconds > 0
        assert result.item_ids == client.search("red mug", k=10, exact=True).item_ids
        history = [Interaction("sku-3", "purchase", 1.5), "sku-8"]
        vector = shop.embed_queries(
            history_item_ids=[["sku-3", "sku-8"]],
            history_event_types=[["purchase", ""]],
            history_ages=[[1.5, np.nan]],
            segment=["gold"],
            basket=[30.0],
        )[0]
        found = client.search(history=history, segment="gold", basket=30, k=5).item_ids
        assert found == shop.best(vector, 5)
        assert (
            client.items(found[:1])[0].title == shop.catalogue.titles[shop.catalogue.item_ids.index(found[0])]
        )
        assert client.items([]) == []


def test_client_says_in_one_line_what_is_wrong(address: str) -> None:
    with RetrievalClient(address) as client:
        with pytest.raises(TandemError, match="k is 21, expected at most 20"):
            client.search("mug", k=21)
        with pytest.raises(TandemError, match="k is 0"):
            client.search("mug", k=0)
        with pytest.raises(
            TandemError, match="INVALID_ARGUMENT: input 'colour' is unknown .* expected some of"
        ):
            client.search("mug", colour="red")
        with pytest.raises(TandemError, match="10,000 characters, expected at most 2,000"):
            client.search("x" * 10_000)
    with (
        RetrievalClient("127.0.0.1:1") as client,
        pytest.raises(TandemError, match="no server answers at 127.0.0.1:1"),
    ):
        client.search("mug")
    with pytest.raises(TandemError, match="127.0.0.1:1 has no version to answer from after 0 s"):
        wait_until_available("127.0.0.1:1", timeout_seconds=0.3)


def test_push_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TandemError, match="is a file, expected a directory"):
        servers.start(tmp_path / "file", 0)


def test_port_in_use_is_one_clear_line(address: str, tmp_path: Path) -> None:
    with pytest.raises(TandemError, match=f"{address} cannot be listened on, expected a free port"):
        servers.start(tmp_path, int(address.split(":")[1]))
