package storetest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/audit"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/policy"
)

func decision(of id.Tenant, path string) audit.Decision {
	return audit.Decision{
		Tenant: of, Request: "REQUEST", Time: moment, App: "app_1", Site: "main", Principal: policy.Principal{
			Kind: policy.UserPrincipal, ID: "usr_1", Issuer: "sallyport", Subject: "usr_1",
		}, Session: "ses_1", Token: "tok_1",
		Methods: []string{"otp"}, ClientIP: "2001:db8::7", Method: "GET", Host: "oscar.maple.example", Path: path,
		Effect: policy.Allow, Reason: "rule", Rule: "r1",
	}
}

func testRecords(t *testing.T, s Stores) {
	ctx := t.Context()
	// Two tenants mixed in one batch; nothing that a record speaks of need exist.
	batch := []audit.Decision{decision(maple, "/a"), decision(birch, "/b"), decision(maple, "/c?"), decision(maple, "")}
	batch[2].Effect, batch[3].Effect = policy.Deny, policy.Challenge
	got, err := s.Audit.Append(ctx, batch, nil)
	must(t, err)
	same(t, "sequences", []int64{1, 1, 2, 3}, got)
	outcome := audit.Outcome{
		Tenant: maple, Sequence: 2, Time: moment, Status: 200, BytesIn: 1, BytesOut: 1 << 40,
		Duration: 1500 * time.Microsecond, Error: "E-ORIGIN-ABORT",
	}
	other := outcome
	other.Status = 500
	got, err = s.Audit.Append(ctx, []audit.Decision{decision(maple, "/d")}, []audit.Outcome{outcome, other})
	must(t, err)
	same(t, "next sequence", []int64{4}, got)
	_, err = s.Audit.Append(ctx, nil, []audit.Outcome{other, {Tenant: maple, Sequence: 99}})
	must(t, err)

	for i, sequence := range []int64{1, 1, 2, 3} {
		batch[i].Sequence = sequence
	}
	read, err := s.Audit.Decisions(ctx, maple, 1, 2)
	must(t, err)
	same(t, "decisions 2 and 3", []audit.Decision{batch[2], batch[3]}, read)
	read, err = s.Audit.Decisions(ctx, birch, 0, 10)
	must(t, err)
	same(t, "birch's", []audit.Decision{batch[1]}, read)
	outcomes, err := s.Audit.Outcomes(ctx, maple, 0, 1)
	must(t, err)
	same(t, "the first outcome of two stays", []audit.Outcome{outcome}, outcomes)
	outcomes, err = s.Audit.Outcomes(ctx, birch, 0, 10)
	must(t, err)
	same(t, "birch's outcomes", []audit.Outcome{}, outcomes)
}

// A commit of a busy moment: each record of it is as it was given, and in its place.
func testRecordsMany(t *testing.T, s Stores) {
	ctx := t.Context()
	var batch []audit.Decision
	var outcomes []audit.Outcome
	for i := range 45 {
		of, sequence := maple, int64(i-i/3+1)
		if i%3 == 2 {
			of, sequence = birch, int64(i/3+1)
		}
		one := decision(of, name("/a", i))
		one.Request, one.Rule = id.Request(name("req_", i)), name("r", i)
		batch = append(batch, one)
		outcomes = append(outcomes, audit.Outcome{Tenant: of, Sequence: sequence, Time: moment, Status: 200 + i, Error: name("E-", i)})
	}
	twice := outcomes[3]
	twice.Status = 500
	got, err := s.Audit.Append(ctx, batch, append(slices.Clone(outcomes), twice))
	must(t, err)
	for of, want := range map[id.Tenant]int{maple: 30, birch: 15} {
		var decisions []audit.Decision
		var followed []audit.Outcome
		for i, d := range batch {
			if d.Sequence = got[i]; d.Tenant == of {
				decisions, followed = append(decisions, d), append(followed, outcomes[i])
			}
		}
		same(t, "how many", want, len(decisions))
		read, err := s.Audit.Decisions(ctx, of, 0, 100)
		must(t, err)
		same(t, "decisions", decisions, read)
		after, err := s.Audit.Outcomes(ctx, of, 0, 100)
		must(t, err)
		same(t, "outcomes", followed, after)
	}
}

// What a browser says of itself may be any bytes; nothing in one record keeps a batch from being written.
func testRecordsOddBytes(t *testing.T, s Stores) {
	odd := decision(maple, "/a\x00\xff")
	odd.Host, odd.Method, odd.Principal.Subject = "h\x00st", "G\xffT", "\xc3\x28"
	got, err := s.Audit.Append(t.Context(), []audit.Decision{decision(maple, "/"), odd}, []audit.Outcome{{Tenant: maple, Sequence: 1, Error: "\x00"}})
	must(t, err)
	same(t, "sequences", []int64{1, 2}, got)
	same(t, "paths", []string{"/", "/a\x00\xff"}, gapless(t, s, maple))
}

// A batch that comes again, or many times at once, is there once, and each caller is told the same numbers.
func testRecordsOnce(t *testing.T, s Stores) {
	batch := []audit.Decision{decision(maple, "/a"), decision(birch, "/b"), decision(maple, "/c")}
	outcomes := []audit.Outcome{{Tenant: maple, Sequence: 1, Time: moment, Status: 200}}
	race(t, func(int) error {
		got, err := s.Merger.AppendOnce(t.Context(), "edge-1/7", batch, outcomes)
		if err == nil && !slices.Equal(got, []int64{1, 1, 2}) {
			t.Errorf("numbers %v", got)
		}
		return err
	})
	got, err := s.Merger.AppendOnce(t.Context(), "edge-1/8", batch[:1], nil)
	must(t, err)
	same(t, "another batch", []int64{3}, got)
	same(t, "on record", []string{"/a", "/c", "/a"}, gapless(t, s, maple))
	_, err = s.Merger.AppendOnce(t.Context(), "", batch, nil)
	wantCode(t, "a batch without a name", err, fault.Invalid)
	never := decision(maple, "/never")
	never.Request = "req_never"
	for range 2 {
		numbers, err := s.Merger.Took(t.Context(), "no-such-commit", []audit.Decision{never})
		must(t, err)
		same(t, "numbers by a commit that never was", []int64(nil), numbers)
	}
}

// gapless reads every decision of a tenant and checks the numbers; it returns the paths in order.
func gapless(t *testing.T, s Stores, of id.Tenant) (paths []string) {
	t.Helper()
	for {
		read, err := s.Audit.Decisions(context.WithoutCancel(t.Context()), of, int64(len(paths)), 100)
		must(t, err)
		if len(read) == 0 {
			return paths
		}
		for _, d := range read {
			if d.Sequence != int64(len(paths)+1) {
				t.Fatalf("%s: sequence %d where %d belongs", of, d.Sequence, len(paths)+1)
			}
			paths = append(paths, d.Path)
		}
	}
}

func testRecordsRace(t *testing.T, s Stores) {
	var mu sync.Mutex
	given := make(map[string]int64)
	race(t, func(i int) error {
		for range 4 {
			mine := decision(maple, name("/racer", i))
			got, err := s.Audit.Append(t.Context(), []audit.Decision{mine, decision(birch, "/"), mine}, nil)
			if err != nil {
				return err
			}
			mu.Lock()
			given[mine.Path] = got[2]
			mu.Unlock()
		}
		return nil
	})
	paths := gapless(t, s, maple)
	if len(paths) != racers*8 || len(gapless(t, s, birch)) != racers*4 {
		t.Errorf("%d decisions on record, want %d", len(paths), racers*8)
	}
	for path, sequence := range given {
		if paths[sequence-1] != path {
			t.Errorf("sequence %d was given to %s and belongs to %s", sequence, path, paths[sequence-1])
		}
	}
}

// A call that fails uses no number, and one whose caller has gone is whole or not at all.
func testRecordsFailure(t *testing.T, s Stores) {
	var mu sync.Mutex
	var acknowledged []string
	race(t, func(i int) error {
		ctx, cancel := context.WithCancel(t.Context())
		stop := time.AfterFunc(time.Duration(i*100)*time.Microsecond, cancel)
		defer stop.Stop()
		defer cancel()
		for n := range 8 {
			path := name(name("/racer", i), n)
			if _, err := s.Audit.Append(ctx, []audit.Decision{decision(maple, path), decision(maple, path)}, nil); err != nil {
				if !errors.Is(err, context.Canceled) {
					return err
				}
				continue
			}
			mu.Lock()
			acknowledged = append(acknowledged, path)
			mu.Unlock()
		}
		return nil
	})
	paths := gapless(t, s, maple)
	for _, path := range acknowledged {
		if !slices.Contains(paths, path) {
			t.Errorf("%s was acknowledged and is not there", path)
		}
	}
	for i := 0; i < len(paths); i += 2 {
		if paths[i] != paths[i+1] {
			t.Fatalf("half a batch at %d: %s", i, strings.Join(paths[i:i+2], ", "))
		}
	}
}
