"""What one simulated device has sent, and what became of it."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Tally:
    """Messages, each counted once however often it was sent. `stateful`: of its messages only the latest is
    kept, as the device's state."""

    device_id: str
    stateful: bool = False
    acked: bool = True  # False: QoS 0, which nobody answers
    sent: int = 0
    acknowledged: int = 0
    repeated: int = 0  # sent again, by MQTT with DUP
    refused: Counter[str] = field(default_factory=Counter)

    @property
    def answered(self) -> int:
        return self.acknowledged + self.refused.total()
