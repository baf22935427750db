package exchange_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/sallyport-dev/sallyport/pkg/exchange/exchangetest"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func memory(*testing.T) (edge, connector tunnel.Link) { return exchangetest.Memory() }

func TestExchangesOverMemory(t *testing.T) { exchangetest.Suite(t, memory) }
