"""What the server answers, whichever way it was asked: gRPC and REST share these functions."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_pb2,
    predict_pb2,
    status_pb2,
)

from serving.answer_cache import AnswerCache, Key
from serving.batching import Batcher
from serving.live_catalogue import LiveCatalogue
from serving.loaded_bundle import LoadedBundle
from serving.model_config import served_model
from serving.observed import Observer, ending
from serving.predict import models_refusals, pack_answer, read_question
from serving.request_gate import Caller, RequestGate
from serving.request_inputs import Limits, RequestError
from serving.version_watcher import VersionWatcher
from transform.errors import TandemError

SIGNATURE_DEF = "signature_def"

Response = TypeVar("Response")


class Answers:
    """Answers requests from the versions that are loaded; raises nothing but `RequestError`.

    Attributes:
      model_name: the name that requests must give.
      observe: told of every call when it has ended.
    """

    def __init__(
        self,
        model_name: str,
        watcher: VersionWatcher,
        limits: Limits,
        gate: RequestGate,
        observe: Observer,
        batcher: Batcher | None,
        cache: AnswerCache | None,
        catalogue: LiveCatalogue,
    ) -> None:
        self.model_name = model_name
        self._batcher = batcher
        self._cache = cache
        self._catalogue = catalogue
        self.observe = observe
        self._watcher = watcher
        self._limits = limits
        self._gate = gate

    @property
    def can_wait(self) -> bool:
        """Whether `predict_soon` can be asked: batches are computed by threads of their own."""
        return self._batcher is not None

    def predict(self, request: predict_pb2.PredictRequest, caller: Caller) -> bytes:
        """Runs a signature of the version that is chosen when the request arrives.

        Returns:
          A serialised `PredictResponse`.

        Raises:
          RequestError: the request is refused, comes too late, or is one too many.
        """
        with ending(self.observe, "Predict", caller, request) as call:
            bundle, key, call.answer = self._look_up(request)
            if call.answer is None:
                with self._gate.turn(caller):
                    question = read_question(bundle, request, self._limits)
                    with models_refusals(question.signature):
                        if self._batcher:
                            asked = question.signature, question.inputs, caller
                            outputs = self._batcher.run(bundle, *asked)
                        else:
                            outputs = bundle.run(question.signature, question.inputs)
                    call.answer = pack_answer(self.model_name, bundle.manifest.version, question, outputs)
                self._keep(key, call.answer)
            return call.answer

    async def predict_soon(self, request: predict_pb2.PredictRequest, caller: Caller) -> bytes:
        """As `predict`, for an event loop: others are listened to until the batch is computed."""
        assert self._batcher, "expected batches: ask `predict`"
        with ending(self.observe, "Predict", caller, request) as call:
            bundle, key, call.answer = self._look_up(request)
            if call.answer is None:
                with self._gate.place(caller):
                    question = read_question(bundle, request, self._limits)
                    with models_refusals(question.signature):
                        asked = question.signature, question.inputs, caller
                        outputs = await self._batcher.run_soon(bundle, *asked)
                    call.answer = pack_answer(self.model_name, bundle.manifest.version, question, outputs)
                self._keep(key, call.answer)
            return call.answer

    def metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, caller: Caller
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Describes the signatures: a `SignatureDefMap` under `signature_def`.

        Raises:
          RequestError: the request is refused.
        """

        def respond() -> get_model_metadata_pb2.GetModelMetadataResponse:
            fields = list(request.metadata_field)
            if not fields or set(fields) != {SIGNATURE_DEF}:
                raise RequestError(
                    "INVALID_ARGUMENT", f"metadata_field is {fields[:3]!r}, expected [{SIGNATURE_DEF!r}]"
                )
            bundle = self.bundle(request.model_spec)
            definitions = get_model_metadata_pb2.SignatureDefMap(signature_def=bundle.signature_defs)
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            response.model_spec.name = self.model_name
            response.model_spec.version.value = bundle.manifest.version
            response.metadata[SIGNATURE_DEF].Pack(definitions)
            return response

        return self._answered("GetModelMetadata", caller, request, respond)

    def status(
        self, request: get_model_status_pb2.GetModelStatusRequest, caller: Caller
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """The state of every version seen, newest first, or of the one that is asked for.

        Raises:
          RequestError: NOT_FOUND.
        """

        def respond() -> get_model_status_pb2.GetModelStatusResponse:
            self._check_name(request.model_spec)
            statuses = self._watcher.statuses()
            chosen = self._chosen(request.model_spec)
            if chosen is not None:
                statuses = {chosen: statuses[chosen]} if chosen in statuses else {}
            if not statuses:
                raise RequestError("NOT_FOUND", f"no such version of {self.model_name!r} was seen")
            response = get_model_status_pb2.GetModelStatusResponse()
            for version, status in sorted(statuses.items(), reverse=True):
                entry = response.model_version_status.add(version=version, state=int(status.state))
                entry.status.error_code = grpc.StatusCode.INTERNAL.value[0] if status.error else 0
                entry.status.error_message = status.error
            return response

        return self._answered("GetModelStatus", caller, request, respond)

    def reload(
        self, request: model_management_pb2.ReloadConfigRequest, caller: Caller
    ) -> model_management_pb2.ReloadConfigResponse:
        """Serves other versions, or the same under other labels; returns when they are loaded.

        Raises:
          RequestError: INVALID_ARGUMENT, or FAILED_PRECONDITION where a label names no version that can be
            served; both leave everything as it was.
        """

        def respond() -> model_management_pb2.ReloadConfigResponse:
            try:
                model = served_model(request.config)
            except TandemError as error:
                raise RequestError("INVALID_ARGUMENT", str(error)) from error
            if model.name != self.model_name:
                raise RequestError(
                    "INVALID_ARGUMENT",
                    f"the configuration names model {model.name[:100]!r}, expected {self.model_name!r}: another"
                    " needs a server of its own",
                )
            try:
                self._watcher.choose(model.choice)
            except TandemError as error:
                raise RequestError("FAILED_PRECONDITION", str(error)) from error
            return model_management_pb2.ReloadConfigResponse(status=status_pb2.StatusProto())

        return self._answered("HandleReloadConfigRequest", caller, request, respond)

    def change(self, body: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
        """Changes the catalogue; see `LiveCatalogue.apply`.

        Raises:
          RequestError: the change is refused, and nothing is changed.
        """
        return self._answered("Apply", caller, None, lambda: self._catalogue.apply(body, caller))

    def bundle(self, spec: model_pb2.ModelSpec) -> LoadedBundle:
        """The version that a request chooses.

        Raises:
          RequestError: NOT_FOUND, or UNAVAILABLE before the first version.
        """
        self._check_name(spec)
        loaded = self._watcher.loaded
        if not loaded:
            raise RequestError("UNAVAILABLE", self._watcher.why_unavailable())
        chosen = self._chosen(spec) or max(loaded)
        if chosen not in loaded:
            label = f", which label {spec.version_label!r} stands for," if spec.version_label else ""
            raise RequestError(
                "NOT_FOUND",
                f"version {chosen} of {self.model_name!r}{label} is not loaded, expected"
                f" {' or '.join(map(str, sorted(loaded)))}, or none for the newest",
            )
        return loaded[chosen]

    def _look_up(self, request: predict_pb2.PredictRequest) -> tuple[LoadedBundle, Key | None, bytes | None]:
        """The version that is asked; under what the cache keeps its answer, and the answer if it is there."""
        bundle = self.bundle(request.model_spec)
        if self._cache is None:
            return bundle, None, None
        return bundle, *self._cache.get(bundle.manifest.version, bundle.changes.number, request)

    def _keep(self, key: Key | None, answer: bytes) -> None:
        if self._cache and key:
            self._cache.put(key, answer)

    def _chosen(self, spec: model_pb2.ModelSpec) -> int | None:
        """The version that a request names, by number or by label."""
        if spec.HasField("version"):
            return int(spec.version.value)
        if not spec.HasField("version_label"):
            return None
        labels = self._watcher.choice.labels
        if spec.version_label not in labels:
            known = f"one of {', '.join(sorted(labels))}" if labels else "a version: there are no labels"
            raise RequestError(
                "NOT_FOUND",
                f"label {spec.version_label[:100]!r} of {self.model_name!r} is unknown, expected {known}",
            )
        return labels[spec.version_label]

    def check_every_version(self, spec: model_pb2.ModelSpec) -> None:
        """Lets a change through that names the model and none of its versions.

        Raises:
          RequestError: NOT_FOUND for another model, INVALID_ARGUMENT for one version of it.
        """
        self._check_name(spec)
        if spec.WhichOneof("version_choice"):
            raise RequestError(
                "INVALID_ARGUMENT", "a change is for every version, expected neither version nor label"
            )

    def _check_name(self, spec: model_pb2.ModelSpec) -> None:
        if spec.name != self.model_name:
            raise RequestError(
                "NOT_FOUND", f"model {spec.name[:100]!r} is not served, expected {self.model_name!r}"
            )

    def _answered(
        self, method: str, caller: Caller, request: Any, respond: Callable[[], Response]
    ) -> Response:
        with ending(self.observe, method, caller, request):
            return respond()
