"""Words: quantities that people read at a glance, and one sentence to act on."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.features.feature_sets import FEATURE_SETS
from pipeline.grouping import Grouper
from pipeline.messages import DetectionsHeaders
from pipeline.quantities import duration, odds, quantity
from pipeline.verdict import FeatureShare, Loading, Reasons, TermShare
from pipeline.words import feature_text, reason

Flagged = Callable[..., pa.RecordBatch]
Headers = Callable[..., DetectionsHeaders]
Sentences = Callable[..., list[str]]


@pytest.fixture
def sentences(flagged: Flagged, headers: Headers) -> Sentences:
    """Return a maker of sentences: of the rows published one by one, then of the summaries."""

    def make(*rows: dict[str, Any], **options: Any) -> list[str]:
        published = Grouper(0, **options).feed(flagged(*rows), headers(flush=True))
        return [reason(p, Reasons.from_json(p.flow.reasons) if p.flow.reasons else None) for p in published]

    return make


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0, "bytes", "0 bytes"),
        (999.0, "bytes", "999 bytes"),
        (999.6, "bytes", "1 kB"),
        (4_812_345.0, "bytes", "4.8 MB"),
        (2e18, "bytes", "2,000 PB"),
        (0.04, "bytes", "0 bytes"),
        (-0.04, "packets", "0"),
        (-12.0, "packets", "-12"),
        (1_234_567.0, "flows", "1,234,567"),
        (1.5, "ports", "1.5"),
        (0.0, "s", "0 s"),
        (0.00004, "s", "40 µs"),
        (59.4, "s", "59 s"),
        (59.6, "s", "1 min"),
        (3725.0, "s", "1 h 2 min"),
        (1500.0, "ms", "1.5 s"),
        (0.5, "ratio", "50 %"),
        (62.0, "hops", "62 hops"),
        (0.0003, "", "0.0003"),
        (3e20, "", "3e+20"),
    ],
)
def test_quantities_read_as_people_write_them(value: float, unit: str, text: str) -> None:
    """Two digits are enough to see what is odd; units are those of daily life."""
    assert quantity(value, unit) == text


@given(
    st.floats(-1e18, 1e18),
    st.sampled_from(["", "s", "ms", "bytes", "bit/s", "ratio", "flows", "hops"]),
)
def test_any_number_has_words(value: float, unit: str) -> None:
    """Every finite number is written, short, and never as minus nothing."""
    text = quantity(value, unit)

    assert 0 < len(text) <= 32
    assert not (text.startswith("-") and not any(digit in text for digit in "123456789"))


@given(st.floats(0, 1e9), st.floats(0, 1e9))
def test_longer_durations_do_not_read_shorter(a: float, b: float) -> None:
    """What is written can be read back, to one part in ten or so."""
    size = {"µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
    low, high = (
        sum(
            float(number.replace(",", "")) * size[unit]
            for number, unit in zip(parts[::2], parts[1::2], strict=True)
        )
        for parts in (duration(seconds).split() for seconds in sorted([a, b]))
    )

    assert low <= high
    assert high == pytest.approx(max(a, b), rel=0.1, abs=1e-6)


@pytest.mark.parametrize(
    ("p_value", "text"),
    [
        (1.0, "1 in 1 normal flows"),
        (5.1e-3, "1 in 200 normal flows"),
        (1e-12, "1 in 1,000,000,000,000 normal flows"),
        (9e-13, "fewer than 1 in 1,000,000,000,000 normal flows"),
        (5e-324, "fewer than 1 in 1,000,000,000,000 normal flows"),
    ],
)
def test_odds_are_whole_flows(p_value: float, text: str) -> None:
    """A p-value is told as one flow in so many, as far as that means anything."""
    assert odds(p_value) == text


def test_every_feature_has_a_text() -> None:
    """No alert of a feature set of ours falls back to a name."""
    missing = [
        (each.name, feature.name)
        for each in FEATURE_SETS.values()
        for feature in each.features
        if feature_text(each.id, feature.name) != feature.text or not feature.text
    ]

    assert missing == []


def test_the_leading_term_is_told_and_what_pushes_it_most(sentences: Sentences) -> None:
    """Not the largest term but the one that led; of it the features that matter."""
    shares = [
        FeatureShare(name="duration", observed=183.0, expected=2.0, unit="s", contribution=-4.0),
        FeatureShare(name="src_bytes", observed=5e6, expected=900.0, unit="bytes", contribution=8.0),
        FeatureShare(name="dst_bytes", observed=1.0, expected=1.0, unit="bytes", contribution=0.5),
    ]
    terms = [
        TermShare(kind=kind, id="n1", deviation=1, term=1, share=0.5, features=tuple(features))
        for kind, features in (("residual", shares[2:]), ("noise_direction", shares))
    ]
    text = Reasons(score_kind="sum", additive=True, terms=tuple(terms)).to_json()

    assert sentences({"reasons": text, "leading": "noise_direction:n1"}) == [
        (
            "10.0.0.5 -> 10.0.0.9:22/tcp is unusual (p = 2e-06, 1 in 500,000 normal flows): bytes sent by "
            "the source: 5 MB (expected about 900 bytes); duration: 3 min 3 s (expected about 2 s)"
        )
    ]


def test_what_reads_as_expected_is_told_only_where_nothing_else_is(sentences: Sentences) -> None:
    """A network may blame a value that is as expected to two digits; a reader learns nothing from it."""
    usual = FeatureShare(name="duration", observed=2.01, expected=2.0, unit="s", contribution=9.0)
    odd = FeatureShare(name="src_bytes", observed=5e6, expected=900.0, unit="bytes", contribution=1.0)

    def told(*shares: FeatureShare) -> str:
        term = TermShare(kind="residual", id="x", deviation=1, term=1, share=1.0, features=shares)
        text = Reasons(score_kind="sum", additive=True, terms=(term,)).to_json()
        return sentences({"reasons": text, "leading": "residual:x"})[0].partition("flows): ")[2]

    assert told(usual, odd) == "bytes sent by the source: 5 MB (expected about 900 bytes)"
    assert told(usual) == "duration: 2 s (expected about 2 s)"


def test_a_noise_direction_is_told_by_what_it_stands_for(sentences: Sentences) -> None:
    """Its name alone says nothing: the sentence has what moves it, and which way it went."""
    [told] = sentences({})

    assert told.endswith(
        "(expected about 2.1 %); together 31 standard deviations too high on noise direction n3, which in "
        "normal traffic rises with failed connections of the source in the last 60 s and addresses that the "
        "source contacted in the last 60 s and falls with service: http"
    )


def test_a_loading_that_hardly_counts_is_not_told(sentences: Sentences) -> None:
    """What has a tenth of the weight of another stands for nothing; a low value is said to be low."""
    loadings = (Loading(name="duration", value=-0.5), Loading(name="src_bytes", value=0.05))
    term = TermShare(
        kind="noise_direction", id="n1", deviation=-4, term=1, share=1, features=(), loadings=loadings
    )
    text = Reasons(score_kind="sum", additive=True, terms=(term,)).to_json()

    assert sentences({"reasons": text, "leading": "noise_direction:n1"})[0].endswith(
        "4 standard deviations too low on noise direction n1, which in normal traffic falls with duration"
    )


def test_a_summary_of_a_pair_says_it_once(sentences: Sentences) -> None:
    """Who and whom stand at the beginning, not again as source and destination."""
    assert sentences(*[{"about": "pair", "at": i} for i in range(4)])[-1].startswith(
        "10.0.0.5 -> 10.0.0.9: 4 unusual flows within 3 s on port 22 (p = 2e-06, "
    )


def test_a_summary_of_a_destination_says_from_where(sentences: Sentences) -> None:
    """A flood is told by whom it hits, from how many, on which port."""
    rows = [{"src_ip": f"10.1.{i // 200}.{i % 200}", "about": "dst", "at": i / 10} for i in range(300)]

    assert sentences(*rows)[-1].startswith(
        "10.0.0.9: 300 unusual flows within 30 s from 256 or more sources on port 22 (p = 2e-06, "
    )


def test_a_summary_of_many_entities_says_so(sentences: Sentences) -> None:
    """The group of what came after the last group names no address."""
    rows = [{"src_ip": f"10.1.0.{i}"} for i in range(20)]

    assert sentences(*rows, max_groups=2)[-1].startswith(
        "other addresses at hq: 18 unusual flows within 0 s from 18 sources to 10.0.0.9 on port 22 ("
    )


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({"src_ip": None}, "? -> 10.0.0.9:22/tcp is"),
        ({"dst_port": None, "protocol": "icmp"}, "10.0.0.5 -> 10.0.0.9 (icmp) is"),
        ({"src_ip": None, "dst_ip": None}, "flow C1 at hq is"),
    ],
)
def test_what_is_not_known_is_left_out(sentences: Sentences, changes: dict[str, Any], start: str) -> None:
    """Records without addresses or ports still say which flow it was."""
    assert sentences(changes)[0].startswith(start)
