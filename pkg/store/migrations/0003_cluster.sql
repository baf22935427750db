-- +goose Up
-- sallyport: the version before can go on beside this

-- The edges of a cluster. All of an edge's leases live as long as its row does: a heartbeat writes one row, however many
-- connectors the edge has. expires and started are by the database's clock.
CREATE TABLE edges (
    id          TEXT PRIMARY KEY,
    incarnation BIGINT NOT NULL, -- counts the processes that were this edge; only the newest may write
    version     BIGINT NOT NULL, -- of its leases: who has read this version need not read them again
    address     TEXT NOT NULL,   -- where other edges reach it
    url         TEXT NOT NULL,   -- where connectors reach it
    weight      BIGINT NOT NULL,
    software    TEXT NOT NULL,
    protocol    BIGINT NOT NULL,
    started     BIGINT NOT NULL,
    connectors  BIGINT NOT NULL,
    links       BIGINT NOT NULL,
    draining    BIGINT NOT NULL,
    lag_ms      BIGINT NOT NULL, -- how far behind the change log it was
    expires     BIGINT NOT NULL
);

-- Which edge holds links of which connector. The table of the first schema was never written. It refers to edges alone: it
-- is what edges say of themselves, and nothing in one row may keep a heartbeat from being written.
DROP TABLE leases;
CREATE TABLE leases (
    tenant     TEXT NOT NULL,
    site       TEXT NOT NULL,
    connector  TEXT NOT NULL,
    edge       TEXT NOT NULL REFERENCES edges (id) ON DELETE CASCADE,
    generation BIGINT NOT NULL,
    links      BIGINT NOT NULL,
    PRIMARY KEY (tenant, site, connector, edge)
);
CREATE INDEX leases_by_edge ON leases (edge);

-- The processes of a connector, newest generation last: a process that any edge knows has one number on all of them, and
-- one that comes back after another has taken its place shows that the key is in use twice.
CREATE TABLE runs (
    tenant     TEXT NOT NULL,
    connector  TEXT NOT NULL,
    generation BIGINT NOT NULL,
    instance   TEXT NOT NULL,
    returned   BIGINT NOT NULL, -- when it came back after another one; 0: it did not
    PRIMARY KEY (tenant, connector, generation),
    FOREIGN KEY (tenant, connector) REFERENCES connectors (tenant, id) ON DELETE CASCADE
);

-- One row: the authority that edges know each other by.
CREATE TABLE cluster_authority (
    id          BIGINT PRIMARY KEY,
    certificate BLOB NOT NULL,
    key_sealed  BLOB NOT NULL,
    created     BIGINT NOT NULL
);
