package fault_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/fault"
)

func TestTheCauseIsForTheLogAndTheMessageForWhoAsked(t *testing.T) {
	err := error(fault.New(fault.Unavailable, "the store of %s does not answer", "maple").Because(io.ErrUnexpectedEOF))
	if got := fault.Public(err); got != "the store of maple does not answer" {
		t.Errorf("public: %q", got)
	}
	if !strings.Contains(err.Error(), io.ErrUnexpectedEOF.Error()) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the cause is lost: %v", err)
	}
}

func TestBecauseLeavesTheOriginalAlone(t *testing.T) {
	shared := fault.New(fault.Denied, "no")
	_ = shared.Because(io.EOF)
	if errors.Is(shared, io.EOF) {
		t.Error("an error that several callers return took on the cause of one of them")
	}
}

func TestCodesSurviveWrapping(t *testing.T) {
	for name, row := range map[string]struct {
		err    error
		code   fault.Code
		public string
	}{
		"none":          {nil, "", "something went wrong on our side"},
		"no code":       {errors.New("password is hunter2"), fault.Internal, "something went wrong on our side"},
		"internal":      {fault.New(fault.Internal, "table users"), fault.Internal, "something went wrong on our side"},
		"plain":         {fault.New(fault.NotFound, "no such app"), fault.NotFound, "no such app"},
		"wrapped":       {fmt.Errorf("reload: %w", fault.New(fault.Conflict, "spent")), fault.Conflict, "spent"},
		"joined":        {errors.Join(io.EOF, fault.New(fault.Exhausted, "later")), fault.Exhausted, "later"},
		"outermost":     {fault.New(fault.Denied, "no").Because(fault.New(fault.NotFound, "which?")), fault.Denied, "no"},
		"only a cause ": {fmt.Errorf("x: %w", io.EOF), fault.Internal, "something went wrong on our side"},
	} {
		if got := fault.CodeOf(row.err); got != row.code {
			t.Errorf("%s: code %q, want %q", name, got, row.code)
		}
		if got := fault.Public(row.err); got != row.public {
			t.Errorf("%s: public %q, want %q", name, got, row.public)
		}
		if got := fault.Is(row.err, row.code); got != (row.err != nil) {
			t.Errorf("%s: Is reports %v", name, got)
		}
	}
}
