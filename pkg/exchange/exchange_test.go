package exchange_test

import (
	"fmt"
	"testing"

	"go.uber.org/goleak"

	"github.com/sallyport-dev/sallyport/pkg/exchange/exchangetest"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func memory(*testing.T) (edge, connector tunnel.Link) { return exchangetest.Memory() }

func TestExchangesOverMemory(t *testing.T) { exchangetest.Suite(t, memory) }

func TestMovedOverMemory(t *testing.T) {
	for _, stripes := range []int{1, 3} {
		for _, threshold := range []int64{exchangetest.AtOnce, exchangetest.InTheMiddle} {
			t.Run(fmt.Sprintf("%d stripes from %d", stripes, threshold), func(t *testing.T) {
				exchangetest.MovedSuite(t, memory, memory, stripes, threshold)
			})
		}
	}
}
