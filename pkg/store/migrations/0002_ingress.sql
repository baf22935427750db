-- +goose Up

-- Ingress rules kept for a site. The newest version always stays, so that numbers only grow.
CREATE TABLE ingress (
    tenant  TEXT NOT NULL,
    site    TEXT NOT NULL,
    version BIGINT NOT NULL,
    yaml    BLOB NOT NULL, -- empty: none are kept any more
    created BIGINT NOT NULL,
    author  TEXT NOT NULL,
    PRIMARY KEY (tenant, site, version),
    FOREIGN KEY (tenant, site) REFERENCES sites (tenant, id)
);
