"""A catalogue for TensorBoard's projector: vectors of some items, with titles and categories beside them."""

import os

import numpy as np
import pyarrow as pa

from pipeline.drift import Catalogue

MOST = 5_000  # items shown; a browser lays out no more while one waits


def write_projector(directory: str, catalogue: Catalogue, items: pa.Table) -> None:
    """Writes the vectors, their labels and the projector's configuration; what an earlier push wrote is replaced.

    Args:
      directory: of a TensorBoard run.
      catalogue: N items; at most `MOST` of them are shown, spread evenly.
      items: columns item_id, title and category.
    """
    from tensorboard.plugins import projector

    step = max(1, -(-len(catalogue.ids) // MOST))
    ids = [one.decode() for one in catalogue.ids[::step]]
    told = {
        item: (title, category)
        for item, title, category in zip(
            *(items[name].to_pylist() for name in ("item_id", "title", "category")), strict=True
        )
    }
    os.makedirs(directory, exist_ok=True)
    np.savetxt(os.path.join(directory, "items.tsv"), catalogue.vectors[::step], "%.5g", "\t")
    lines = [("item_id", "title", "category"), *((item, *told.get(item, ("", ""))) for item in ids)]
    with open(os.path.join(directory, "labels.tsv"), "w", encoding="utf-8") as file:
        file.writelines("\t".join(" ".join((value or "").split()) for value in line) + "\n" for line in lines)
    config = projector.ProjectorConfig()
    config.embeddings.add(tensor_name="items", tensor_path="items.tsv", metadata_path="labels.tsv")
    projector.visualize_embeddings(directory, config)
