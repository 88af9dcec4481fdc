"""What a shop would write instead: FastAPI around sentence-transformers and faiss, in the baselines' environment."""

import argparse
import os
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

K = 100
NEIGHBOURS = 32  # of faiss' HNSW: a search costs a small part of what encoding does


class Search(BaseModel):
    """A request."""

    queries: list[str]


def make_app(model: Any, index: Any, item_ids: list[str]) -> FastAPI:
    """`POST /search`: queries in, the ids and scores of their best items out."""
    app = FastAPI()

    @app.post("/search")
    def search(request: Search) -> dict[str, Any]:
        vectors = model.encode(request.queries, normalize_embeddings=True, show_progress_bar=False)
        scores, rows = index.search(np.asarray(vectors, np.float32), K)
        return {"item_ids": [[item_ids[row] for row in found] for found in rows], "scores": scores.tolist()}

    return app


def read_index(directory: Path) -> Any:
    """The index over `vectors.npy`; built once, and kept beside it."""
    path = directory / "hnsw.faiss"
    if path.exists():
        return faiss.read_index(str(path))
    vectors = np.load(directory / "vectors.npy")
    index = faiss.IndexHNSWFlat(vectors.shape[1], NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efSearch = K
    index.add(vectors)
    faiss.write_index(index, str(path))
    return index


def main() -> None:
    """Serves on a free port of this machine until it is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("encoder", help="directory in Hugging Face's layout")
    parser.add_argument("index", type=Path, help="directory with vectors.npy and item_ids.txt")
    options = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    from sentence_transformers import SentenceTransformer

    item_ids = (options.index / "item_ids.txt").read_text(encoding="utf-8").splitlines()
    model = SentenceTransformer(options.encoder, device="cpu")
    app = make_app(model, read_index(options.index), item_ids)
    uvicorn.run(app, host="127.0.0.1", port=0, access_log=False)


if __name__ == "__main__":
    main()
