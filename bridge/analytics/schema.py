"""The tables that events are kept in, the same in SQLite and in PostgreSQL, and how one version leads to the next.

Facts stand in `events`, small, with their dimensions and payers by number. Beside them is what reports read, by hour
and by day (`grain`, in seconds): `counts`, `money`, `timings` (histograms), `payer_buckets`; and by payer in
`journeys`. All of it is written in the
transaction that writes the facts, so that the two never differ.
"""

__all__ = ["MIGRATIONS"]

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE meta (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL){rowless}",
        """
        CREATE TABLE dimensions (
            id {id},
            route TEXT NOT NULL,
            protocol TEXT NOT NULL,
            network TEXT NOT NULL,
            asset TEXT NOT NULL,
            product TEXT NOT NULL,
            version TEXT NOT NULL,
            x402_only {int} NOT NULL,
            UNIQUE (route, protocol, network, asset, product, version, x402_only)
        )
        """,
        "CREATE TABLE payers (id {id}, address TEXT NOT NULL UNIQUE, last_at {real} NOT NULL)",
        # What makes a payment count once: its first client, and what it was counted for already.
        """
        CREATE TABLE payments (
            payment {blob} NOT NULL PRIMARY KEY,
            product TEXT NOT NULL,
            version TEXT NOT NULL,
            counts {int} NOT NULL,
            last_at {real} NOT NULL
        ){rowless}
        """,
        """
        CREATE TABLE events (
            id {id},
            at {real} NOT NULL,
            kind {int} NOT NULL,
            dimension {int} NOT NULL,
            payer {int},
            payment {blob},
            amount {amount},
            reason TEXT,
            stage TEXT,
            outcome TEXT,
            status {int},
            milliseconds {real},
            offered {int} NOT NULL,
            counts {int} NOT NULL,
            correlation_id TEXT,
            "transaction" TEXT
        )
        """,
        "CREATE INDEX events_by_time ON events (at)",
        """
        CREATE TABLE counts (
            grain {int} NOT NULL,
            bucket {int} NOT NULL,
            dimension {int} NOT NULL,
            what TEXT NOT NULL,
            reason TEXT NOT NULL,
            times {int} NOT NULL,
            PRIMARY KEY (grain, bucket, dimension, what, reason)
        ){rowless}
        """,
        """
        CREATE TABLE money (
            grain {int} NOT NULL,
            bucket {int} NOT NULL,
            dimension {int} NOT NULL,
            payments {int} NOT NULL,
            amount {amount} NOT NULL,
            PRIMARY KEY (grain, bucket, dimension)
        ){rowless}
        """,
        """
        CREATE TABLE timings (
            grain {int} NOT NULL,
            bucket {int} NOT NULL,
            dimension {int} NOT NULL,
            measure TEXT NOT NULL,
            histogram {blob} NOT NULL,
            PRIMARY KEY (grain, bucket, dimension, measure)
        ){rowless}
        """,
        """
        CREATE TABLE payer_buckets (
            grain {int} NOT NULL,
            bucket {int} NOT NULL,
            dimension {int} NOT NULL,
            payer {int} NOT NULL,
            payments {int} NOT NULL,
            amount {amount} NOT NULL,
            first_at {real} NOT NULL,
            last_at {real} NOT NULL,
            PRIMARY KEY (grain, bucket, dimension, payer)
        ){rowless}
        """,
        """
        CREATE TABLE journeys (
            payer {int} NOT NULL,
            protocol TEXT NOT NULL,
            payments {int} NOT NULL,
            first_at {real} NOT NULL,
            last_at {real} NOT NULL,
            PRIMARY KEY (payer, protocol)
        ){rowless}
        """,
        """
        CREATE TABLE marks (
            id {id},
            at {real} NOT NULL,
            event TEXT NOT NULL,
            route TEXT NOT NULL,
            protocol TEXT NOT NULL,
            stage TEXT NOT NULL,
            by_whom TEXT NOT NULL,
            detail TEXT NOT NULL,
            -- Each process tells of a lever that was moved.
            UNIQUE (at, event, route, protocol, stage)
        )
        """,
        "CREATE TABLE dropped (bucket {int} NOT NULL PRIMARY KEY, events {int} NOT NULL){rowless}",
    ),
    (
        # How each serving process does, as it said last; `every` is how often it says so, in seconds.
        """
        CREATE TABLE health (
            worker TEXT NOT NULL PRIMARY KEY,
            at {real} NOT NULL,
            every {real} NOT NULL,
            parts TEXT NOT NULL
        ){rowless}
        """,
    ),
    # The hours in which a serving process was heard of: what is missing among them was not recorded.
    ("CREATE TABLE heard (hour {int} NOT NULL PRIMARY KEY){rowless}",),
)
"""What leads from each schema version to the next; a released entry never changes. The length is the version."""
