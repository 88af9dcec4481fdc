"""An unmodified tensorflow-serving-api client gets what TensorFlow Serving would give it, over a socket."""

from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
)

from serving import server as servers
from tests.serving.conftest import Shop, request_of
from transform.errors import TandemError


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


def test_string_tensor_without_values_holds_empty_strings(stub) -> None:
    bare = tf.make_tensor_proto([""])
    del bare.string_val[:]  # what TensorFlow itself leaves out may be left out by a client, too
    spelled_out = stub.Predict(request_of(query=["red mug"], segment=[""]), timeout=10)
    assert (
        stub.Predict(request_of(query=["red mug"], segment=bare), timeout=10).outputs == spelled_out.outputs
    )


def test_output_filter_and_version_of_a_request_are_kept(stub) -> None:
    request = request_of(query=["mug"])
    request.output_filter.append("scores")
    request.model_spec.version.value = 7
    assert set(stub.Predict(request, timeout=10).outputs) == {"scores"}


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
    expected = {"serving_default", "exact", "embed_query", "embed_item", "evaluate", "items", "related"}
    assert set(signatures) == expected
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


def test_push_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TandemError, match="is a file, expected a directory"):
        servers.start(tmp_path / "file", 0)


def test_port_in_use_is_one_clear_line(address: str, tmp_path: Path) -> None:
    with pytest.raises(TandemError, match=f"{address} cannot be listened on, expected a free port"):
        servers.start(tmp_path, int(address.split(":")[1]))
