"""What can happen to a request on its way, and how often. Every draw comes from the schedule's own random numbers."""

from dataclasses import dataclass
from enum import Enum, auto
from random import Random


class Fate(Enum):
    """What becomes of one request."""

    GOOD = auto()
    REFUSED = auto()
    """It was not sent: no connection came about."""
    FAILED = auto()
    """The server answers with an error, and has done nothing."""
    LOST = auto()
    """It was sent and never arrives; the client cannot know."""
    UNANSWERED = auto()
    """It is carried out, and its answer is lost."""
    LATE = auto()
    """It is held up on its way, perhaps for longer than its sender waits or lives."""
    STRAY = auto()
    """Its connection breaks off at once, and it arrives all the same, later."""


@dataclass(frozen=True)
class Weather:
    """Probabilities and delays of one way, for instance to the API server. Seconds."""

    name: str = "calm"
    fates: tuple[tuple[float, Fate], ...] = ()
    """Each with its probability; all the rest is good."""
    latencies: tuple[float, ...] = (0.001, 0.003, 0.01)
    lateness: tuple[float, ...] = (0.3, 1.0, 4.0, 14.0, 30.0)
    """By how much a late request is late."""
    watch_lags: tuple[float, ...] = (0.001, 0.005, 0.02)
    """By how much a watch event is later than the change."""
    repeats: float = 0.0
    """How often a watch event comes twice."""
    drops: float = 0.0
    """How often a watch event never comes."""
    works: tuple[float, ...] = (0.002, 0.01, 0.03)
    """How long a store works on a request."""
    item_failures: float = 0.0
    """How often one document of a bulk is refused for the moment."""
    deaf: float = 0.0
    """How often one node of a store does not say what it works on."""


CALM = Weather()
"""Nothing is lost."""

BREEZE = Weather(
    name="breeze",
    fates=(
        (0.003, Fate.REFUSED),
        (0.003, Fate.FAILED),
        (0.003, Fate.LOST),
        (0.01, Fate.UNANSWERED),
        (0.01, Fate.LATE),
        (0.01, Fate.STRAY),
    ),
    latencies=(0.001, 0.004, 0.02),
    watch_lags=(0.001, 0.01, 0.05, 0.3),
    repeats=0.05,
    works=(0.005, 0.02, 0.05, 0.2),
    item_failures=0.05,
    deaf=0.01,
)

ROUGH = Weather(
    name="rough",
    fates=(
        (0.01, Fate.REFUSED),
        (0.01, Fate.FAILED),
        (0.01, Fate.LOST),
        (0.02, Fate.UNANSWERED),
        (0.02, Fate.LATE),
        (0.02, Fate.STRAY),
    ),
    latencies=(0.001, 0.005, 0.02, 0.08),
    watch_lags=(0.001, 0.01, 0.05, 0.3, 2.0),
    repeats=0.05,
    works=(0.005, 0.02, 0.05, 0.1, 0.4, 1.2),
    item_failures=0.05,
    deaf=0.02,
)

STORM = Weather(
    name="storm",
    fates=(
        (0.04, Fate.REFUSED),
        (0.04, Fate.FAILED),
        (0.04, Fate.LOST),
        (0.06, Fate.UNANSWERED),
        (0.06, Fate.LATE),
        (0.04, Fate.STRAY),
    ),
    latencies=(0.001, 0.02, 0.1, 0.5),
    watch_lags=(0.001, 0.1, 1.0, 5.0),
    repeats=0.2,
    drops=0.02,
    works=(0.01, 0.1, 1.0, 5.0),
    item_failures=0.1,
    deaf=0.1,
)


class Way:
    """The network between the replicas and one server."""

    def __init__(self, random: Random, weather: Weather) -> None:
        self.random, self.weather = random, weather

    def fate(self) -> Fate:
        """Draw what becomes of the next request."""
        draw = self.random.random()
        for probability, fate in self.weather.fates:
            if draw < probability:
                return fate
            draw -= probability
        return Fate.GOOD

    def latency(self) -> float:
        """Draw how long one direction takes."""
        return self.random.choice(self.weather.latencies)

    def lateness(self) -> float:
        """Draw how long a request is held up."""
        return self.random.choice(self.weather.lateness)

    def happens(self, probability: float) -> bool:
        """Draw whether something of that probability happens."""
        return probability > 0 and self.random.random() < probability
