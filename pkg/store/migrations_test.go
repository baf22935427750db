package store

import (
	"fmt"
	"strings"
	"testing"
)

// Two steps with one number stop every store from opening; a gap is a step that was forgotten.
func TestMigrationsCount(t *testing.T) {
	steps, err := migrations.ReadDir("migrations")
	if err != nil {
		t.Fatal(err)
	}
	for i, step := range steps {
		if want := fmt.Sprintf("%04d_", i+1); !strings.HasPrefix(step.Name(), want) {
			t.Errorf("%s stands where %s… belongs", step.Name(), want)
		}
	}
}
