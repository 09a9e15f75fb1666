"""The words of an alert: one sentence to act on."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TypeVar

from pipeline.errors import FeatureSetError
from pipeline.features.base import Feature
from pipeline.groups import MAX_DISTINCT
from pipeline.publication import OVERFLOW, FlaggedFlow, GroupView, Publication, address_text
from pipeline.quantities import duration, odds, quantity
from pipeline.suppressions import Suppressed
from pipeline.verdict import FeatureShare, Reasons, TermShare

NAMED = 3
"""Features that the sentence names of a term."""
WORTH_NAMING = 0.25
"""Part of the largest contribution from which on a further feature is named."""

_Named = TypeVar("_Named")


@cache
def _features(feature_set_name: str) -> Mapping[str, Feature]:
    # Feature sets bring the compiled windows along; an alert without reasons does not need them.
    from pipeline.features.feature_sets import feature_set

    try:
        return {feature.name: feature for feature in feature_set(feature_set_name).features}
    except FeatureSetError:
        return {}


def feature_text(feature_set_id: str, name: str) -> str:
    """Return what a feature is in words; of an unknown one its name with blanks.

    Examples
    --------
    >>> feature_text("conn:0123456789abcdef", "src_bytes")
    'bytes sent by the source'
    >>> feature_text("theirs:0123456789abcdef", "dns_query_length")
    'dns query length'
    """
    feature = _features(feature_set_id.partition(":")[0]).get(name)
    return (feature.text if feature else "") or name.replace("_", " ")


def feature_kind(feature_set_id: str, share: FeatureShare) -> str:
    """Return numeric, binary or categorical; where the set is unknown, what the value shows."""
    feature = _features(feature_set_id.partition(":")[0]).get(share.name)
    if feature:
        return feature.kind
    return "categorical" if isinstance(share.observed, str) else "numeric"


def leading_term(flow: FlaggedFlow, reasons: Reasons | None) -> TermShare | None:
    """Return the term that led to the judgement, or the first one told, or None if none is told."""
    terms = reasons.terms if reasons else ()
    return next((t for t in terms if f"{t.kind}:{t.id}" == flow.leading), terms[0] if terms else None)


def reason(publication: Publication, reasons: Reasons | None) -> str:
    """Return one sentence that a person can act on: who, how unusual, and what is odd about it.

    Parameters
    ----------
    publication : Publication
        The flow or the summary.
    reasons : Reasons or None
        Of `publication.flow`.
    """
    flow, group = publication.flow, publication.group
    if publication.suppressed and group:
        return _suppressed_words(publication.suppressed, flow, group)
    if publication.is_summary and group:
        what, p_value = _group_words(publication, group), group.p_value
    else:
        what, p_value = f"{who(flow)} is unusual", flow.p_value
    term = leading_term(flow, reasons)
    told = (_why(publication.panel["feature_set"], flow, term), _meaning(publication, term))
    return f"{what} (p = {p_value:.1g}, {odds(p_value)}): {'; '.join(text for text in told if text)}"


def _meaning(publication: Publication, term: TermShare | None) -> str:
    """Return what the leading noise direction stands for; any other term is named after a feature."""
    loadings = _strongest(term.loadings, [loading.value for loading in term.loadings]) if term else []
    if term is None or not loadings:
        return ""
    feature_set_id = publication.panel["feature_set"]
    moves = {
        verb: [column_text(feature_set_id, loading.name) for loading in loadings if loading.value * sign > 0]
        for verb, sign in (("rises", 1), ("falls", -1))
    }
    stands_for = " and ".join(f"{verb} with {listing(texts)}" for verb, texts in moves.items() if texts)
    side = "high" if term.deviation > 0 else "low"
    far = f"{abs(term.deviation):.2g} standard deviations too {side}"
    return f"together {far} on noise direction {term.id}, which in normal traffic {stands_for}"


def column_text(feature_set_id: str, name: str) -> str:
    """Return what a matrix column is in words.

    Examples
    --------
    >>> column_text("conn:0123456789abcdef", "state=attempted")
    'state of the connection: attempted'
    """
    feature, is_category, category = name.partition("=")
    return feature_text(feature_set_id, feature) + (f": {category}" if is_category else "")


def listing(texts: Sequence[str]) -> str:
    """Return texts as a list in a sentence.

    Examples
    --------
    >>> listing(["a"]), listing(["a", "b"]), listing(["a", "b", "c"])
    ('a', 'a and b', 'a, b and c')
    """
    *others, last = texts
    return f"{', '.join(others)} and {last}" if others else last


def _group_words(publication: Publication, group: GroupView) -> str:
    flow, entity = publication.flow, publication.entity
    whose = f"other addresses at {flow.sensor}" if entity == OVERFLOW else entity
    return f"{whose}: {_counted('unusual', group, entity.split(' -> '))}"


def _suppressed_words(suppressed: Suppressed, flow: FlaggedFlow, group: GroupView) -> str:
    """Return what a suppression kept back: never silent, and never in the words of an alert."""
    until = f" until {suppressed.until}" if suppressed.until else ""
    return f"{flow.sensor}: {_counted('suppressed', group, [])}{until}: {suppressed.reason}"


def _counted(what: str, group: GroupView, named: Sequence[str]) -> str:
    """Return how many flows, over which time, and from whom to whom besides those named already."""
    flows = f"{group.count:,} {what} flow{'s' * (group.count > 1)}"
    told = (
        f"{flows} within {duration((group.last_us - group.first_us) / 1e6)}",
        _peers("from", [address_text(ip) for ip in group.sources], "sources", named),
        _peers("to", [address_text(ip) for ip in group.destinations], "destinations", named),
        _peers("on", [f"port {port}" for port in group.ports], "ports", named),
    )
    return " ".join(text for text in told if text)


def _peers(preposition: str, names: list[str], noun: str, named: Sequence[str]) -> str:
    """Return whom a group was about besides those named already: the one there is, or how many."""
    if not names or (len(names) == 1 and names[0] in named):
        return ""
    more = " or more" if len(names) == MAX_DISTINCT else ""
    return f"{preposition} {names[0]}" if len(names) == 1 else f"{preposition} {len(names)}{more} {noun}"


def _why(feature_set_id: str, flow: FlaggedFlow, term: TermShare | None) -> str:
    if term is None:
        return f"leading term {flow.leading}"
    odd = [share for share in term.features if _is_odd(feature_set_id, share)]
    named = _worth_naming(odd or term.features)
    told = "; ".join(_feature_words(feature_set_id, share, term.kind) for share in named)
    return told or f"{term.kind} {term.id}".replace("_", " ")


def _is_odd(feature_set_id: str, share: FeatureShare) -> bool:
    """Return whether a reader would see a difference; "S0 (expected S0)" explains nothing."""
    kind = feature_kind(feature_set_id, share)
    told = [quantity(value, share.unit, kind) for value in (share.observed, share.expected)]
    return told[0] != told[1]


def _worth_naming(features: Iterable[FeatureShare]) -> list[FeatureShare]:
    ordered = sorted(features, key=lambda feature: -abs(feature.contribution))[:NAMED]
    return _strongest(ordered, [feature.contribution for feature in ordered])


def _strongest(ordered: Sequence[_Named], sizes: Sequence[float]) -> list[_Named]:
    """Return those that are not small beside the first, which is the largest."""
    return [
        one for one, size in zip(ordered, sizes, strict=True) if abs(size) >= WORTH_NAMING * abs(sizes[0])
    ]


def _feature_words(feature_set_id: str, share: FeatureShare, term_kind: str) -> str:
    text, kind = feature_text(feature_set_id, share.name), feature_kind(feature_set_id, share)
    observed = quantity(share.observed, share.unit, kind)
    return f"{text}: {observed} ({_expectation(share, kind, term_kind)})"


def _expectation(share: FeatureShare, kind: str, term_kind: str) -> str:
    expected = quantity(share.expected, share.unit, kind)
    if term_kind == "watched":
        return f"always {expected} in training"
    return f"expected {'about ' if kind == 'numeric' else ''}{expected}"


def who(flow: FlaggedFlow) -> str:
    """Return who talks to whom, or the flow's id where there are no addresses."""
    if flow.src_ip is None and flow.dst_ip is None:
        return f"flow {flow.flow_id} at {flow.sensor}"
    src, dst = _text(flow.src_ip), _text(flow.dst_ip)
    return f"{src} -> {endpoint(dst, flow.dst_port, flow.protocol)}"


def _text(address: bytes | None) -> str:
    return address_text(address) if address is not None else "?"


def endpoint(address: str, port: int | None, protocol: str | None) -> str:
    """Return an address with what is known of port and protocol.

    Examples
    --------
    >>> endpoint("10.0.0.9", 22, "tcp"), endpoint("fe80::1", 53, None), endpoint("10.0.0.9", None, "icmp")
    ('10.0.0.9:22/tcp', '[fe80::1]:53', '10.0.0.9 (icmp)')
    """
    if port is None:
        return f"{address} ({protocol})" if protocol else address
    host = f"[{address}]" if ":" in address else address
    return f"{host}:{port}" + (f"/{protocol}" if protocol else "")
