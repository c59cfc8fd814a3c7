"""A strategy: attempts until several in a row bring nothing better."""

from typing import ClassVar

from pydantic import BaseModel, Field

from eacps import RoundwiseStrategy, ranked


class PatienceParams(BaseModel):
    """What EACPS_STRATEGY_PARAMS may say."""

    most: int = Field(12, ge=1, le=1000, description="attempts at most")
    patience: int = Field(3, ge=1, le=1000, description="attempts without gain before it stops")
    stops_early: ClassVar[bool] = True

    @property
    def budget(self):
        return self.most


class Patience(RoundwiseStrategy):
    """Fresh attempts until several in a row bring nothing better."""

    Params = PatienceParams

    def search(self):
        best, since, left = None, 0, self.params.most
        while left and since < self.params.patience:
            outcomes = yield self.fresh_trials(min(left, self.batch_size))
            left -= len(outcomes)
            for outcome in outcomes:
                better = ranked([outcome]) and (best is None or outcome.potential > best)
                best, since = (outcome.potential, 0) if better else (best, since + 1)
        if left:
            self.note(f"stopped: the last {since} attempts brought nothing better")
