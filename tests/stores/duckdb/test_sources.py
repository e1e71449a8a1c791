"""What a pattern may reach, and that DuckDB itself reaches nothing else."""

import gzip
import os
from pathlib import Path

import duckdb
import pytest

from rollup_operator.model.store import DuckDBStoreSpec as StoreSpec
from rollup_operator.stores.duckdb import Budget, DuckDBStore
from rollup_operator.stores.duckdb.database.folders import Folders
from rollup_operator.stores.duckdb.source.sources import Search
from rollup_operator.stores.errors import ForbiddenSource, SourceInvalid, StoreUnavailable, TargetBlocked
from support.embedded import NAMESPACE, Embedded, config, spec

ROWS = [(1_704_067_200_000, 1.0, "a", 1)]


@pytest.fixture
def embedded(tmp_path: Path) -> Embedded:
    made = Embedded(tmp_path / "root")
    made.write("in/rows.parquet", ROWS)
    secret = Embedded(tmp_path / "root").root / "other"
    secret.mkdir()
    made.write("../other/secret.parquet", ROWS)
    made.write("../../outside.parquet", ROWS)
    return made


@pytest.mark.parametrize(
    "pattern",
    [
        "../other/secret.parquet",
        "in/../../other/secret.parquet",
        "in/../rows.parquet",
        "/etc/passwd",
        "/etc/*.csv",
        "//etc/x.csv",
        "~/x.csv",
        "http://127.0.0.1:1/x.parquet",
        "https://example.com/x.csv",
        "s3://bucket/x.parquet",
        "file:///etc/x.csv",
        "in\\..\\x.csv",
        "in/rows.parquet,../other/secret.parquet",
    ],
)
async def test_a_pattern_cannot_lead_out(embedded: Embedded, pattern: str) -> None:
    result = await embedded.run(config(spec(pattern)))
    assert result.outcome == "Failed"
    assert isinstance(result.error, ForbiddenSource), result
    assert "spec.indexPattern" in result.message


@pytest.mark.parametrize("pattern", ["link/secret.parquet", "link/*.parquet", "*/secret.parquet", "in/l*.parquet"])
async def test_a_link_cannot_lead_out(embedded: Embedded, pattern: str) -> None:
    (embedded.folder / "link").symlink_to(embedded.root / "other")
    (embedded.folder / "in" / "l.parquet").symlink_to(embedded.root / "other" / "secret.parquet")
    result = await embedded.run(config(spec(pattern)))
    assert isinstance(result.error, ForbiddenSource), result
    assert "link" in result.message
    assert str(embedded.root) not in result.message


async def test_a_link_within_the_folder_is_not_followed_either(embedded: Embedded) -> None:
    (embedded.folder / "again").symlink_to(embedded.folder / "in")
    result = await embedded.run(config(spec("again/*.parquet")))
    assert isinstance(result.error, ForbiddenSource)
    assert "'again' is a link" in result.message


async def test_the_same_file_is_read_once(embedded: Embedded) -> None:
    job = config(spec("in/rows.parquet,*/*.parquet"))
    await embedded.completed(job)
    (document,) = embedded.documents(job)
    assert document["ts.date_histogram._count"] == 1


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "tsv", "tsv.gz"])
async def test_text_is_read_by_the_ending_of_its_name(embedded: Embedded, ending: str) -> None:
    text = "ts,value,term,size\n2024-01-01 00:00:00,1.0,a,1\n".replace(",", "\t" if ending[0] == "t" else ",").encode()
    (embedded.folder / f"in/rows.{ending}").write_bytes(gzip.compress(text) if ending.endswith("gz") else text)
    job = config(spec("in/*" + "." + ending))
    await embedded.completed(job)
    (document,) = embedded.documents(job)
    assert document["ts.date_histogram._count"] == 1


def test_characters_of_patterns_are_names_but_for_the_star(embedded: Embedded) -> None:
    for name in ("a[1].csv", "a1.csv", "b?.csv", "bb.csv", ".hidden.csv", "c.parquet"):
        (embedded.folder / name).write_text("x\n1\n")

    def found(pattern: str) -> list[str]:
        files = list(Search(lambda: None).files(pattern, Folders.of(embedded.root, NAMESPACE), "out"))
        for fd, _ in files:
            os.close(fd)
        return [name for _, name in files]

    assert found("a[1].csv") == ["a[1].csv"]
    assert found("b?.csv") == ["b?.csv"]
    assert len(found("*.csv")) == 4
    assert found("none*.csv") == []
    with pytest.raises(SourceInvalid, match="names of files end in"):
        found("in/rows.json")


async def test_brackets_in_a_file_name_reach_no_other_file(embedded: Embedded) -> None:
    embedded.write("in/x1.parquet", ROWS * 5)
    embedded.write("in/x[1].parquet", ROWS)
    job = config(spec("in/x[1].parquet"))
    await embedded.completed(job)
    assert embedded.documents(job)[0]["ts.date_histogram._count"] == 1


async def test_a_folder_named_like_the_rollup_index_is_no_source(embedded: Embedded) -> None:
    embedded.write("out/job.parquet", ROWS)  # a result of an earlier version, or looks like one
    result = await embedded.run(config(spec("*/*.parquet"), hash_="h"))
    assert isinstance(result.error, SourceInvalid)


async def test_the_records_are_no_source(embedded: Embedded) -> None:
    await embedded.completed(config(spec("in/*.parquet")))
    for pattern in ("claims", "_rollup.claims", "result_*", "duckdb_tables"):
        result = await embedded.run(config(spec(pattern), job_id="other"))
        assert "matches no table" in result.message


async def test_views_are_no_source(embedded: Embedded) -> None:
    with duckdb.connect(str(embedded.file)) as connection:
        connection.execute("CREATE VIEW v AS SELECT TIMESTAMP '2024-01-01' AS ts, 1 AS value, 'a' AS term, 1 AS size")
    assert "matches no table" in (await embedded.run(config(spec("v")))).message


@pytest.mark.parametrize(
    ("namespace", "database"), [("..", "x.db"), ("a/b", "x.db"), ("a", "../x.db"), ("a", "/x.db"), ("a", ".x.db")]
)
def test_a_database_cannot_lie_elsewhere(tmp_path: Path, namespace: str, database: str) -> None:
    with pytest.raises(StoreUnavailable):
        DuckDBStore(
            tmp_path,
            namespace,
            StoreSpec(database=database),
            page_seconds=1,
            budget=Budget(1 << 30),
            is_alive=lambda _: False,
        )


async def test_a_database_behind_a_link_is_not_opened(embedded: Embedded) -> None:
    with duckdb.connect(str(embedded.root / "other" / "x.duckdb")) as connection:
        connection.execute("CREATE TABLE rows AS SELECT 1")
    embedded.file.symlink_to(embedded.root / "other" / "x.duckdb")
    with pytest.raises(TargetBlocked, match="is a link"):
        await embedded.store().check()


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_parquet('{root}/other/secret.parquet')",
        "SELECT * FROM '{folder}/../other/secret.parquet'",
        "SELECT * FROM '{folder}/in/l.parquet'",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM '{root}/.rollup-operator/{namespace}/databases/x.parquet'",
        "COPY (SELECT 1) TO '{root}/.rollup-operator/{namespace}/databases/x.csv'",
        "COPY (SELECT 1) TO '{root}/other/x.csv'",
        "COPY (SELECT 1) TO '{root}/{namespace}x/x.csv'",
        "ATTACH '{root}/other/x.duckdb'",
        "SELECT * FROM 'http://127.0.0.1:1/x.csv'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET allowed_directories = ['/']",
        "SET lock_configuration = false",
        "RESET enable_external_access",
    ],
)
async def test_duckdb_is_locked_in(embedded: Embedded, statement: str) -> None:
    (embedded.folder / "in" / "l.parquet").symlink_to(embedded.root / "other" / "secret.parquet")
    (embedded.root / f"{NAMESPACE}x").mkdir()
    database = embedded.base
    lane = await database.lane()
    try:
        text = statement.format(root=embedded.root, folder=embedded.folder, namespace=NAMESPACE)
        with pytest.raises(duckdb.Error, match=r"(?i)disabled|locked|cannot"):
            lane.execute(text)
        assert lane.execute(f"SELECT count(*) FROM '{embedded.folder}/in/rows.parquet'") == [(1,)]
    finally:
        database.leave(lane)
        database.close_if_idle()
