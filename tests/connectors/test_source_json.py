"""Files of JSON lines read by a mapping: every line a row, a reject, or no flow."""

import gzip
import random
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from json_lines import flow, write_flows

from connectors.base import Chunk, Source
from connectors.errors import SourceError
from connectors.lines import LONGEST_LINE
from connectors.mapping import load_mapping
from connectors.source_json import JsonSource, preset_of, recognises

GOFLOW2 = load_mapping("goflow2")


def read(path: Path, mapping: str | None = None, **options: Any) -> Chunk:
    """Return the whole of a file as one chunk."""
    chunks = list(JsonSource(path, load_mapping(mapping) if mapping else None, **options).chunks())
    assert len(chunks) == 1
    return chunks[0]


def written(tmp_path: Path, *lines: bytes) -> Path:
    path = tmp_path / "flows.json"
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def test_a_line_is_a_flow(tmp_path: Path) -> None:
    """Its number is its position; what the record says arrives in our units and words."""
    chunk = read(written(tmp_path, flow(0), b"  ", flow(2)), "goflow2")
    row = chunk.rows.to_pylist()[1]

    assert chunk.rows["position"].to_pylist() == [0, 2]
    assert (row["sensor"], row["src_port"], row["protocol"], row["duration"]) == (
        "10.9.9.9",
        40_002,
        "tcp",
        0.002,
    )
    assert (row["state"], row["dst_bytes"], row["dst_packets"]) == ("established", None, None)


def test_notes_say_what_the_mapping_says(tmp_path: Path) -> None:
    """Which direction, which bytes, and what the mapping adds."""
    source = JsonSource(written(tmp_path, flow(0)), GOFLOW2)

    assert isinstance(source, Source)
    assert "seen one-way" in source.notes[0]
    assert "stand at bytes" in source.notes[1]
    assert source.notes[2:] == GOFLOW2.notes


BROKEN = {
    b"{": "not_json",
    b"no JSON at all": "not_json",
    b"[" + flow(7) + b"]": "not_an_object",
    b"3": "not_an_object",
    b"null": "not_an_object",
    flow(7) + flow(8): "not_json",
    flow(7)[:-5]: "not_json",
    flow(7).replace(b"TCP", b"T\xffP"): "not_utf8",
    flow(7).replace(b"TCP", b"T\0P"): "nul_byte",
    flow(7).replace(b'"packets":2', b'"packets":NaN'): "not_json",
    flow(7, packets=10**400): "unreadable_value",
    b'{"a":' * 5000 + b"1" + b"}" * 5000: "too_deep",
    flow(7, note="x" * 10_000_000): "line_too_long",
    flow(7, packets=None): "null_value",
    flow(7, packets=[2]): "unreadable_value",
    flow(7, packets={"n": 2}): "unreadable_value",
    flow(7, packets=-2): "out_of_range",
    flow(7, dst_port=70_000): "unreadable_value",
    flow(7, time_flow_end_ns=1): "out_of_range",
    flow(7, time_flow_end_ns=2**63 - 1, time_flow_start_ns=0): "absurd_time",
}


def test_broken_lines_are_rejects_among_good_ones(tmp_path: Path) -> None:
    """Each with its bytes, its reason and its line; the flows between them are all there."""
    path = written(tmp_path, *(line for broken in BROKEN for line in (flow(0), broken)), flow(0))
    chunks = list(JsonSource(path, GOFLOW2).chunks())
    rejects = [reject for chunk in chunks for reject in chunk.rejects]

    assert {r.raw: r.reason for r in rejects} == {raw[:LONGEST_LINE]: why for raw, why in BROKEN.items()}
    assert [r.position for r in rejects] == list(range(1, 2 * len(BROKEN), 2))
    assert sum(chunk.rows.num_rows for chunk in chunks) == len(BROKEN) + 1
    assert all(r.detail.startswith(f"flows.json line {r.position + 1}: ") for r in rejects)


def test_of_a_key_given_twice_the_last_counts(tmp_path: Path) -> None:
    """As in most readers of JSON."""
    line = flow(0)[:-1] + b',"bytes":77}'

    assert read(written(tmp_path, line), "goflow2").rows["src_bytes"].to_pylist() == [77]


def test_what_no_path_names_is_not_looked_at(tmp_path: Path) -> None:
    """However large or odd."""
    line = flow(0, extra={"deep": [[[1e300]]], "big": 10**30})

    assert read(written(tmp_path, line), "goflow2").rows.num_rows == 1


def test_ids_come_from_content_and_sensor(tmp_path: Path) -> None:
    """Path and packing do not matter, nor does the mapping to the flows; sensor and first record do."""
    plain = write_flows(tmp_path / "a.json", 57)
    packed = tmp_path / "b.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    other = written(tmp_path, flow(99), *plain.read_bytes().splitlines()[1:])
    path = tmp_path / "m.yaml"
    path.write_text("preset: goflow2\ncolumns: {label: type}\n")
    sources = [
        JsonSource(plain, GOFLOW2), JsonSource(packed, GOFLOW2), JsonSource(plain, load_mapping(path)),
        JsonSource(plain, GOFLOW2, sensor="roof"), JsonSource(other, GOFLOW2),
    ]  # fmt: skip
    ids = [next(source.chunks()).rows["flow_id"].to_pylist() for source in sources]

    assert ids[0] == ids[1] == ids[2]
    assert not {*ids[0]} & {*ids[3]}
    assert not {*ids[0]} & {*ids[4]}
    assert [s.source_id == sources[0].source_id for s in sources] == [True, True, False, False, False]


MISTAKES = {
    r"nowhere\.json: no such file": None,
    "the file is empty": b"",
    r"none of its first 1 records reads as JSON lines.* line 1: ": b"a,b,c\n",
    r"none of its first 2 records .* line 1: ": b"{}\n{}\n",
}


@pytest.mark.parametrize("message", MISTAKES)
def test_files_that_are_none_are_refused(message: str, tmp_path: Path) -> None:
    """In one sentence, with the first line that does not fit."""
    content = MISTAKES[message]
    path = tmp_path / ("nowhere.json" if content is None else "f.json")
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=message) as caught:
        JsonSource(path, GOFLOW2)
    assert "\n" not in str(caught.value)


PACKETBEAT: dict[str, Any] = {
    "event": {"action": "network_flow", "end": "2024-03-01T12:00:00.5Z", "duration": 5},
    "flow": {"final": True},
    "source": {"ip": "10.0.0.1", "bytes": 1, "packets": 1}, "destination": {"ip": "10.0.0.2"},
}  # fmt: skip


def test_known_exporters_need_no_mapping(tmp_path: Path) -> None:
    """goflow2, Packetbeat and Filebeat are known by their records; for others a mapping is asked for."""
    interim = PACKETBEAT | {"flow": {"final": False}}
    filebeat = PACKETBEAT | {"event": {**PACKETBEAT["event"], "action": "netflow_flow"}}
    encode = msgspec.json.encode
    heads = [flow(0) + b"\n", encode(PACKETBEAT) + b"\n", encode(filebeat) + b"\n", encode(interim) + b"\n",
             b"", b"\x00" * 99, b"{}\n", b'{"ts": 1.0}\n', b"a,b\n"]  # fmt: skip

    assert [preset_of(head) for head in heads] == ["goflow2", "packetbeat", "ecs", *[None] * 6]
    assert [recognises(head) for head in heads] == [True] * 3 + [False] * 6
    assert read(written(tmp_path, flow(0))).rows.num_rows == 1
    with pytest.raises(SourceError, match="say with a mapping what stands where"):
        JsonSource(written(tmp_path, encode({"a": 1})))


@pytest.mark.data
def test_others_files_are_not_taken(data_dir: Path) -> None:
    """Zeek's and Suricata's have sources of their own; tables and binary files are no JSON."""
    for path in sorted((data_dir / "flows").iterdir()):
        assert not recognises(path.read_bytes()[:65_536]), path.name


@pytest.mark.data
def test_a_public_eve_log_is_read_to_its_end(data_dir: Path) -> None:
    """Its flow events, as plain Python counts them, all become rows."""
    path = data_dir / "flows" / "suricata_eve.json"
    events = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
    flows = [event for event in events if event["event_type"] == "flow"]
    chunks = list(JsonSource(path, load_mapping("eve")).chunks())
    rows = [row for chunk in chunks for row in chunk.rows.to_pylist()]

    assert (len(rows), chunks[-1].next) == (len(flows), len(events)) == (3512, 5000)
    assert not any(chunk.rejects for chunk in chunks)
    assert sum(row["src_bytes"] + row["dst_bytes"] for row in rows) == sum(
        f["flow"]["bytes_toserver"] + f["flow"]["bytes_toclient"] for f in flows
    )
    assert Counter(row["protocol"] for row in rows) == Counter(f["proto"].lower() for f in flows)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "n"), [("zeek_conn_json_mixed.log", 576), ("zeek_conn_json_portscan.log", 50)]
)
def test_public_zeek_logs_are_read_to_their_end(name: str, n: int, data_dir: Path) -> None:
    """One row a line; ids are Zeek's."""
    path = data_dir / "flows" / name
    records = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
    chunk = read(path, "zeek")

    assert (chunk.rows.num_rows, len(chunk.rejects)) == (len(records), 0) == (n, 0)
    assert chunk.rows["flow_id"].to_pylist() == [record["uid"] for record in records]
    assert sum(chunk.rows["src_packets"].to_pylist()) == sum(record["orig_pkts"] for record in records)


ODD = st.binary(max_size=40) | st.sampled_from(
    [b'"', b"\\u0000", b"\xff", b"9" * 400, b"\0", b"[" * 2000, b"null"]
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(at=st.integers(0, 300), cut=st.integers(0, 80), odd=ODD)
def test_a_spoiled_line_spoils_no_other(at: int, cut: int, odd: bytes, tmp_path: Path) -> None:
    """Whatever is cut from a line or put into it: the lines around it are read as before."""
    line = flow(1)
    spoiled = (line[:at] + odd.replace(b"\n", b" ") + line[at + cut :]) or b"x"
    chunk = read(written(tmp_path, flow(0), spoiled, flow(2)), "goflow2")
    ports = dict(zip(chunk.rows["position"].to_pylist(), chunk.rows["src_port"].to_pylist(), strict=True))

    assert (ports[0], ports[2]) == (40_000, 40_002)
    assert [r.position for r in chunk.rejects] in ([], [1])
    assert chunk.rejects or 1 in ports or not spoiled.strip()


@pytest.mark.data
def test_a_mutilated_public_log_is_read_to_its_end(data_dir: Path, tmp_path: Path) -> None:
    """With a hundred bytes in the middle of lines overwritten, all other lines are rows."""
    content = bytearray((data_dir / "flows" / "zeek_conn_json_mixed.log").read_bytes())
    rng = random.Random(5)
    spots = [at for at in rng.sample(range(len(content)), 100) if content[at] != 10]
    for at in spots:
        content[at] = rng.choice(b'\x00\xff"{}[],:9x')
    path = tmp_path / "m.log"
    path.write_bytes(content)
    chunk = read(path, "zeek")
    hit = {content.count(b"\n", 0, at) for at in spots}

    assert {reject.position for reject in chunk.rejects} <= hit
    assert set(range(576)) - hit <= set(chunk.rows["position"].to_pylist())
    assert chunk.rows.num_rows + len(chunk.rejects) == 576
