// Package audit owns the record of what was decided and what then happened, and its one writer. A decision on a protected
// app is durable before the first byte goes to the origin; its outcome follows. It decides nothing, and what it writes is
// not the operational log.
package audit

import (
	"context"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/policy"
)

// Decision is the record of one judgement.
type Decision struct {
	Tenant id.Tenant
	// Sequence is gap-free within the tenant, from 1; the recorder assigns it.
	Sequence  int64
	Request   id.Request
	Time      time.Time
	App       id.App
	Site      id.Site
	Principal policy.Principal
	Session   id.Session
	Token     id.Token
	Methods   []string
	ClientIP  string
	Method    string
	Host      string
	// Path is the canonical path; the store seals it. The query is never recorded.
	Path   string
	Effect policy.Effect
	Reason string
	Rule   string
}

// Outcome is what happened after a decision to allow.
type Outcome struct {
	Tenant   id.Tenant
	Sequence int64 // of the decision
	Time     time.Time
	// Status is what the browser was told, 0 if nothing.
	Status   int
	BytesIn  int64 // of the request body
	BytesOut int64 // of the answer's body
	Duration time.Duration
	// Error is a code of the tunnel protocol, or empty for a whole answer.
	Error string
}

// Store appends records. One call is one transaction.
type Store interface {
	// Append stores decisions and outcomes durably and returns the sequence numbers of the decisions, in order. A
	// tenant's numbers have no gap.
	Append(ctx context.Context, decisions []Decision, outcomes []Outcome) ([]int64, error)
	// Decisions reads a tenant's decisions after a sequence, oldest first.
	Decisions(ctx context.Context, tenant id.Tenant, after int64, limit int) ([]Decision, error)
	// Outcomes reads the outcomes of decisions after a sequence, oldest decision first.
	Outcomes(ctx context.Context, tenant id.Tenant, after int64, limit int) ([]Outcome, error)
}

// Merger takes records that were durable elsewhere first, while the Store was away.
type Merger interface {
	// AppendOnce is Store.Append of a batch with a name of its own. A batch whose name is known stores nothing and returns the
	// numbers that its decisions were given then: who does not know whether a batch arrived sends it again, unchanged. Names
	// are remembered for 60 days.
	AppendOnce(ctx context.Context, batch string, decisions []Decision, outcomes []Outcome) ([]int64, error)
	// Took finds out what became of an Append whose commit was not answered: the numbers of its decisions, in order, if it took place;
	// nil if it did not, and never will. It may be asked again, and after any time.
	Took(ctx context.Context, commit string, decisions []Decision) ([]int64, error)
}
