//go:build !race

package wslink_test

import (
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/tunnel/linktest"
)

// The suite moves hundreds of megabytes, which takes minutes here under the race detector. Links run under it in TestLink, and what is
// inside in the tests of inner_test.go.
func TestLinkInside(t *testing.T) { linktest.Run(t, insideMemory) }
