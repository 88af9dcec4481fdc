"""Names and shapes of raw features, Transform outputs and serving inputs, once for training and serving.

Three views of the same declared features (`FeatureSettings`):

- raw: what InteractionGen writes as `tf.Example`, all of variable length (an absent value has no entry);
- transformed: what `transform.preprocessing` makes of them; index 0 always means "none or out of vocabulary";
- dense: what a client sends, strings and numbers; "" and NaN stand for "no value".
"""

from typing import TYPE_CHECKING, Any, NamedTuple

from transform.settings import Feature, FeatureSettings

if TYPE_CHECKING:
    import tensorflow as tf

SPLITS = ("train", "eval", "items")
# Only where `features.cooccurrence_items` is set: what each user did until the cut, as a request without targets.
HISTORIES = "histories"

# Raw features.
QUERY = "query"
USER_ID = "user_id"
TIMESTAMP = "timestamp"
HISTORY_ITEM_IDS = "history_item_ids"
HISTORY_EVENT_TYPES = "history_event_types"
HISTORY_AGES = "history_ages"
TARGET_ITEM_IDS = "target_item_ids"
TARGET_WEIGHTS = "target_weights"
KNOWN_POSITIVE_IDS = "known_positive_ids"
VIEW = "view"
USER_GROUP = "user_group"
QUERY_GROUP = "query_group"
# Optional inputs of serving that filter: by items, and by an attribute of items, whose name follows the prefix.
FILTER_ITEM_IDS = "filter_item_ids"
EXCLUDE_ITEM_IDS = "exclude_item_ids"
EXCLUDE_HISTORY = "exclude_history"
ATTRIBUTE_FILTER = "filter_"
ITEM_ID = "item_id"
TITLE = "title"

# Values of the slicing features of eval rows.
VIEWS = ("all", "unseen", "new_item", "tail_item", "anchor")
USER_GROUPS = ("new", "returning", "none")
QUERY_GROUPS = ("with_query", "without_query")

# Transform outputs; declared features keep their own names, and target_weights keeps its raw name.
QUERY_TOKENS = "query_tokens"
HISTORY_ITEMS = "history_items"
HISTORY_TYPES = "history_types"
TARGET_ITEMS = "target_items"
KNOWN_POSITIVES = "known_positives"
ITEM = "item"
ITEM_TOKENS = "item_tokens"
# The text's tokens word by word, without start and end, and which word each belongs to: 1, 2, ...
ITEM_WORD_TOKENS = "item_word_tokens"
ITEM_WORD_NUMBERS = "item_word_numbers"
# Only where `features.lexical_buckets` is set.
QUERY_LEXEMES = "query_lexemes"
ITEM_LEXEMES = "item_lexemes"
ITEM_LEXEME_WORDS = "item_lexeme_words"

# Vocabulary files of the transform graph; a category or path feature's vocabulary has the feature's name.
ITEM_ID_VOCABULARY = "item_id"
ITEM_ID_COUNTS = "item_id_counts"
EVENT_TYPE_VOCABULARY = "event_type"

# Lower edges, in days, of age buckets 2, 3, ...: an hour, six hours, then doubling. Bucket 1 is [0, 1 hour),
# bucket 0 is "age unknown". Constant, so that a bucket means the same in every push.
AGE_BOUNDARIES_DAYS = (1 / 24, 0.25, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
AGE_ROWS = len(AGE_BOUNDARIES_DAYS) + 2

# Levels of a path feature that have an index: "A", "A > B", "A > B > C", "A > B > C > D".
PATH_LEVELS = 4
PATH_SEPARATOR = ">"


# A longer query is no search: rejected where it is read, in events and in requests.
MAX_QUERY_CHARACTERS = 1000


class InputSpec(NamedTuple):
    """A dense serving input: `tf.TensorSpec([None] * rank, dtype)`."""

    dtype: str  # "string" or "float32"
    rank: int


def item_columns(settings: FeatureSettings) -> dict[str, str]:
    """Columns of items that are read, besides item_id: name -> kind.

    A text column that is not a declared feature is read as a category (one string); title always comes first.
    """
    kinds = {TITLE: "category"}
    kinds.update({name: "category" for name in settings.item_text})
    kinds.update({feature.name: feature.kind for feature in settings.item})
    return kinds


def written_splits(settings: FeatureSettings) -> tuple[str, ...]:
    """What InteractionGen writes and Transform maps; only `SPLITS` have statistics and an environment of the schema."""
    return (*SPLITS, HISTORIES) if settings.cooccurrence_items else SPLITS


def query_features(settings: FeatureSettings) -> tuple[Feature, ...]:
    """Declared features of the query side: user features, then context features."""
    return (*settings.user, *settings.context)


def raw_feature_spec(settings: FeatureSettings, split: str) -> dict[str, Any]:
    """Returns what `tf.io.parse_example` needs to read a split of InteractionGen's output.

    Args:
      settings: declared features.
      split: "train", "eval" or "items".

    Returns:
      Feature name -> `tf.io.VarLenFeature`; everything is parsed into `tf.SparseTensor` [B, n].

    Raises:
      ValueError: there is no such split.
    """
    import tensorflow as tf

    if split not in SPLITS:
        raise ValueError(f"split is {split!r}, expected one of {SPLITS}")
    if split == "items":
        kinds = {ITEM_ID: tf.string}
        kinds.update({name: _raw_dtype(kind) for name, kind in item_columns(settings).items()})
    else:
        kinds = {
            QUERY: tf.string,
            USER_ID: tf.string,
            TIMESTAMP: tf.int64,
            HISTORY_ITEM_IDS: tf.string,
            HISTORY_EVENT_TYPES: tf.string,
            HISTORY_AGES: tf.float32,
            TARGET_ITEM_IDS: tf.string,
            TARGET_WEIGHTS: tf.float32,
            KNOWN_POSITIVE_IDS: tf.string,
        }
        kinds.update({feature.name: _raw_dtype(feature.kind) for feature in query_features(settings)})
        if split == "eval":
            kinds.update({VIEW: tf.string, USER_GROUP: tf.string, QUERY_GROUP: tf.string})
    return {name: tf.io.VarLenFeature(dtype) for name, dtype in kinds.items()}


def query_inputs(settings: FeatureSettings) -> dict[str, InputSpec]:
    """Dense inputs of the query side, in a fixed order.

    query [B], history_item_ids [B, H] newest first, history_event_types [B, H] ("" = unknown),
    history_ages [B, H] in days (negative or NaN = unknown), then user and context features [B].
    """
    inputs = {
        QUERY: InputSpec("string", 1),
        HISTORY_ITEM_IDS: InputSpec("string", 2),
        HISTORY_EVENT_TYPES: InputSpec("string", 2),
        HISTORY_AGES: InputSpec("float32", 2),
    }
    inputs.update({feature.name: _dense_spec(feature.kind) for feature in query_features(settings)})
    return inputs


def item_inputs(settings: FeatureSettings) -> dict[str, InputSpec]:
    """Dense inputs of the item side, in a fixed order: item_id [B], title [B], other columns [B]."""
    inputs = {ITEM_ID: InputSpec("string", 1)}
    inputs.update({name: _dense_spec(kind) for name, kind in item_columns(settings).items()})
    return inputs


def dense_to_raw(inputs: "dict[str, tf.Tensor]") -> "dict[str, tf.SparseTensor]":
    """Turns dense serving inputs into the sparse tensors that the transform graph takes, inside a signature.

    A [B] input becomes [B, 1] with no entry where the value is "" or NaN. The three history inputs have
    entries in the same places, where `history_item_ids` is not ""; absent types or ages become "unknown".

    Args:
      inputs: any subset of `query_inputs` or `item_inputs`, by name.

    Returns:
      The same names (and the history's types and ages, when its ids are there), each a `tf.SparseTensor`.

    Raises:
      ValueError: history_event_types or history_ages without history_item_ids.
    """
    import tensorflow as tf

    ids = inputs.get(HISTORY_ITEM_IDS)
    aligned = {name: inputs[name] for name in (HISTORY_EVENT_TYPES, HISTORY_AGES) if name in inputs}
    if aligned and ids is None:
        raise ValueError(
            f"got {', '.join(aligned)} without {HISTORY_ITEM_IDS}: they say nothing on their own"
        )
    raw = {}
    for name, value in inputs.items():
        if name in (HISTORY_ITEM_IDS, *aligned):
            continue
        value = tf.convert_to_tensor(value)
        is_there = (
            tf.logical_not(tf.math.is_nan(value)) if value.dtype.is_floating else tf.not_equal(value, "")
        )
        raw[name] = _sparse_where(is_there[:, tf.newaxis], value[:, tf.newaxis])
    if ids is not None:
        ids = tf.convert_to_tensor(ids)
        is_there = tf.not_equal(ids, "")
        types = aligned.get(HISTORY_EVENT_TYPES, tf.fill(tf.shape(ids), ""))
        ages = aligned.get(HISTORY_AGES, tf.fill(tf.shape(ids), -1.0))
        raw[HISTORY_ITEM_IDS] = _sparse_where(is_there, ids)
        raw[HISTORY_EVENT_TYPES] = _sparse_where(is_there, tf.convert_to_tensor(types))
        raw[HISTORY_AGES] = _sparse_where(is_there, tf.convert_to_tensor(ages))
    return raw


def _sparse_where(is_there: "tf.Tensor", value: "tf.Tensor") -> "tf.SparseTensor":
    import tensorflow as tf

    indices = tf.where(is_there)
    return tf.SparseTensor(indices, tf.gather_nd(value, indices), tf.shape(value, out_type=tf.int64))


def _raw_dtype(kind: str) -> Any:
    import tensorflow as tf

    return tf.float32 if kind == "number" else tf.string


def _dense_spec(kind: str) -> InputSpec:
    return InputSpec("float32" if kind == "number" else "string", 1)
