"""Flagged rows of any kind, as differences from a plain one (the fixture `flagged`)."""

from hypothesis import strategies as st

from pipeline.verdict import FeatureShare, Loading, Reasons, TermShare


def reasons_json(*terms: TermShare) -> str:
    """Return the reasons of a row as they travel."""
    return Reasons(score_kind="whitened_sum", additive=True, terms=terms).to_json()


FINITE = st.floats(-1e12, 1e12)
P_VALUES = st.floats(1e-300, 1.0)
SHARE = st.builds(
    FeatureShare,
    name=st.text(min_size=1, max_size=8),
    observed=st.one_of(FINITE, st.text(max_size=5)),
    expected=st.one_of(FINITE, st.text(max_size=5)),
    unit=st.sampled_from(["", "s", "ms", "bytes", "bit/s", "ratio", "flows", "hops"]),
    contribution=FINITE,
)
TERM = st.builds(
    TermShare,
    kind=st.sampled_from(["noise_direction", "residual", "node", "feature", "watched"]),
    id=st.text(max_size=5),
    deviation=FINITE,
    term=FINITE,
    share=st.floats(-1, 1),
    features=st.lists(SHARE, max_size=6).map(tuple),
    loadings=st.lists(st.builds(Loading, name=st.text(max_size=8), value=FINITE), max_size=3).map(tuple),
)
ROW = st.fixed_dictionaries(
    {
        "flow_id": st.text(min_size=1, max_size=20),
        "sensor": st.text(min_size=1, max_size=10),
        "src_ip": st.one_of(st.none(), st.ip_addresses().map(str)),
        "dst_ip": st.one_of(st.none(), st.ip_addresses().map(str)),
        "src_port": st.one_of(st.none(), st.integers(0, 65535)),
        "dst_port": st.one_of(st.none(), st.integers(0, 65535)),
        "protocol": st.sampled_from([None, "tcp", "icmp"]),
        "event_time": st.integers(0, 4_102_444_799_999_999),
        "p_value": P_VALUES,
        "scores": st.lists(FINITE, min_size=2, max_size=2),
        "p_values": st.lists(P_VALUES, min_size=2, max_size=2),
        "decided": st.integers(0, 1),
        "leading": st.sampled_from(["noise_direction:n3", "residual:x"]),
        "about": st.sampled_from(["flow", "src", "dst", "pair"]),
        "reasons": st.one_of(st.none(), st.lists(TERM, max_size=5).map(lambda terms: reasons_json(*terms))),
    }
)
