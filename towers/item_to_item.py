"""Which items go together and which are on the rise, in closed form from what each user did."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from transform.features import AGE_BOUNDARIES_DAYS

PENALTY = 300.0  # of EASE, in users
RECENT_DAYS = 32.0  # an edge of the age buckets
_AVERAGE_USERS = 5.0  # with which an item's share of recent users starts
_MORE, _ROUNDS = 20, 4  # of the randomised decomposition


class ItemToItem(NamedTuple):
    """What the users' histories say of the items.

    Attributes:
      rows: int32 [M], the items that most users acted on.
      given: float32 [M, D], what an item in a history says; over all users the root mean square of a coordinate is 1.
      gives: float32 [M, D], how an item answers: history . given . gives is EASE's score, as well as D dimensions can.
      trend: float32 [N], log of an item's share of recent users over that of all items; 0 for an item without users.
    """

    rows: NDArray[np.int32]
    given: NDArray[np.float32]
    gives: NDArray[np.float32]
    trend: NDArray[np.float32]


class Actions(NamedTuple):
    """Distinct (user, item) pairs, each with its newest event.

    Attributes:
      users: int64 [P].
      items: int64 [P], rows of the item vocabulary, none of them 0.
      ages: int64 [P], age buckets, 0 = unknown.
    """

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    ages: NDArray[np.int64]


def newest_actions(
    items: NDArray[np.int32], ages: NDArray[np.int32], counts: NDArray[np.bool_], offsets: NDArray[np.int64]
) -> Actions:
    """Takes each user's newest event with each item.

    Args:
      items: [E], rows of the item vocabulary, newest event of a user first; 0 is left out.
      ages: [E], age buckets.
      counts: [E], whether the event is of a type that is a target.
      offsets: [U + 1], user u's events are offsets[u] to offsets[u + 1].
    """
    users = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    there = counts & (items > 0)
    users, kept = users[there], items[there].astype(np.int64)
    width = int(kept.max(initial=0)) + 1
    pairs, newest = np.unique(users * width + kept, return_index=True)
    return Actions(*np.divmod(pairs, width), ages[there][newest].astype(np.int64))


def item_to_item(actions: Actions, item_rows: int, most: int, dimension: int) -> ItemToItem:
    """Solves EASE (Steck 2019, "Embarrassingly shallow autoencoders") and keeps what D dimensions can say of it.

    Args:
      actions: at least one.
      item_rows: N, rows of the item vocabulary, row 0 included.
      most: M at most; time is cubic in it, memory 13 bytes times its square.
      dimension: D.
    """
    numbers = np.bincount(actions.items, minlength=item_rows)
    rows = np.argsort(-numbers, kind="stable")[: min(most, np.count_nonzero(numbers))]
    column = np.full(item_rows, -1)
    column[rows] = np.arange(len(rows))
    there = column[actions.items] >= 0
    bought = sparse.csr_matrix(
        (np.ones(there.sum(), np.float32), (actions.users[there], column[actions.items[there]])),
        shape=(int(actions.users.max()) + 1, len(rows)),
    )
    given, gives = low_rank(bought, ease_weights(bought, PENALTY), dimension)
    return ItemToItem(rows.astype(np.int32), given, gives, trend(actions, item_rows))


def ease_weights(bought: sparse.csr_matrix, penalty: float) -> NDArray[np.float32]:
    """B = I - P diag(1 / diag(P)) with P = (X'X + penalty I)^-1: the ridge regression of each item on the others.

    Args:
      bought: X [users, items], 0 or 1.
      penalty: above 0, in users.

    Returns:
      float32 [items, items], zeros on the diagonal; X B are the scores.
    """
    from scipy.linalg import lapack

    gram = np.asfortranarray((bought.T @ bought).toarray(), np.float32)
    gram[np.diag_indices_from(gram)] += penalty
    factor, failed = lapack.spotrf(gram, lower=1, overwrite_a=1)
    if not failed:
        gram, failed = lapack.spotri(factor, lower=1, overwrite_c=1)
    if failed:
        raise ValueError(f"X'X + {penalty} I is not positive definite, expected a penalty above 0")
    inverse = np.tril(gram)
    inverse += np.tril(gram, -1).T
    inverse /= -np.diag(inverse).copy()
    inverse[np.diag_indices_from(inverse)] = 0.0
    return inverse


def low_rank(
    bought: sparse.csr_matrix, weights: NDArray[np.float32], dimension: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """given and gives, float32 [items, D]: X given gives' is nearest to X B of all products of D columns.

    They are B V and V with V the leading right singular vectors of X B, found by a randomised subspace iteration
    (Halko, Martinsson & Tropp 2011), the same in each run. Coordinates that are not needed are 0.

    Args:
      bought: X [users, items].
      weights: B [items, items].
      dimension: D.
    """
    columns = min(dimension + _MORE, bought.shape[1])
    basis = np.random.default_rng(0).standard_normal((bought.shape[1], columns)).astype(np.float32)
    for _ in range(_ROUNDS):
        basis = np.linalg.qr(weights.T @ (bought.T @ (bought @ (weights @ basis))))[0]
    directions = np.linalg.svd(bought @ (weights @ basis), full_matrices=False)[2]
    gives = basis @ directions[:dimension].T
    given = weights @ gives
    size = np.sqrt(np.mean(np.square(bought @ given), axis=0))
    is_used = size > 0
    given = np.where(is_used, given / np.where(is_used, size, 1.0), 0.0)
    gives = gives * size
    unused = ((0, 0), (0, dimension - gives.shape[1]))
    return np.pad(given, unused).astype(np.float32), np.pad(gives, unused).astype(np.float32)


def trend(actions: Actions, item_rows: int) -> NDArray[np.float32]:
    """log((r + a s) / (n + a)) - log s: r of an item's n users acted on it recently, a share s of all items' users did.

    Args:
      actions: of all users.
      item_rows: N.

    Returns:
      float32 [N]; all 0 where nobody acted on anything recently.
    """
    newest_bucket = AGE_BOUNDARIES_DAYS.index(RECENT_DAYS) + 1
    is_recent = (actions.ages > 0) & (actions.ages <= newest_bucket)
    recent = np.bincount(actions.items[is_recent], minlength=item_rows)
    users = np.bincount(actions.items, minlength=item_rows)
    share = recent.sum() / users.sum()
    if not share:
        return np.zeros(item_rows, np.float32)
    risen = (recent + _AVERAGE_USERS * share) / (users + _AVERAGE_USERS) / share
    return np.log(risen).astype(np.float32)
