package registry

import (
	"testing"
	"time"

	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// A connector of before probes is up while it is heard; one that answers them, only while something comes back.
func TestUpIsARoundTripOfTheLastTenSeconds(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	r := New(Config{Now: func() time.Time { return now }})
	links := map[bool]*fakeLink{false: {}, true: {}}
	for probed, l := range links {
		_, err := r.Join(Member{
			Tenant: "maple", Site: "main", Connector: "con_1", Generation: 1, Lane: tunnelv1.Lane_LANE_FAST, Link: l, Probed: probed,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	up := func() (probed, old bool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.find("maple", "main", links[true]).up(now), r.find("maple", "main", links[false]).up(now)
	}
	if probed, old := up(); probed || !old {
		t.Errorf("at first: %v, %v", probed, old)
	}
	r.Proved("maple", "main", links[true], 40*time.Millisecond)
	now = now.Add(FreshTrip)
	if probed, old := up(); !probed || !old {
		t.Errorf("after 10 s: %v, %v", probed, old)
	}
	now = now.Add(time.Millisecond)
	for _, l := range links {
		r.Heard("maple", "main", l, nil)
	}
	if probed, old := up(); probed || !old {
		t.Errorf("with a heartbeat alone: %v, %v", probed, old)
	}
	// What is stuck takes no exchange while another link of the lane works.
	for range 6 {
		if pick(t, r, "").Link != links[false] {
			t.Fatal("an exchange went to a link that is stuck")
		}
	}
}

// An operator must not read what a run said that has been followed by another with other rules.
func TestOriginsAreThoseOfTheNewestRunAsHeardLast(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	r := New(Config{Now: func() time.Time { return now }})
	old, first, second := join(t, r, "con_1", 7, "a"), join(t, r, "con_1", 8, "b"), join(t, r, "con_1", 8, "b")
	if got := Origins(r.Members("maple")); len(got) != 0 {
		t.Errorf("before any heartbeat: %v", got)
	}
	for _, h := range []struct {
		link  joined
		state string
	}{{first, "ok"}, {second, "timeout"}, {old, "refused"}} {
		now = now.Add(time.Second)
		r.Heard("maple", "main", h.link.fakeLink, []*tunnelv1.OriginHealth{{Name: "oscar", State: h.state}})
	}
	if got := Origins(r.Members("maple")); len(got) != 1 || got[0].State != "timeout" {
		t.Errorf("%v, want what the newest run said last", got)
	}
}
