-- The text runs on SQLite and on PostgreSQL; the one word that differs, BLOB, is BYTEA there and replaced when it is read.
-- Times are milliseconds since 1970 UTC, 0 for "never". Every key begins with the tenant; where a column is unique without
-- it (a host, a code's hash, a connector's id), that is because the row is found before the tenant is known.

-- +goose Up

-- Proves that the store and master.key belong together.
CREATE TABLE store_check (
    id     BIGINT PRIMARY KEY,
    sealed BLOB NOT NULL
);

-- One row. Its update is what puts writers of changes in order, so that a version never becomes visible before a lower one:
-- a reader that has seen version n has missed nothing below it. (A database sequence would not promise that.)
CREATE TABLE change_head (
    id      BIGINT PRIMARY KEY,
    version BIGINT NOT NULL
);
INSERT INTO change_head (id, version) VALUES (1, 0);

CREATE TABLE changes (
    version BIGINT PRIMARY KEY,
    tenant  TEXT NOT NULL,
    kind    TEXT NOT NULL,
    ref     TEXT NOT NULL
);

CREATE TABLE tenants (
    id           TEXT PRIMARY KEY,
    name         TEXT NOT NULL,
    sign_in_host TEXT NOT NULL,
    zone         TEXT NOT NULL,
    created      BIGINT NOT NULL
);

-- A host has one tenant and one purpose ('sign-in' or 'app').
CREATE TABLE hosts (
    host    TEXT PRIMARY KEY,
    tenant  TEXT NOT NULL REFERENCES tenants (id),
    purpose TEXT NOT NULL,
    UNIQUE (tenant, host)
);

CREATE TABLE sites (
    tenant  TEXT NOT NULL REFERENCES tenants (id),
    id      TEXT NOT NULL,
    created BIGINT NOT NULL,
    PRIMARY KEY (tenant, id)
);

CREATE TABLE apps (
    tenant    TEXT NOT NULL,
    id        TEXT NOT NULL,
    host      TEXT NOT NULL,
    path      TEXT NOT NULL,
    site      TEXT NOT NULL,
    name      TEXT NOT NULL,
    landing   TEXT NOT NULL,
    websocket TEXT NOT NULL,
    rules     TEXT NOT NULL,
    created   BIGINT NOT NULL,
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, host, path),
    FOREIGN KEY (tenant, host) REFERENCES hosts (tenant, host),
    FOREIGN KEY (tenant, site) REFERENCES sites (tenant, id)
);

CREATE TABLE users (
    tenant       TEXT NOT NULL REFERENCES tenants (id),
    id           TEXT NOT NULL,
    issuer       TEXT NOT NULL,
    subject      TEXT NOT NULL,
    email_mac    BLOB NOT NULL,
    email_sealed BLOB NOT NULL,
    disabled     BIGINT NOT NULL,
    created      BIGINT NOT NULL,
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, issuer, subject)
);
CREATE UNIQUE INDEX users_by_email ON users (tenant, email_mac) WHERE issuer = 'sallyport';

CREATE TABLE sessions (
    tenant    TEXT NOT NULL,
    id        TEXT NOT NULL,
    user_id   TEXT NOT NULL,
    methods   TEXT NOT NULL,
    created   BIGINT NOT NULL,
    last_seen BIGINT NOT NULL,
    expires   BIGINT NOT NULL,
    idle_ms   BIGINT NOT NULL,
    revoked   BIGINT NOT NULL,
    client    TEXT NOT NULL,
    source    TEXT NOT NULL,
    PRIMARY KEY (tenant, id),
    FOREIGN KEY (tenant, user_id) REFERENCES users (tenant, id)
);
CREATE INDEX sessions_by_user ON sessions (tenant, user_id);

CREATE TABLE session_references (
    tenant  TEXT NOT NULL,
    hash    TEXT NOT NULL,
    session TEXT NOT NULL,
    host    TEXT NOT NULL,
    created BIGINT NOT NULL,
    PRIMARY KEY (tenant, hash),
    FOREIGN KEY (tenant, session) REFERENCES sessions (tenant, id) ON DELETE CASCADE
);
CREATE INDEX session_references_by_session ON session_references (tenant, session);

CREATE TABLE handoffs (
    tenant  TEXT NOT NULL,
    hash    TEXT NOT NULL,
    session TEXT NOT NULL,
    host    TEXT NOT NULL,
    flow    TEXT NOT NULL,
    expires BIGINT NOT NULL,
    PRIMARY KEY (tenant, hash),
    FOREIGN KEY (tenant, session) REFERENCES sessions (tenant, id) ON DELETE CASCADE
);
CREATE INDEX handoffs_by_session ON handoffs (tenant, session);

CREATE TABLE signing_keys (
    kind      TEXT NOT NULL,
    number    BIGINT NOT NULL, -- counts the keys of a kind: of two edges that add the next one, one fails
    id        TEXT NOT NULL UNIQUE,
    seed      BLOB NOT NULL,
    created   BIGINT NOT NULL,
    not_after BIGINT NOT NULL,
    retired   BIGINT NOT NULL,
    PRIMARY KEY (kind, number)
);

CREATE TABLE service_tokens (
    tenant    TEXT NOT NULL REFERENCES tenants (id),
    id        TEXT NOT NULL,
    service   TEXT NOT NULL,
    created   BIGINT NOT NULL,
    expires   BIGINT NOT NULL,
    last_used BIGINT NOT NULL,
    revoked   BIGINT NOT NULL,
    PRIMARY KEY (tenant, id)
);

CREATE TABLE connectors (
    tenant     TEXT NOT NULL,
    id         TEXT NOT NULL UNIQUE,
    site       TEXT NOT NULL,
    public_key BLOB NOT NULL,
    created    BIGINT NOT NULL,
    revoked    BIGINT NOT NULL,
    frozen     TEXT NOT NULL,
    generation BIGINT NOT NULL, -- the newest that was issued
    PRIMARY KEY (tenant, id),
    FOREIGN KEY (tenant, site) REFERENCES sites (tenant, id)
);

CREATE TABLE invites (
    tenant    TEXT NOT NULL,
    id        TEXT NOT NULL,
    site      TEXT NOT NULL,
    hash      TEXT NOT NULL UNIQUE,
    expires   BIGINT NOT NULL,
    created   BIGINT NOT NULL,
    spent     BIGINT NOT NULL,
    connector TEXT NOT NULL, -- what enrolled with it
    PRIMARY KEY (tenant, id),
    FOREIGN KEY (tenant, site) REFERENCES sites (tenant, id)
);

-- Which edge holds a connector's links, for a cluster: a lapsed lease yields only to a newer generation. One edge alone
-- keeps this in memory and leaves the table empty.
CREATE TABLE leases (
    tenant     TEXT NOT NULL,
    site       TEXT NOT NULL,
    connector  TEXT NOT NULL,
    edge       TEXT NOT NULL,
    generation BIGINT NOT NULL,
    expires    BIGINT NOT NULL,
    PRIMARY KEY (tenant, site, connector),
    FOREIGN KEY (tenant, connector) REFERENCES connectors (tenant, id) ON DELETE CASCADE
);

CREATE TABLE codes (
    tenant  TEXT NOT NULL REFERENCES tenants (id),
    id      TEXT NOT NULL,
    account BLOB NOT NULL,
    user_id TEXT NOT NULL, -- empty for an address that nobody has
    mac     BLOB NOT NULL,
    tries   BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    target  BLOB NOT NULL, -- where the browser goes afterwards
    PRIMARY KEY (tenant, id)
);
CREATE INDEX codes_by_expiry ON codes (expires);

-- A bucket is the time at which it will be full again (the generic cell rate algorithm): one number, one statement.
CREATE TABLE buckets (
    tenant  TEXT NOT NULL REFERENCES tenants (id),
    bucket  TEXT NOT NULL,
    full_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, bucket)
);
CREATE INDEX buckets_by_time ON buckets (full_at);

CREATE TABLE known_browsers (
    tenant  TEXT NOT NULL REFERENCES tenants (id),
    browser TEXT NOT NULL,
    account BLOB NOT NULL,
    seen    BIGINT NOT NULL,
    PRIMARY KEY (tenant, browser, account)
);

-- The records refer to nothing: they outlive what they speak of, and nothing in one record may keep a batch from being
-- written.
CREATE TABLE audit_heads (
    tenant   TEXT PRIMARY KEY,
    sequence BIGINT NOT NULL
);

CREATE TABLE decisions (
    tenant         TEXT NOT NULL,
    sequence       BIGINT NOT NULL,
    request        TEXT NOT NULL,
    at             BIGINT NOT NULL,
    app            TEXT NOT NULL,
    site           TEXT NOT NULL,
    principal_kind TEXT NOT NULL,
    principal      TEXT NOT NULL,
    issuer         TEXT NOT NULL,
    subject        TEXT NOT NULL,
    session        TEXT NOT NULL,
    token          TEXT NOT NULL,
    methods        TEXT NOT NULL,
    client_ip      TEXT NOT NULL,
    method         TEXT NOT NULL,
    host           TEXT NOT NULL,
    path_sealed    BLOB NOT NULL,
    effect         TEXT NOT NULL,
    reason         TEXT NOT NULL,
    rule           TEXT NOT NULL,
    PRIMARY KEY (tenant, sequence)
);

CREATE TABLE outcomes (
    tenant      TEXT NOT NULL,
    sequence    BIGINT NOT NULL,
    at          BIGINT NOT NULL,
    status      BIGINT NOT NULL,
    bytes_in    BIGINT NOT NULL,
    bytes_out   BIGINT NOT NULL,
    duration_us BIGINT NOT NULL,
    error       TEXT NOT NULL,
    PRIMARY KEY (tenant, sequence)
);
