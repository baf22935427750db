-- +goose Up
-- sallyport: the version before can go on beside this

-- The share of connectors that an edge is set to have; weight is what it gives itself for the time being, less while it has more
-- than its share.
ALTER TABLE edges ADD COLUMN share BIGINT NOT NULL DEFAULT 0;
