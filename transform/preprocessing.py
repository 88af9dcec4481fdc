"""The one definition of features: from raw strings and numbers to the indices, buckets and tokens that the towers see."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeAlias

import tensorflow as tf
import tensorflow_transform as tft

from transform import features
from transform.lexemes import lexemes, word_tokens
from transform.recorded import recorded_sparse
from transform.settings import Feature, FeatureSettings
from transform.text import load_tokenizer
from transform.worker_ops import register_in_workers

register_in_workers()

Sparse: TypeAlias = Any  # tf.SparseTensor


def preprocessing_fn(inputs: Mapping[str, Sparse], custom_config: Mapping[str, Any]) -> dict[str, Sparse]:
    """Maps raw features (see `features.raw_feature_spec`) to Transform outputs, all sparse.

    Index 0 means "none or out of vocabulary" everywhere; vocabulary rows are 1..n in file order. Analysis has to run over the
    splits train and items together: the item vocabulary holds the whole catalogue, most frequent target first.

    Args:
      inputs: raw feature -> SparseTensor [B, n].
      custom_config: `features` (FeatureSettings as JSON) and `encoder_preset` (directory of the tokenizer).

    Returns:
      Output name -> SparseTensor [B, n], int64 or float32; lookups without an entry have none.
    """
    settings = FeatureSettings.model_validate_json(custom_config["features"])
    preset = custom_config["encoder_preset"]
    item_vocabulary = _item_vocabulary(inputs)
    event_types = _vocabulary(inputs[features.HISTORY_EVENT_TYPES], features.EVENT_TYPE_VOCABULARY, 1)
    item_text = _item_text(inputs, settings)

    outputs = {
        features.QUERY_TOKENS: _tokens(_text(inputs[features.QUERY]), preset, settings.query_tokens),
        features.HISTORY_ITEMS: _look_up(inputs[features.HISTORY_ITEM_IDS], item_vocabulary),
        features.HISTORY_TYPES: _look_up(inputs[features.HISTORY_EVENT_TYPES], event_types),
        features.HISTORY_AGES: _map_values(_age_buckets, inputs[features.HISTORY_AGES]),
        features.TARGET_ITEMS: _look_up(inputs[features.TARGET_ITEM_IDS], item_vocabulary),
        features.TARGET_WEIGHTS: inputs[features.TARGET_WEIGHTS],
        features.KNOWN_POSITIVES: _look_up(inputs[features.KNOWN_POSITIVE_IDS], item_vocabulary),
        features.ITEM: _look_up(inputs[features.ITEM_ID], item_vocabulary),
        features.ITEM_TOKENS: _tokens(item_text, preset, settings.item_tokens),
    }
    words = _word_tokens(preset, settings.item_tokens)(item_text)
    outputs[features.ITEM_WORD_TOKENS], outputs[features.ITEM_WORD_NUMBERS] = words
    if settings.lexical_buckets:
        of_query = _lexemes(settings.lexical_buckets, settings.query_tokens)
        of_item = _lexemes(settings.lexical_buckets, settings.item_tokens)
        outputs[features.QUERY_LEXEMES], _ = of_query(_text(inputs[features.QUERY]))
        outputs[features.ITEM_LEXEMES], outputs[features.ITEM_LEXEME_WORDS] = of_item(item_text)
    for feature in (*features.query_features(settings), *settings.item):
        outputs[feature.name] = _declared(inputs[feature.name], feature, settings)
    return outputs


def _item_vocabulary(inputs: Mapping[str, Sparse]) -> tf.Tensor:
    """Writes `item_id` and, in the same order, `item_id_counts` (1 + number of training targets)."""
    both = tf.concat([inputs[features.ITEM_ID].values, inputs[features.TARGET_ITEM_IDS].values], axis=0)
    _counted(both, features.ITEM_ID_COUNTS, store_frequency=True)
    return _counted(both, features.ITEM_ID_VOCABULARY)


def _vocabulary(values: Sparse, name: str, min_count: int) -> tf.Tensor:
    return _counted(values.values, name, frequency_threshold=min_count if min_count > 1 else None)


def _counted(values: tf.Tensor, name: str, **options: Any) -> tf.Tensor:
    """A vocabulary by frequency of [n] strings.

    With weights, the graph sums each batch's equal values, so that Beam counts a batch's distinct ones instead of every
    entry of every history. Whole numbers keep the counts exact.
    """
    ones = tf.ones_like(values, dtype=tf.int64)
    return tft.vocabulary(values, vocab_filename=name, weights=ones, **options)


def _look_up(values: Sparse, vocabulary: tf.Tensor) -> Sparse:
    return _map_values(lambda v: tft.apply_vocabulary(v, vocabulary, default_value=-1) + 1, values)


def _declared(values: Sparse, feature: Feature, settings: FeatureSettings) -> Sparse:
    if feature.kind == "number":
        # Bucket 0 is "missing", which has no entry at all; quantile buckets start at 1.
        boundaries = tft.quantiles(values.values, settings.number_buckets, epsilon=0.01)
        return _map_values(lambda v: tft.apply_buckets(v, boundaries) + 1, values)
    if feature.kind == "path":
        values = path_prefixes(values)
    return _look_up(values, _vocabulary(values, feature.name, settings.category_min_count))


def path_prefixes(values: Sparse) -> Sparse:
    """Splits "A > B > C" to "A", "A > B", "A > B > C": at most `PATH_LEVELS`, levels without surrounding space.

    Args:
      values: string [B, 1], at most one path a row.

    Returns:
      string [B, PATH_LEVELS].
    """
    separator = features.PATH_SEPARATOR
    tidy = tf.strings.strip(tf.strings.regex_replace(values.values, rf"\s*{separator}\s*", f" {separator} "))
    depth = tf.strings.length(tf.strings.regex_replace(tidy, rf"[^{separator}]", "")) + 1
    rows = values.indices[:, 0]
    indices, prefixes = [], []
    for level in range(features.PATH_LEVELS):
        keep = depth > level
        cut = rf"^([^{separator}]*(?:{separator}[^{separator}]*){{{level}}}).*$"
        prefixes.append(tf.strings.strip(tf.boolean_mask(tf.strings.regex_replace(tidy, cut, r"\1"), keep)))
        kept = tf.boolean_mask(rows, keep)
        indices.append(tf.stack([kept, tf.fill(tf.shape(kept), tf.constant(level, tf.int64))], axis=1))
    shape = tf.stack([values.dense_shape[0], tf.constant(features.PATH_LEVELS, tf.int64)])
    return tf.sparse.reorder(tf.SparseTensor(tf.concat(indices, 0), tf.concat(prefixes, 0), shape))


def _age_buckets(days: tf.Tensor) -> tf.Tensor:
    """Days to buckets 1..; an unknown age (negative or NaN) is 0."""
    bucket = tf.raw_ops.Bucketize(input=days, boundaries=list(features.AGE_BOUNDARIES_DAYS))
    return tf.where(days >= 0, tf.cast(bucket, tf.int64) + 1, tf.zeros_like(bucket, tf.int64))


def _text(values: Sparse) -> tf.Tensor:
    """[B] strings, "" where there is no entry."""
    dense = tf.sparse.to_dense(_first(values), default_value="")
    return tf.squeeze(dense, axis=1)


def _first(values: Sparse) -> Sparse:
    """The first entry of each row, as [B, 1]."""
    kept = tf.sparse.retain(values, values.indices[:, 1] < 1)
    return tf.SparseTensor(
        kept.indices, kept.values, tf.stack([values.dense_shape[0], tf.constant(1, tf.int64)])
    )


def _item_text(inputs: Mapping[str, Sparse], settings: FeatureSettings) -> tf.Tensor:
    """The text columns joined with a space; the separators of a path are no words."""
    paths = {feature.name for feature in settings.item if feature.kind == "path"}
    texts = []
    for name in settings.item_text:
        text = _text(inputs[name])
        texts.append(tf.strings.regex_replace(text, features.PATH_SEPARATOR, " ") if name in paths else text)
    joined = tf.strings.reduce_join(texts, axis=0, separator=" ")
    return tf.strings.strip(tf.strings.regex_replace(joined, r"\s+", " "))


def _tokens(text: tf.Tensor, preset: str, length: int) -> Sparse:
    """[B] strings to token ids [B, <= length] with start and end; an empty string has none.

    A text is tokenised once a batch: rows of requests have no item's text, and often the same query.
    """
    distinct, row = tf.unique(text)
    ids = tf.cast(load_tokenizer(preset, length)(distinct), tf.int64)
    ids = tf.where(tf.not_equal(distinct, "")[:, tf.newaxis], ids, tf.zeros_like(ids))
    return tf.sparse.from_dense(tf.gather(ids, row))


@cache
def _word_tokens(preset: str, length: int) -> Callable[[tf.Tensor], list[Sparse]]:
    tokenizer = load_tokenizer(preset, length)
    return recorded_sparse(lambda text: word_tokens(text, tokenizer, length))


@cache
def _lexemes(buckets: int, max_words: int) -> Callable[[tf.Tensor], list[Sparse]]:
    return recorded_sparse(lambda text: lexemes(text, buckets, max_words))


def _map_values(function: Any, values: Sparse) -> Sparse:
    return tf.SparseTensor(values.indices, tf.cast(function(values.values), tf.int64), values.dense_shape)
