package emailotp

import (
	"context"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/id"
)

// limit is one token bucket.
type limit struct {
	name     string
	burst    int
	interval time.Duration // one token comes back per interval
}

// The throttles of asking. For one account: two at once, then one per 30 s; ten in any hour (4 + 6); in the long run one an
// hour. A stranger can empty these for an account, so a browser that signed the account in before has its own set. The
// short bucket comes first and guards the long ones: hammering empties only the short one.
func askLimits() []limit {
	return []limit{{"30s", 2, 30 * time.Second}, {"10m", 4, 10 * time.Minute}, {"1h", 20, time.Hour}}
}

// The throttle of guessing: 50 at once and 24 a day for one account, whatever codes were asked for meanwhile (NIST SP
// 800-63B-4 §3.2.2: at most 100 in a row; a new code does not reset the count, §3.1.3.2).
func tryLimits() []limit { return []limit{{"1h", 50, time.Hour}} }

// The throttles of one source: a whole clinic may sit behind one address at eight in the morning.
func sourceAskLimits() []limit { return []limit{{"ask", 60, 10 * time.Second}} }
func sourceTryLimits() []limit { return []limit{{"try", 120, 5 * time.Second}} }

// take takes one token from each bucket and stops at the first that is empty.
func (s *Service) take(ctx context.Context, tenant id.Tenant, key string, limits []limit, now time.Time) (bool, error) {
	for _, l := range limits {
		ok, err := s.store.Take(ctx, tenant, key+"/"+l.name, l.burst, l.interval, now)
		if err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

// accountKey names the buckets of an account, apart for a browser that signed it in before.
func (s *Service) accountKey(ctx context.Context, what string, tenant id.Tenant, account []byte, known string) (string, error) {
	key := what + "/account/" + encode(account)
	if known == "" {
		return key, nil
	}
	remembered, err := s.store.Known(ctx, tenant, known, account)
	if err != nil || !remembered {
		return key, err
	}
	return key + "/known/" + known, nil
}
