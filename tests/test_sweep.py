"""The end of a sweep: jobs by what they differ in, failures by their reason, nothing where all went well."""

from pathlib import Path

from fewstep.sweep import JobRecord, SweepRecords, differing, unfinished


def test_jobs_are_called_by_what_they_differ_in() -> None:
    assert differing([("a=1", "c=0"), ("a=2", "c=0"), ("a=1", "b=3", "c=0")]) == ["a=1", "a=2", "a=1 b=3"]
    assert differing([("a=1", "c=0")]) == ["a=1 c=0"]
    assert differing([(), ("a=2",)]) == ["the job", "a=2"]
    assert differing([]) == []


def test_records_of_two_sweeps_lie_apart_and_those_of_one_are_read_by_number(tmp_path: Path) -> None:
    mine, other = SweepRecords.of_this_process(tmp_path), SweepRecords(tmp_path / ".sweep-elsewhere-1")
    for number in (10, 9, 2):
        mine.write(JobRecord(number=number, overrides=[f"seed={number}"]))
        other.write(JobRecord(number=number, overrides=["seed=0"]))
    mine.write(JobRecord(number=9, overrides=["seed=9"], ended=True, part="p", report="r"))
    assert [record.number for record in mine.read()] == [2, 9, 10]
    assert mine.read()[1] == JobRecord(number=9, overrides=["seed=9"], ended=True, part="p", report="r")
    mine.remove()
    assert mine.read() == []
    assert len(other.read()) == 3


def test_failures_of_one_reason_stand_together() -> None:
    records = [
        JobRecord(
            number=number,
            overrides=[f"seed={number}"],
            ended=number > 0,
            failure="No room." if number > 1 else None,
        )
        for number in range(8)
    ]
    assert unfinished(records) == (
        "7 of 8 jobs failed; the same command runs what is missing.\n"
        "  seed=0: It was cut short.\n"
        "  seed=2; seed=3; seed=4; seed=5; and 2 more: No room."
    )
    assert unfinished(records[1:2]) is None
    assert unfinished([]) is None
