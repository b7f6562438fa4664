"""One pipeline on 1, 2 and 4 processes that talk to each other over gloo: the same global batches, and exact resume."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from launched import launch, whole

ONE_PROCESS = Path(__file__).with_name("one_process.py")
SIZE, LENGTH, EPOCHS = 8, 20, 2  # as it has them
INDEXED = ("eager", "device", "host")
KINDS = (*INDEXED, "sized", "ending")
Json = dict[str, Any]
Seen = dict[int, list[Json]]
COUNTS = [1, 2, 4]
MORE = [2, 4]


@pytest.fixture(scope="module")
def seen(made_once: Callable[[str, Callable[[Path], None]], Path]) -> Seen:
    """Return the observations of each process, by the number of processes; 4 of them save the states that fewer resume."""

    def launch_all(folder: Path) -> None:
        launch(ONE_PROCESS, [4], folder)
        launch(ONE_PROCESS, [2, 1], folder)

    folder = made_once("processes", launch_all)
    return {
        count: [
            json.loads((folder / f"seen-{count}-{process}.json").read_text(encoding="utf-8"))
            for process in range(count)
        ]
        for count in COUNTS
    }


def of(seen: Seen, count: int, look: str, *names: str) -> Any:
    parts: list[Any] = [process[look] for process in seen[count]]
    for name in names:
        parts = [part[name] for part in parts]
    return whole(parts)


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_of_processes_serves_the_same_batches_by_every_route(seen: Seen, kind: str) -> None:
    names = [name for name in seen[1][0]["routes"] if name.startswith(f"{kind} ") and not name.endswith(" specs")]
    assert len(names) == (5 if kind in INDEXED else 3)
    for name in names:
        alone = of(seen, 1, "routes", name)
        for count in MORE:
            together = of(seen, count, "routes", name)
            if name.endswith(" scan"):  # sums, over another number of devices
                assert together == {field: [pytest.approx(v) for v in values] for field, values in alone.items()}
            else:
                assert together == alone


@pytest.mark.parametrize("kind", KINDS)
def test_the_routes_serve_the_same_records_with_equal_steps_and_a_mask(seen: Seen, kind: str) -> None:
    routes = of(seen, 1, "routes")
    batches = routes[f"{kind} loop"]
    records = (LENGTH - 1) * (1 if kind == "ending" else EPOCHS)
    assert [len(batch["id"]) for batch in batches] == [SIZE] * -(-records // SIZE)
    assert sum(sum(batch["valid"]) for batch in batches) == records
    assert len({value for batch in batches[:2] for value in batch["r"]}) == 2 * SIZE
    assert routes[f"{kind} dropped"] == [batch["id"] for batch in batches[: records // SIZE]]
    assert routes[f"{kind} step"] == batches[:2]
    if kind in INDEXED:
        assert routes[f"{kind} traced"] == batches[:2]
        sums = [sum(batch["id"]) for batch in batches[:4]]
        assert routes[f"{kind} scan"]["id"] == sums
    for count in COUNTS:
        assert of(seen, count, "routes", f"{kind} specs") == ["P('data',)"]


def test_a_stream_that_can_be_split_is(seen: Seen) -> None:
    for count in MORE:
        batches = of(seen, count, "split", "batches")
        part = LENGTH // count
        records = [[10_000 * k + r for r in range(part)] for k in range(count)]
        share = SIZE // count
        assert len(batches) == of(seen, count, "split", "len") == -(-LENGTH // SIZE)
        for number, batch in enumerate(batches):
            mine = [ids[number * share : (number + 1) * share] for ids in records]
            assert batch["id"] == [r for ids in mine for r in ids + ids[-1:] * (share - len(ids))]
            assert batch["valid"] == [row < len(ids) for ids in mine for row in range(share)]
        real = [r for batch in batches for r, valid in zip(batch["r"], batch["valid"], strict=True) if valid]
        assert len(set(real)) == LENGTH
        assert of(seen, count, "split", "resumed") == batches[2:]
        for process, child in enumerate(seen[count]):
            assert (
                f"The stream is split by process: this one reads part {process} of {count}"
                in child["split"]["explained"]
            )
    assert of(seen, 1, "split", "batches")[0]["id"] == list(range(SIZE))


@pytest.mark.parametrize("kind", ["eager", "host", "sized"])
def test_each_process_calls_host_stages_with_its_own_rows(seen: Seen, kind: str) -> None:
    alone = of(seen, 1, "host stages", f"{kind} loop")
    assert len({draw for batch in alone for draw in batch["u"]}) == LENGTH * EPOCHS
    for count in COUNTS:
        assert of(seen, count, "host stages", f"{kind} loop") == alone
        assert of(seen, count, "host stages", f"{kind} step") == alone[:2]
        split = of(seen, count, "host stages", "split loop")
        assert len({draw for batch in split for draw in batch["u"]}) == LENGTH


@pytest.mark.parametrize("kind", ["eager", "host", "sized"])
def test_what_four_processes_saved_is_gone_on_from_by_fewer(seen: Seen, kind: str) -> None:
    uninterrupted = of(seen, 4, "resuming", kind)
    assert len(uninterrupted) == LENGTH * EPOCHS // SIZE
    for count in (1, 2):
        assert of(seen, count, "resuming", kind) == uninterrupted
        assert of(seen, count, "resuming", f"{kind} resumed") == uninterrupted[3:]


@pytest.mark.parametrize("kind", ["eager", "host", "sized"])
def test_batch_sizes_that_change_are_the_same_on_every_number_of_processes(seen: Seen, kind: str) -> None:
    alone = of(seen, 1, "sizes", kind)
    assert [len(batch["id"]) for batch in alone] == [8, 8, 12, 12, 12, 12, 12]
    for count in COUNTS:
        assert of(seen, count, "sizes", kind) == alone
        assert [len(batch["id"]) for batch in of(seen, count, "sizes", "split")] == [8, 8, 12, 12, 12, 12, 12]
        if count < 4:
            assert of(seen, count, "sizes", f"{kind} resumed") == alone[3:]
        if kind in INDEXED:
            assert of(seen, count, "sizes", f"{kind} sought") == [alone[3]] * 2


def test_all_processes_are_in_the_same_bucket_at_the_same_step(seen: Seen) -> None:
    alone = of(seen, 1, "buckets", "loop")
    shapes = {(len(batch["tokens"]), len(batch["tokens"][0])) for batch in alone}
    assert shapes == {(16, 4), (8, 8), (4, 16)}
    served = [i for batch in alone for i, real in zip(batch["id"], batch["valid"], strict=True) if real]
    assert sorted(served) == sorted([*range(60)] * 2)
    for count in COUNTS:
        assert of(seen, count, "buckets", "loop") == alone
        if count < 4:
            assert of(seen, count, "buckets", "resumed") == alone[5:]


@pytest.mark.parametrize("count", COUNTS)
def test_each_process_reads_the_rows_that_its_devices_hold(seen: Seen, count: int) -> None:
    reads = [process["reads"] for process in seen[count]]
    for read in reads:
        assert read["asked"] == read["held"]
    asked = [index for read in reads for call in read["asked"] for index in call]
    assert sorted(asked) == list(range(LENGTH))
    assert [len(call) for call in reads[0]["asked"]] == [SIZE // count, SIZE // count, LENGTH % SIZE // count]


@pytest.mark.parametrize("count", COUNTS)
def test_each_device_holds_its_part_of_fields_of_any_rank(seen: Seen, count: int) -> None:
    layouts = of(seen, count, "layouts")
    assert {name: layout["wrong"] for name, layout in layouts.items() if layout["wrong"]} == {}
    assert layouts["rows and columns device"]["specs"] == {
        "image": "P('data', 'model')",
        "id": "P('data',)",
        "flat": "P('data', 'model')",
    }
    assert layouts["last dimension host"]["specs"]["image"] == "P('data', None, 'model')"


@pytest.mark.parametrize("count", COUNTS)
def test_text_stays_with_the_rows_of_its_process(seen: Seen, count: int) -> None:
    for process in seen[count]:
        for text in process["text"].values():
            assert len(text["held"]) == SIZE // count
            assert text["words"] == list(map(str, text["held"]))


@pytest.mark.parametrize("way", ["scan", "loop"])
def test_training_on_more_processes_gives_the_same_parameters(seen: Seen, way: str) -> None:
    alone = seen[1][0]["training"][way]
    assert alone["losses"][-1] < alone["losses"][0]
    for count in MORE:
        for process in seen[count]:
            trained = process["training"][way]
            assert trained["losses"] == pytest.approx(alone["losses"], rel=1e-4)
            for values, expected in zip(trained["values"], alone["values"], strict=True):
                assert values == pytest.approx(expected, rel=1e-4, abs=1e-6)


REFUSED = {
    "batch size": r"^ValueError: batch_size=6 does not divide over the 4 shards of its axis 'data' in .*; take 4 or 8$",
    "size": r"^ValueError: batch_size=6 does not divide over the 4 shards of its axis 'data' in .*; take 4 or 8$",
    "last batch": r"^ValueError: the last batch of a run has 3 records, which do not divide over the 4 shards of its",
    "field": r"^ValueError: field 'x' of shape \[8, 2\] cannot be laid out by P.*\('data', 'model'\) over the .*'model': 4",
    "ending": r"^ValueError: the last batch of a run has 3 records, which do not divide over the 4 shards .*; pass drop_last",
}
DIFFERING = {
    "seed": r"seed is \[\d+, \d+\] on process {others} and \[\d+, \d+\] on process {last}\. Build it from the same config",
    "length": r"epoch is 20 on process {others} and 19 on process {last}; length is 20 on process {others} and 19 on",
    "class": r'source is "EagerSourceBase" on process {others} and "HostRecords" on process {last}\.',
    "epochs": r"num_epochs is 1 on process {others} and 2 on process {last}\.",
    "stages": r'stages is \[\] on process {others} and \["copied"\] on process {last}\.',
    "mesh": r"sharding is .* of devices \[\d+, \d+, \d+, \d+\]\" on process {others} and .* on process {last}\.",
    "sought": r"position is 0 on process {others} and 8 on process {last}\.",
    "position": r"position is 0 on process {others} and 8 on process {last}\.",
}


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(("case", "message"), REFUSED.items(), ids=REFUSED)
def test_what_does_not_divide_is_refused_with_the_numbers(seen: Seen, count: int, case: str, message: str) -> None:
    assert re.search(message, of(seen, count, "refusals", case))


@pytest.mark.parametrize("count", MORE)
@pytest.mark.parametrize(("case", "message"), DIFFERING.items(), ids=DIFFERING)
def test_processes_that_differ_are_refused_on_all_of_them(seen: Seen, count: int, case: str, message: str) -> None:
    others, last = ", ".join(map(str, range(count - 1))), count - 1
    said = of(seen, count, "refusals", case)
    assert said.startswith("ValueError: the processes of this pipeline do not agree: ")
    assert re.search(message.replace("{others}", others).replace("{last}", str(last)), said)


def test_each_set_of_processes_that_shares_a_batch_agrees_for_itself(seen: Seen) -> None:
    alone = of(seen, 1, "resuming", "host")
    for half in (seen[4][:2], seen[4][2:]):
        some = {name: whole([process["some"][name] for process in half]) for name in ("batches", "resumed")}
        assert [i for batch in some["batches"] for i in batch["id"]] == [i for b in alone for i in b["id"]][:LENGTH]
        assert some["resumed"] == some["batches"][1:]
    seeds, sets, after = ([process["some"][case] for process in seen[4]] for case in ("seed", "sets", "after"))
    assert seeds[2:] == ["nothing"] * 2
    for said in seeds[:2]:
        assert re.search(
            r"^ValueError: the processes .* seed is \[\d+, \d+\] on process 0 and \[\d+, \d+\] on process 1\.", said
        )
    for said in sets[:3]:
        assert re.search(
            r"^ValueError: .* its sharding is over the processes \[.*\] on process \d, and over \[.*\] on", said
        )
    assert after == ["nothing"] * 4


@pytest.mark.parametrize("count", MORE)
def test_a_state_that_one_process_refuses_is_refused_by_all(seen: Seen, count: int) -> None:
    *others, last = (process["refusals"]["no state"] for process in seen[count])
    assert last == "StateError: this is no state of the pipeline over HostRecords: 'position' is missing"
    for said in others:
        assert re.search(f"refused is null on process .* and .*'position' is missing.* on process {count - 1}", said)
