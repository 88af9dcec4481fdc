"""Which older requests a run judges by or learns again: decided by a hash, so the same in every run and worker."""

import hashlib
from typing import NamedTuple


class Sampling(NamedTuple):
    """How older requests are drawn.

    Attributes:
      anchor_share: share of all requests that no run ever learns from.
      replay_share: chance of a request of the newest older moment to be learnt again.
      replay_half_life_days: after so many days the chance is half as large.
      replay_rare_factor: times the chance, at most 1, of a request all of whose targets are tail items.
    """

    anchor_share: float = 0.0
    replay_share: float = 0.0
    replay_half_life_days: float = 28.0
    replay_rare_factor: float = 1.0

    def is_anchor(self, user_id: str, timestamp: float, query: str) -> bool:
        """Whether a request is kept out of training for ever; independent of the run."""
        return _chance("anchor", user_id, timestamp, query) < self.anchor_share

    def is_replayed(
        self, user_id: str, timestamp: float, query: str, age_days: float, tail_share: float, cut: float
    ) -> bool:
        """Whether a run learns an older request again; each run draws anew.

        Args:
          user_id, timestamp, query: the request.
          age_days: how long before the run's newest learnt moment it was.
          tail_share: share of its targets that are tail items.
          cut: the run's cut, in seconds UTC, which names the draw.
        """
        chance = self.replay_share * 0.5 ** (age_days / self.replay_half_life_days)
        chance *= 1.0 + (self.replay_rare_factor - 1.0) * tail_share
        return _chance(f"replay {cut}", user_id, timestamp, query) < chance


def _chance(draw: str, user_id: str, timestamp: float, query: str) -> float:
    """A number from [0, 1), even over requests, the same wherever it is asked for."""
    key = f"{draw}\0{user_id}\0{timestamp!r}\0{query}".encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") / 2.0**64
