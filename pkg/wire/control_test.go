package wire_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/iotest"

	"google.golang.org/protobuf/proto"

	"github.com/sallyport-dev/sallyport/pkg/wire"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

func hello() *tunnelv1.Control {
	return &tunnelv1.Control{Message: &tunnelv1.Control_Hello{Hello: &tunnelv1.Hello{
		Versions: []uint32{wire.Version}, Instance: "00112233445566778899aabbccddeeff", Nonce: make([]byte, 32),
		Connector: "maple/main/1", Lane: tunnelv1.Lane_LANE_FAST, Software: "0.1.0",
	}}}
}

func TestControl(t *testing.T) {
	var buf counting
	must(t, wire.WriteControl(&buf, hello()), wire.WriteControl(&buf, &tunnelv1.Control{}))
	if buf.writes != 2 {
		t.Errorf("%d writes for two messages", buf.writes)
	}
	r := bufio.NewReader(&buf)
	got, err := wire.ReadControl(r, wire.MaxControlHeld)
	must(t, err)
	if !proto.Equal(hello(), got) {
		t.Errorf("got %v", got)
	}
	if got, err := wire.ReadControl(r, wire.MaxControlHeld); err != nil || got.GetMessage() != nil {
		t.Errorf("empty: %v, %v", got, err)
	}
	if _, err := wire.ReadControl(r, wire.MaxControlHeld); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

func TestControlRefuses(t *testing.T) {
	read := func(b []byte) error {
		_, err := wire.ReadControl(bufio.NewReader(bytes.NewReader(b)), 100)
		return err
	}
	for name, b := range map[string][]byte{
		"too long": {101}, "far too long": {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}, "not one": {2, 0x0a, 0x7f},
	} {
		if err := read(b); !errors.Is(err, wire.ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := read([]byte{5, 0x0a}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut: %v", err)
	}
	long := &tunnelv1.Control{Message: &tunnelv1.Control_KeySet{KeySet: &tunnelv1.KeySet{Jwt: string(make([]byte, wire.MaxControl))}}}
	if err := wire.WriteControl(io.Discard, long); !errors.Is(err, wire.ErrProtocol) {
		t.Errorf("writer: %v", err)
	}
}

// TestLostLinkIsNoEnd: a transport may report the end of its connection with an io.EOF in the chain.
func TestLostLinkIsNoEnd(t *testing.T) {
	lost := iotest.ErrReader(fmt.Errorf("link lost: %w", io.EOF))
	_, control := wire.ReadControl(bufio.NewReader(lost), wire.MaxControl)
	_, frames := wire.NewReader(lost).Next()
	for _, err := range []error{control, frames} {
		if err == io.EOF { //nolint:errorlint // the difference is the point
			t.Error("a lost link reads like an orderly end")
		}
	}
}
