package log_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/log"
)

func TestLinesCarryTheSharedKeys(t *testing.T) {
	var out bytes.Buffer
	logger, err := log.New(&out, "json", "info")
	if err != nil {
		t.Fatal(err)
	}
	logger.Debug("not at this level")
	logger.Info("exchange ended", log.RequestID("R"), log.Tenant("maple"), log.Site("main"), log.App("app_1"))
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("%v in %s", err, out.String())
	}
	for key, want := range map[string]string{"request_id": "R", "tenant": "maple", "site": "main", "app": "app_1", "level": "info"} {
		if line[key] != want {
			t.Errorf("%s = %v, want %s", key, line[key], want)
		}
	}
}

func TestUnknownFormatAndLevelAreRefused(t *testing.T) {
	for _, c := range [][2]string{{"xml", "info"}, {"json", "loud"}} {
		if _, err := log.New(&bytes.Buffer{}, c[0], c[1]); err == nil {
			t.Errorf("%v accepted", c)
		}
	}
}
