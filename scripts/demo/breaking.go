package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	// settle is how long the load goes on after all is as it was, so that what comes late is counted with its cause.
	settle = time.Second
	// succeedAgain is after how long, once a part has gone, no request that begins may fail, whatever part it is.
	succeedAgain = 5 * time.Second
	// clientNotices bounds how long the load's own client may use a connection to an edge that is no more, on a busy machine.
	clientNotices = time.Second
)

// breaking breaks the parts under a load.
type breaking struct {
	*rig
	load *load
	sums map[string]*result
	bad  []string
}

// result is what a turn did, or several of one kind.
type result struct {
	turns, requests, under, on, failed, later int
	longest, slowest, back                    time.Duration
}

// breakEach breaks each part in turn under the load, prints a line for each, and fails if something failed that must not.
func (r *rig) breakEach(ctx context.Context) error {
	l, err := r.newLoad()
	if err != nil {
		return err
	}
	loading, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.run(loading, r.tokens)
	}()
	halt := func() {
		stop()
		<-ended
	}
	defer halt()
	b := &breaking{rig: r, load: l, sums: map[string]*result{}}
	fmt.Printf("\n%d requests a second to %d clinics through %d edges; a client that cannot connect to an edge takes the next one.\n", len(clinics)*int(time.Second/l.every), len(clinics), edges)
	fmt.Printf("under way: all requests at the moment at which a part is killed or stands still, and of these those that the load had sent to it;\n" +
		"later: those of the failed that began after it, before it was noticed by edges or, of an edge, by the load's client; slowest: of the requests that were answered; back after: from then on, or from when the part could go on, a database from when it took connections; load: of the machine, 1 min.\n\n")
	fmt.Printf("%-18s %-26s %9s %13s %7s %6s %15s %10s %11s %6s\n", "part", "what is done", "requests", "under way", "failed", "later", "longest silence", "slowest", "back after", "load")
	for range r.rounds {
		for _, t := range r.turns(l) {
			if !begins(t.part, r.only) || !begins(t.what, r.how) {
				continue
			}
			if err := b.take(ctx, t); err != nil {
				return err
			}
		}
	}
	halt()
	b.conclude()
	if err := r.recorded(ctx, l); err != nil {
		b.fault("%v", err)
	}
	b.bad = append(b.bad, r.crashes()...)
	if len(b.bad) > 0 {
		return fmt.Errorf("%s", strings.Join(b.bad, "\n      "))
	}
	fmt.Println("\nNothing failed but what was under way on a part that was killed or stood still, or began before that was noticed;\nevery answer is on record once.")
	return nil
}

// begins reports whether a name begins with one of a list.
func begins(name, list string) bool {
	return slices.ContainsFunc(strings.Split(list, ","), func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

func (b *breaking) fault(format string, args ...any) {
	b.bad = append(b.bad, fmt.Sprintf(format, args...))
}

// take does one turn.
func (b *breaking) take(ctx context.Context, t turn) error {
	pause(ctx, settle)
	before := b.load.take()
	b.load.goes(t.front)
	if err := t.do(ctx); err != nil {
		return fmt.Errorf("%s, %s: %w", t.part, t.what, err)
	}
	gone := time.Now()
	now := result{turns: 1}
	now.under, now.on = b.load.gone()
	from := gone
	if t.mend != nil {
		if err := t.mend(ctx); err != nil {
			return fmt.Errorf("%s, %s: %w", t.part, t.what, err)
		}
		from = time.Now()
	}
	if err := wait(ctx, t.back); err != nil {
		return fmt.Errorf("%s, %s: not back: %w", t.part, t.what, err)
	}
	now.back = time.Since(from)
	pause(ctx, time.Until(gone.Add(succeedAgain)))
	if err := wait(ctx, b.isWhole); err != nil {
		return fmt.Errorf("%s, %s: not whole again: %w", t.part, t.what, err)
	}
	b.load.endedBefore(ctx, time.Now())
	pause(ctx, settle)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	b.judge(t, gone, before, b.load.take(), now)
	return nil
}

// judge prints what came of a turn, and notes what must not be.
func (b *breaking) judge(t turn, gone time.Time, before, during tally, now result) {
	where := t.part + ", " + t.what
	faults := map[string]int{}
	forbidden, atAll := 0, 0
	for _, f := range during.failures {
		after := f.began.Sub(gone)
		if after > 0 {
			now.later++
		}
		within := t.noticed
		if t.front != nil && f.front == t.front {
			within = clientNotices
		}
		if !t.mayFail || after > min(within, succeedAgain) {
			forbidden++
		}
		if after <= 0 {
			atAll++
		}
		faults[f.why]++
	}
	now.requests, now.failed, now.longest, now.slowest = during.requests, len(during.failures), during.longest, during.slowest
	under := "-"
	if t.mayFail {
		under = fmt.Sprint(now.under)
		if t.front != nil {
			under = fmt.Sprintf("%d, %d on it", now.under, now.on)
		}
	}
	fmt.Printf("%-18s %-26s %9d %13s %7d %6d %13.1f s %8.1f s %9.1f s %6s\n", t.part, t.what, now.requests, under, now.failed, now.later, now.longest.Seconds(), now.slowest.Seconds(), now.back.Seconds(), machineLoad())
	for _, why := range slices.Sorted(maps.Keys(faults)) {
		fmt.Printf("%20d × %s\n", faults[why], why)
	}
	for _, f := range before.failures {
		fmt.Printf("%20s before it: %s\n", "", f.why)
	}
	if len(before.failures) > 0 {
		b.fault("%s: %d requests failed before it, with every part at work", where, len(before.failures))
	}
	if forbidden > 0 {
		b.fault("%s: %d requests failed that must not", where, forbidden)
	}
	if t.mayFail && atAll > now.under {
		b.fault("%s: %d requests failed, and %d were under way", where, atAll, now.under)
	}
	if t.limit > 0 && now.back > t.limit {
		b.fault("%s: back after %.1f s", where, now.back.Seconds())
	}
	b.sum(t, now)
}

// sum adds a turn to those of its kind: parts differ by their number.
func (b *breaking) sum(t turn, now result) {
	kind := strings.TrimRight(t.part, "0123456789") + ", " + t.what
	if _, connector, ok := strings.Cut(kind, "-"); ok {
		kind = connector
	}
	s := b.sums[kind]
	if s == nil {
		s = &result{}
		b.sums[kind] = s
	}
	s.turns++
	s.requests, s.under, s.on, s.failed, s.later = s.requests+now.requests, s.under+now.under, s.on+now.on, s.failed+now.failed, s.later+now.later
	s.longest, s.slowest, s.back = max(s.longest, now.longest), max(s.slowest, now.slowest), max(s.back, now.back)
}

func (b *breaking) conclude() {
	fmt.Println("\nAltogether; times are the longest.")
	for _, kind := range slices.Sorted(maps.Keys(b.sums)) {
		s := b.sums[kind]
		fmt.Printf("%-40s %4d turns: %8d requests, %5d failed (%d under way, %d on it; %d began later), silence %.1f s, an answer %.1f s, back after %.1f s\n",
			kind, s.turns, s.requests, s.failed, s.under, s.on, s.later, s.longest.Seconds(), s.slowest.Seconds(), s.back.Seconds())
	}
}

// machineLoad is how many processes wanted to run in the last minute (proc_loadavg(5)).
func machineLoad() string {
	text, _ := os.ReadFile("/proc/loadavg")
	one, _, _ := strings.Cut(string(text), " ")
	return cmp.Or(one, "?")
}

var spooled = regexp.MustCompile(`(?m)^sallyport_audit_spool_records (\d+)`)

// merged says that no edge keeps records on its own disk.
func (r *rig) merged(ctx context.Context) error {
	for n := 1; n <= edges; n++ {
		text, err := fetch(ctx, r.ready(n), "metrics")
		if err != nil {
			return err
		}
		if found := spooled.FindSubmatch(text); found == nil || string(found[1]) != "0" {
			return fmt.Errorf("edge %d keeps records: %s", n, found)
		}
	}
	return nil
}

// recorded says that every request that was answered is on record, and none twice.
func (r *rig) recorded(ctx context.Context, l *load) error {
	if err := wait(ctx, r.merged); err != nil {
		return err
	}
	text, err := output(ctx, filepath.Join(r.postgres, "psql"), "-h", r.data, "-U", "sallyport", "-d", "edges", "-Atc", "SELECT request FROM decisions")
	if err != nil {
		return err
	}
	times := map[string]int{}
	for request := range strings.Lines(text) {
		times[strings.TrimSpace(request)]++
	}
	missing, twice := 0, 0
	for _, request := range l.answered {
		switch times[request] {
		case 0:
			missing++
		case 1:
		default:
			twice++
		}
	}
	fmt.Printf("%d requests were answered: of these %d are not on record, %d more than once.\n", len(l.answered), missing, twice)
	if missing+twice > 0 {
		return fmt.Errorf("the record: %d answered requests are missing, %d are there more than once", missing, twice)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
