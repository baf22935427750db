package controlclient

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestClockFollowsTheEdge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Clock
		if off := c.Offset(); off != 0 {
			t.Errorf("before the edge spoke: %v", off)
		}
		edge := time.Now().Add(90 * time.Minute)
		c.set(edge.UnixMilli())
		<-time.After(time.Minute)
		if got := c.Now().Sub(edge); got != time.Minute {
			t.Errorf("after a minute the edge's clock went on by %v", got)
		}
		if off := c.Offset(); off != 90*time.Minute {
			t.Errorf("offset %v", off)
		}
	})
}

func FuzzParseEnrolled(f *testing.F) {
	f.Add([]byte(`{"connector":"con_1","tenant":"maple","site":"main","root_key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`))
	f.Add([]byte(`{"tenant":"../../etc"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := parseEnrolled(text)
		if err == nil && (e.Tenant == "" || e.Site == "" || len(e.RootKey) != 32) {
			t.Errorf("accepted %+v", e)
		}
	})
}
