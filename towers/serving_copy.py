"""The towers as they are served: the weights of the model that trains, float32 and on no strategy."""

from typing import Any

import numpy as np

from towers.build import build_model
from towers.encoder import load_encoder
from towers.settings import EncoderSettings, ModelSettings
from towers.two_tower import TwoTower
from towers.vocabulary import Vocabulary
from transform.settings import FeatureSettings


class ServingCopy:
    """A model of its own, made when it is first asked for.

    Args:
      features, encoder, model: settings.
      vocabularies: of the model that trains.
      query_texts: float32 [U + 1, E], encoded training queries, or None.
    """

    def __init__(
        self,
        features: FeatureSettings,
        encoder: EncoderSettings,
        model: ModelSettings,
        vocabularies: dict[str, Vocabulary],
        query_texts: np.ndarray | None = None,
    ) -> None:
        self._settings: Any = (features, encoder, model)
        self._vocabularies = vocabularies
        self._query_texts = query_texts
        self._copy: TwoTower | None = None

    def of(self, model: TwoTower) -> TwoTower:
        """The copy, with the weights that the model has now."""
        if self._copy is None:
            features, encoder, settings = self._settings
            self._copy = build_model(features, settings, load_encoder(encoder, "float32"), self._vocabularies)
            if self._query_texts is not None:
                self._copy.use_query_texts(self._query_texts)
        trained = {variable.path: variable for variable in model.variables}
        for variable in self._copy.variables:
            if variable.path in trained and "seed_generator" not in variable.path:
                variable.assign(np.asarray(trained[variable.path]))
        return self._copy
