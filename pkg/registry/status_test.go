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
