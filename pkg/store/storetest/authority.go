package storetest

import (
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/cluster"
	"github.com/sallyport-dev/sallyport/pkg/fault"
)

func testAuthority(t *testing.T, s Stores) {
	ctx := t.Context()
	_, err := s.Authority.Authority(ctx)
	wantCode(t, "none yet", err, fault.NotFound)
	a := cluster.AuthorityKey{Certificate: []byte("certificate"), Key: []byte("key"), Created: moment}
	must(t, s.Authority.CreateAuthority(ctx, a))
	wantCode(t, "a second", s.Authority.CreateAuthority(ctx, cluster.AuthorityKey{Certificate: []byte("x"), Key: []byte("y")}), fault.Exists)
	got, err := s.Reopen(t).Authority.Authority(ctx)
	must(t, err)
	same(t, "authority", a, got)
}

func testAuthorityRace(t *testing.T, s Stores) {
	won := race(t, func(i int) error {
		return s.Authority.CreateAuthority(t.Context(), cluster.AuthorityKey{Certificate: []byte(name("c", i)), Key: []byte(name("k", i)), Created: moment})
	}, fault.Exists)
	a, err := s.Authority.Authority(t.Context())
	must(t, err)
	if won != 1 || string(a.Certificate)[1:] != string(a.Key)[1:] {
		t.Errorf("%d won; %q and %q are kept", won, a.Certificate, a.Key)
	}
}
