"""A live cluster made anew from the events of a log, array for array as it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from aladdin_env.bridge.decider import Decider
from aladdin_env.bridge.live_cluster import LiveCluster
from aladdin_env.bridge.record.log import Log, Record, regime_of
from aladdin_env.errors import InputError
from aladdin_env.latency import LatencyProfile
from aladdin_env.policy import REJECT, make_policy
from aladdin_env.simulator.state import MAX_CLASSES, WORKER_STATUS
from aladdin_traces import checks, inside
from aladdin_traces.readers.aladdin_log import EVENTS

_MOST_ROWS = 1 << 20


@dataclass
class Rebuilding:
    """A request of the log that has not ended.

    Attributes:
        id: As its client calls it.
        coin: Its uniform number.
        slot: Worker that it is on; -1: none.
        avoid: Slots of workers that failed it.
    """

    id: str
    coin: float
    slot: int = -1
    avoid: list[int] = field(default_factory=list)


class Rebuilt:
    """The arrays and the policies of a bridge, as they were after the records that were applied.

    Attributes:
        cluster: The arrays.
        decider: The policies, made anew; asked by whoever replays.

    Raises:
        InputError: a log that does not have all events from the first on, or a policy that there is not here.
    """

    def __init__(self, log: Log) -> None:
        header = log.header
        if header.level != EVENTS:
            mend = "record with the level 'events': this log has a line per request, not what happened in between"
            raise InputError("level", header.level, mend)
        if header.part > 0 or log.lost:
            what = f"it begins with part {header.part}" if header.part > 0 else f"{log.lost} lines are lost"
            raise InputError("log", what, "give a log that is whole: keep more parts, or larger ones")
        rows = checks.whole("rows", header.rows, low=1, high=_MOST_ROWS)
        regime = header.regime
        policy, baseline = (make_policy(spec, header.scenario) for spec in (regime.policy, regime.baseline))
        self.cluster = LiveCluster.open(header.scenario, policy, rows)
        self.decider = Decider(self.cluster, policy, baseline, _ignore, mode=regime.mode, canary=regime.canary)
        self._regime = regime
        self._slots = header.scenario.fleet.slots
        self._open: dict[int, Rebuilding] = {}
        self._apply: dict[str, Callable[[Record], None]] = {
            "arrive": self._arrive, "decide": self._decide, "tokens": self._tokens, "return": self._return,
            "end": self._end, "worker": self._worker, "look": self._look, "beat": self._beat, "slo": self._slo,
            "laws": self._laws, "switch": self._switch,
        }  # fmt: skip

    def apply(self, record: Record) -> None:
        """What happened happens again; nobody is asked.

        Raises:
            InputError: the record does not follow from those before it.
        """
        change = self._apply.get(record.kind)
        if change is not None:
            with inside(record.place):
                change(record)

    def request(self, record: Record) -> Rebuilding:
        """The request that a record is about.

        Raises:
            InputError: there is none.
        """
        row = record.fields["row"]
        if row not in self._open:
            raise InputError("row", row, "the log is damaged: no request with this row is open here")
        return self._open[row]

    def _placed(self, record: Record) -> Rebuilding:
        request = self.request(record)
        if request.slot < 0:
            raise InputError("row", record.fields["row"], "the log is damaged: this request is on no worker")
        return request

    def _arrive(self, record: Record) -> None:
        given = record.fields
        klass = checks.whole("klass", given["klass"], low=0, high=MAX_CLASSES - 1)
        row = self.cluster.enter(given["prompt_tokens"], klass, given["coin"], record.t)
        if row != given["row"]:
            raise InputError("row", given["row"], f"the log is damaged: the request would have row {row}")
        self._open[row] = Rebuilding(str(given.get("id")), given["coin"])

    def _decide(self, record: Record) -> None:
        request = self.request(record)
        answer = checks.whole("answer", record.fields["answer"], low=REJECT, high=self._slots - 1)
        self.cluster.carry_out(record.fields["row"], answer)
        request.slot = max(request.slot, answer)

    def _tokens(self, record: Record) -> None:
        self._placed(record)
        row, first_s = record.fields["row"], record.fields.get("first_s")
        count = checks.whole("count", record.fields["count"], low=1, high=checks.TOKENS_MAX)
        if first_s is not None:  # an answer that came whole
            self.cluster.token(row, first_s)
            count -= 1
        self.cluster.token(row, record.t, count)

    def _return(self, record: Record) -> None:
        request = self._placed(record)
        self.cluster.take_back(record.fields["row"], record.t)
        request.avoid.append(request.slot)
        request.slot = -1

    def _end(self, record: Record) -> None:
        row, outcome = record.fields["row"], record.fields["outcome"]
        if outcome in ("finished", "failed"):
            self._placed(record)
        self.request(record)
        ends = {
            "finished": self.cluster.finish, "failed": self.cluster.lose, "left": self.cluster.leave,
            "shed": self.cluster.reject,
        }  # fmt: skip
        if outcome not in ends:
            raise InputError("outcome", outcome, f"the log is damaged: it should be one of {', '.join(ends)}")
        ends[outcome](row, record.t)
        self.cluster.forget(row)
        del self._open[row]

    def _worker(self, record: Record) -> None:
        """News only where nobody has looked at the worker just before."""
        slot, status = self._slot(record), self._status(record)
        if self.cluster.view.workers[slot]["status"] != status:
            self.cluster.set_worker(slot, status, record.t, record.fields["ready_in_s"])

    def _look(self, record: Record) -> None:
        tokens, size, used = (record.fields.get(key) for key in ("kv_tokens", "block_size", "kv_used"))
        slot = self._slot(record)
        if tokens is not None and size is not None:
            whole = checks.whole("kv_tokens", tokens, low=1, high=checks.TOKENS_MAX)
            self.cluster.set_kv(slot, whole, checks.whole("block_size", size, low=1, high=whole))
        self.cluster.set_worker(slot, self._status(record), record.t, record.fields["ready_in_s"])
        if used is not None:
            self.cluster.see_kv(slot, checks.number("kv_used", used, low=0.0))

    def _status(self, record: Record) -> int:
        return checks.whole("status", record.fields["status"], low=0, high=len(WORKER_STATUS) - 1)

    def _slot(self, record: Record) -> int:
        return checks.whole("slot", record.fields["slot"], low=0, high=self._slots - 1)

    def _beat(self, record: Record) -> None:
        self.cluster.heartbeat(record.t)

    def _slo(self, record: Record) -> None:
        klass = checks.whole("klass", record.fields["klass"], low=0, high=MAX_CLASSES - 1)
        self.cluster.world.slo[klass] = record.fields["ttft_s"], record.fields["atgt_s"]

    def _laws(self, record: Record) -> None:
        types = len(self.cluster.view.types)
        kind = checks.whole("type", record.fields["type"], low=0, high=types - 1)
        self.cluster.set_laws(kind, LatencyProfile.from_dict(record.fields["profile"]))

    def _switch(self, record: Record) -> None:
        regime, scenario = regime_of(record.fields), self.cluster.view.scenario
        self.decider.set_mode(regime.mode, regime.canary)
        if regime.policy != self._regime.policy or regime == self._regime:  # the same once more: it was made anew
            self.decider.exchange(make_policy(regime.policy, scenario))
        if regime.baseline != self._regime.baseline:
            self.decider.baseline = make_policy(regime.baseline, scenario)
        self._regime = regime


def _ignore(reason: str) -> None:
    """Nobody decides here."""
