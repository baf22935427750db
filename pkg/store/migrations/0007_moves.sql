-- +goose Up
-- sallyport: the version before can go on beside this

-- One row. The oldest schema that a program may know and still work with this one. A step that takes something away raises it
-- to its own number; steps that only add leave it, so that the program before them may start beside them too.
CREATE TABLE schema_floor (
    id      BIGINT PRIMARY KEY,
    version BIGINT NOT NULL
);
INSERT INTO schema_floor (id, version) VALUES (1, 0);

-- One row while and after this store was filled from another one (edge store move).
CREATE TABLE moves (
    id       BIGINT PRIMARY KEY,
    source   TEXT NOT NULL, -- what tells the other store from any other
    finished BIGINT NOT NULL
);
