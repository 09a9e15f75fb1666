"""The sets of one datagram, read with the templates of its stream."""

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from connectors.netflow.conn import ALL, Intervals
from connectors.netflow.exporter import Stream
from connectors.netflow.found import Found, FoundFault, FoundRecords, Origin
from connectors.netflow.held import Held, HeldSet
from connectors.netflow.message import IPFIX, V5, V9, Fault, Message
from connectors.netflow.rows import View, cut
from connectors.netflow.templates import (
    ALL_OF_A_KIND,
    V5_TEMPLATE,
    Template,
    TemplateCache,
    TemplateError,
    Withdrawal,
    parse,
)

StreamKey = tuple[str, int, int]
"""Exporter, version, and domain (or source id, or engine)."""

_TEMPLATE_SETS = {V9: (0, 1), IPFIX: (2, 3)}
_FIRST_DATA_SET = 256
_PADDING = 3  # bytes at the end of a set, whatever they hold


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What sets change, for all streams."""

    templates: TemplateCache
    held: Held
    counts: Counter[str]


class SetReader:
    """Reads the sets of one datagram.

    Attributes
    ----------
    n : int
        Data records so far, of flows and others.
    complete : bool
        Whether all were counted; those of a set without a template cannot be.
    """

    def __init__(self, state: State, key: StreamKey, stream: Stream, origin: Origin) -> None:
        self.n = 0
        self.complete = True
        self._state = state
        self._key = key
        self._stream = stream
        self._origin = origin

    def read(self, message: Message, now_s: float) -> Iterator[Found]:
        """Yield what the sets hold, and what waited for their templates."""
        for number, (set_id, body) in enumerate(message.sets):
            if message.version == V5:
                yield from self._data(V5_TEMPLATE, number, body, _every(message.interval))
            elif set_id in _TEMPLATE_SETS[message.version]:
                yield from self._templates(set_id, body)
            elif set_id >= _FIRST_DATA_SET:
                # A set without a body is legal, and says nothing.
                if body:
                    yield from self._data_set(number, set_id, body, now_s)
            else:
                detail = f"set {number + 1} has the reserved number {set_id}, expected 256 or more"
                raw = struct.pack("!HH", set_id, len(body) + 4) + body
                yield self._fault(Fault(raw=raw, reason="reserved_set", detail=detail))
        for fault in message.faults:
            self.complete = False
            yield self._fault(fault)

    def _data_set(self, number: int, set_id: int, body: bytes, now_s: float) -> Iterator[Found]:
        template = self._state.templates.get(self._key, set_id)
        if template is not None:
            yield from self._data(template, number, body, self._stream.intervals)
            return
        self.complete = False
        held = HeldSet(
            stream=self._key,
            template_id=set_id,
            number=number,
            body=body,
            origin=self._origin,
            held_at_s=now_s,
        )
        yield from map(without_template, self._state.held.add(held))

    def _data(self, template: Template, number: int, body: bytes, intervals: Intervals) -> Iterator[Found]:
        records = cut(template, body)
        self.n += records.n
        if template.n_scope:
            self._state.counts["options_records"] += records.n
            self._stream.learn(View(template, records.rows))
        elif not template.is_flow:
            self._state.counts["non_flow_records"] += records.n
        elif records.n:
            yield FoundRecords(
                origin=self._origin,
                template=template,
                rows=records.rows,
                raws=records.raws,
                n=records.n,
                number=number,
                start_us=self._stream.start_us,
                intervals=intervals,
            )
        if len(records.rest) > _PADDING and any(records.rest):
            detail = f"set {number + 1} ends in {len(records.rest)} bytes that are no record of template "
            detail += f"{template.id}, expected at least {template.least} bytes or zeros"
            yield self._fault(Fault(raw=records.rest, reason="trailing_bytes", detail=detail))

    def _templates(self, set_id: int, body: bytes) -> Iterator[Found]:
        try:
            for template in parse(self._key[1], set_id, body):
                if isinstance(template, Withdrawal):
                    self._withdraw(template)
                else:
                    yield from self._learn(template)
        except TemplateError as error:
            yield self._fault(Fault(raw=body, reason="broken_template", detail=str(error)))

    def _withdraw(self, withdrawal: Withdrawal) -> None:
        self._state.counts["withdrawals"] += 1
        if withdrawal.id in ALL_OF_A_KIND:
            self._state.templates.drop_all(self._key, options=ALL_OF_A_KIND[withdrawal.id])
        else:
            self._state.templates.drop(self._key, withdrawal.id)

    def _learn(self, template: Template) -> Iterator[Found]:
        template = self._state.templates.put(self._key, template)
        for held in self._state.held.release(self._key, template.id):
            earlier = SetReader(self._state, self._key, self._stream, held.origin)
            yield from earlier._data(template, held.number, held.body, self._stream.intervals)

    def _fault(self, fault: Fault) -> FoundFault:
        return FoundFault(origin=self._origin, raw=fault.raw, reason=fault.reason, detail=fault.detail)


def without_template(held: HeldSet) -> FoundFault:
    """Return a set whose template did not come as a fault."""
    detail = f"set {held.number + 1} has {len(held.body)} bytes for template {held.template_id}, "
    detail += "which the exporter has not sent; it is kept for some minutes, then given up"
    return FoundFault(origin=held.origin, raw=held.body, reason="no_template", detail=detail)


def _every(interval: int) -> Intervals:
    return ((ALL, interval),) if interval > 1 else ()
