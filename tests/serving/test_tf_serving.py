"""What the stock TensorFlow Serving needs: its configuration, and a bundle that a graph session runs."""

from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from serving.settings import MODEL_NAME
from tests.serving.conftest import Shop

FOLDER = Path(__file__).parents[2] / "serving" / "tf_serving"


def test_models_config_serves_the_name_that_clients_ask_for() -> None:
    text = (FOLDER / "models.config").read_text()
    parsed = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    (model,) = parsed.model_config_list.config
    assert (model.name, model.model_platform) == (MODEL_NAME, "tensorflow")
    assert (
        model.base_path in (FOLDER / "README.md").read_text()
    )  # where the command mounts the push directory


def test_bundle_answers_in_a_graph_session_as_tensorflow_serving_runs_it(shop: Shop) -> None:
    # The stock server loads by tag into a session: restore, initialise tables, feed and fetch tensors by
    # name.
    titles = list(shop.catalogue.titles[:3])
    vectors = shop.embed_queries(query=titles)
    rows = [tf.train.Example() for _ in titles]
    for row, title, vector in zip(rows, titles, vectors, strict=True):
        row.features.feature["query"].bytes_list.value.append(title.encode())
        row.features.feature["target_item_ids"].bytes_list.value.append(shop.best(vector, 2)[1].encode())
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        graph = tf.compat.v1.saved_model.load(session, ["serve"], shop.bundle_dir)
        default, evaluate = (graph.signature_def[name] for name in ("serving_default", "evaluate"))
        feed = {"query": titles, "segment": [""] * 3, "basket": [np.nan] * 3}
        feed |= {name: np.full((3, 0), "") for name in ("history_item_ids", "history_event_types")}
        feed |= {"history_ages": np.zeros((3, 0))}
        item_ids = session.run(
            default.outputs["item_ids"].name, {default.inputs[k].name: v for k, v in feed.items()}
        )
        mrr = session.run(
            evaluate.outputs["mrr"].name,
            {evaluate.inputs["examples"].name: [row.SerializeToString() for row in rows]},
        )
    for found, vector in zip(item_ids, vectors, strict=True):
        assert [item.decode() for item in found] == shop.best(vector, 20)
    np.testing.assert_allclose(mrr, 0.5)  # the second best item was the target
