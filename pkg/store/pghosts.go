package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// pgHosts are the hosts of a database's URL. Each connection goes to the first that takes writes, beginning with the one that did last: a
// former primary that is off without a word costs its time-out once, and not for each connection.
type pgHosts struct {
	each  []*pgx.ConnConfig // one host each, in the order of the URL
	first *atomic.Int64     // where to begin
}

// hostsOf takes a configuration apart.
func hostsOf(config *pgx.ConnConfig) pgHosts {
	h := pgHosts{first: &atomic.Int64{}}
	one := config.Copy()
	one.Fallbacks = nil
	h.each = append(h.each, one)
	for _, f := range config.Fallbacks {
		// With sslmode=prefer and the like a host comes more than once.
		if f.Host != one.Host || f.Port != one.Port {
			one = config.Copy()
			one.Host, one.Port, one.TLSConfig, one.Fallbacks = f.Host, f.Port, f.TLSConfig, nil
			h.each = append(h.each, one)
			continue
		}
		one.Fallbacks = append(one.Fallbacks, f)
	}
	return h
}

// with are the same hosts with other settings; what is found out of one counts for both.
func (h pgHosts) with(change func(c *pgx.ConnConfig)) pgHosts {
	changed := pgHosts{first: h.first}
	for _, c := range h.each {
		c = c.Copy()
		change(c)
		changed.each = append(changed.each, c)
	}
	return changed
}

// connect opens a connection outside of the pools.
func (h pgHosts) connect(ctx context.Context) (*pgx.Conn, error) {
	return firstHost(ctx, h, func(i int) (*pgx.Conn, error) { return pgx.ConnectConfig(ctx, h.each[i]) })
}

// watchEvery is how often the other hosts are looked at.
const watchEvery = 5 * time.Second

// watch notices within seconds that another host has been promoted while the former primary still takes writes: who connects asks for the
// history (lineage.validator), and the later one counts from there on.
func (h pgHosts) watch(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for len(h.each) > 1 {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for i, c := range h.each {
			if int64(i) == h.first.Load() {
				continue
			}
			// That it is no primary, or not there, is what it should be.
			if conn, err := pgx.ConnectConfig(ctx, c); err == nil {
				closeConn(conn)
			}
		}
	}
}

// firstHost goes through the hosts until one will do. Where ctx ends on the way, the next caller begins with the next host.
func firstHost[T any](ctx context.Context, h pgHosts, open func(i int) (T, error)) (none T, err error) {
	begin := h.first.Load()
	var faults []error
	for n := range h.each {
		i := (int(begin) + n) % len(h.each)
		opened, err := open(i)
		if err == nil {
			h.first.Store(int64(i))
			return opened, nil
		}
		faults = append(faults, err)
		if ctx.Err() != nil {
			h.first.CompareAndSwap(begin, int64(i+1)%int64(len(h.each)))
			break
		}
	}
	if len(faults) == 1 {
		return none, faults[0]
	}
	return none, errors.Join(faults...)
}

// hostConnector makes connections for database/sql.
type hostConnector struct {
	hosts pgHosts
	each  []driver.Connector
}

func newHostConnector(hosts pgHosts) hostConnector {
	c := hostConnector{hosts: hosts}
	for _, one := range hosts.each {
		c.each = append(c.each, stdlib.GetConnector(*one))
	}
	return c
}

// Connect implements driver.Connector.
func (c hostConnector) Connect(ctx context.Context) (driver.Conn, error) {
	return firstHost(ctx, c.hosts, func(i int) (driver.Conn, error) { return c.each[i].Connect(ctx) })
}

// Driver implements driver.Connector.
func (c hostConnector) Driver() driver.Driver { return c.each[0].Driver() }
