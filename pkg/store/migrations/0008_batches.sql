-- +goose Up
-- sallyport: the version before can go on beside this

-- Batches of records that were kept elsewhere first and came here under a name, so that one that comes twice is there once.
CREATE TABLE audit_batches (
    id        TEXT PRIMARY KEY,
    at        BIGINT NOT NULL,
    sequences TEXT NOT NULL -- of its decisions, in order, in figures with spaces between
);
CREATE INDEX audit_batches_by_time ON audit_batches (at);
