-- +goose Up
-- sallyport: the version before can go on beside this

-- What was committed of late on PostgreSQL: each transaction leaves its key. Whoever lost the connection during a commit looks
-- here for what became of it.
CREATE TABLE commits (
    id TEXT PRIMARY KEY,
    at BIGINT NOT NULL
);
CREATE INDEX commits_by_time ON commits (at);
