package storetest

import (
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/identity/emailotp"
)

func code(of id.Tenant) emailotp.Code {
	return emailotp.Code{
		Tenant: of, ID: "browser", Account: []byte("account"), User: "usr_1", MAC: []byte("mac"),
		Expires: moment.Add(emailotp.Life), Return: []byte("target"),
	}
}

func testCodes(t *testing.T, s Stores) {
	ctx := t.Context()
	seedTenant(t, s, maple)
	one := code(maple)
	must(t, s.Codes.PutCode(ctx, one))
	for i := range emailotp.MaxTries {
		got, err := s.Codes.TryCode(ctx, maple, one.ID, one.Expires.Add(-time.Millisecond))
		must(t, err)
		one.Tries = i + 1
		same(t, "tried", one, got)
	}
	_, err := s.Codes.TryCode(ctx, maple, one.ID, moment)
	wantCode(t, "one try too many", err, fault.Denied)
	// A new code for the same browser starts anew; one for nobody looks the same.
	fresh := emailotp.Code{Tenant: maple, ID: one.ID, Expires: moment.Add(time.Minute)}
	must(t, s.Codes.PutCode(ctx, fresh))
	got, err := s.Codes.TryCode(ctx, maple, one.ID, moment)
	must(t, err)
	fresh.Tries = 1
	same(t, "replaced", fresh, got)
	_, err = s.Codes.TryCode(ctx, maple, one.ID, fresh.Expires)
	wantCode(t, "an expired code", err, fault.Denied)
	_, err = s.Codes.TryCode(ctx, maple, "another browser", moment)
	wantCode(t, "another browser", err, fault.Denied)
	for i, want := range []bool{true, false} {
		if ok, err := s.Codes.SpendCode(ctx, maple, one.ID); err != nil || ok != want {
			t.Errorf("spending %d: %v, %v", i+1, ok, err)
		}
	}
	_, err = s.Codes.TryCode(ctx, maple, one.ID, moment)
	wantCode(t, "a spent code", err, fault.Denied)
}

func testCodeRace(t *testing.T, s Stores) {
	seedTenant(t, s, maple)
	must(t, s.Codes.PutCode(t.Context(), code(maple)))
	tried := race(t, func(int) error {
		_, err := s.Codes.TryCode(t.Context(), maple, "browser", moment)
		return err
	}, fault.Denied)
	if tried != emailotp.MaxTries {
		t.Errorf("%d tries at once went through, want %d", tried, emailotp.MaxTries)
	}
	spent := race(t, func(int) error { return yes(s.Codes.SpendCode(t.Context(), maple, "browser")) }, fault.Denied)
	if spent != 1 {
		t.Errorf("%d of %d spent one code", spent, racers)
	}
}

func testBuckets(t *testing.T, s Stores) {
	seedTenant(t, s, maple)
	take := func(bucket string, burst int, at time.Duration, want bool) {
		t.Helper()
		ok, err := s.Codes.Take(t.Context(), maple, bucket, burst, time.Minute, moment.Add(at))
		must(t, err)
		if ok != want {
			t.Errorf("%s at %v: %v", bucket, at, ok)
		}
	}
	for range 3 {
		take("account", 3, 0, true)
	}
	take("account", 3, 0, false)
	take("other", 3, 0, true)
	take("account", 3, time.Minute-time.Millisecond, false)
	take("account", 3, time.Minute, true)
	take("account", 3, time.Minute, false)
	// Long rest fills it, and no further than full.
	for range 3 {
		take("account", 3, time.Hour, true)
	}
	take("account", 3, time.Hour, false)
	take("none", 0, 0, false)
	// A clock that was set back costs minutes, not the hours until the old time comes again.
	take("account", 3, -time.Hour, true)
	take("account", 3, -time.Hour, false)
	take("account", 3, -time.Hour+time.Minute, true)
}

func testBucketRace(t *testing.T, s Stores) {
	seedTenant(t, s, maple)
	took := race(t, func(int) error {
		return yes(s.Codes.Take(t.Context(), maple, "account", 5, time.Minute, moment))
	}, fault.Denied)
	if took != 5 {
		t.Errorf("%d tokens out of a bucket of 5", took)
	}
}

func testKnown(t *testing.T, s Stores) {
	ctx := t.Context()
	seedTenant(t, s, maple)
	known := func(browser, account string, want bool) {
		t.Helper()
		ok, err := s.Codes.Known(ctx, maple, browser, []byte(account))
		must(t, err)
		if ok != want {
			t.Errorf("%s, %s: %v", browser, account, ok)
		}
	}
	known("b1", "lee", false)
	must(t, s.Codes.Remember(ctx, maple, "b1", []byte("lee"), moment))
	must(t, s.Codes.Remember(ctx, maple, "b1", []byte("lee"), moment.Add(time.Hour)))
	known("b1", "lee", true)
	known("b1", "kim", false)
	known("b2", "lee", false)
}

func testPurge(t *testing.T, s Stores) {
	ctx := t.Context()
	c := seed(t, s, maple)
	must(t, s.Codes.PutCode(ctx, code(maple)))
	must(t, s.Codes.Remember(ctx, maple, "b1", []byte("lee"), moment))
	if ok, err := s.Codes.Take(ctx, maple, "bucket", 1, time.Minute, moment); err != nil || !ok {
		t.Fatal(ok, err)
	}
	must(t, s.Codes.Purge(ctx, moment.Add(emailotp.Life-time.Millisecond)))
	if _, err := s.Codes.TryCode(ctx, maple, "browser", moment); err != nil {
		t.Error("a code that may still be used was purged:", err)
	}
	must(t, s.Codes.Purge(ctx, moment.Add(emailotp.Life)))
	_, err := s.Codes.TryCode(ctx, maple, "browser", moment)
	wantCode(t, "purged code", err, fault.Denied)
	if ok, err := s.Codes.Known(ctx, maple, "b1", []byte("lee")); err != nil || !ok {
		t.Error("a browser seen minutes ago was forgotten", err)
	}
	if _, err := s.Sessions.Session(ctx, maple, c.Session.ID); err != nil {
		t.Error("a live session was purged:", err)
	}
	must(t, s.Codes.Purge(ctx, moment.AddDate(2, 0, 0)))
	_, err = s.Sessions.Session(ctx, maple, c.Session.ID)
	wantCode(t, "session two years later", err, fault.NotFound)
	if ok, err := s.Codes.Known(ctx, maple, "b1", []byte("lee")); err != nil || ok {
		t.Error("a browser not seen for two years is known", err)
	}
	if _, err := s.Identity.User(ctx, maple, c.User.ID); err != nil {
		t.Error("a user was purged:", err)
	}
}
