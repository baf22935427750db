package wire

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// Limits of a control message, in bytes with its length prefix's value.
const (
	// MaxControl is what an admitted link may send in one message.
	MaxControl = 256 << 10
	// MaxControlHeld is what one may send before it is admitted, in all; the link itself holds it to that.
	MaxControlHeld = 16 << 10
)

// ReadControl reads one control message of at most limit bytes. It returns io.EOF between two messages only. A
// message of a kind that this version does not know comes back with a nil Message: the caller passes over it.
func ReadControl(r *bufio.Reader, limit int) (*tunnelv1.Control, error) {
	m := &tunnelv1.Control{}
	if err := readMessage(r, limit, m); err != nil {
		return nil, err
	}
	return m, nil
}

// ReadPeer is ReadControl for the control stream between two edges.
func ReadPeer(r *bufio.Reader, limit int) (*tunnelv1.PeerControl, error) {
	m := &tunnelv1.PeerControl{}
	if err := readMessage(r, limit, m); err != nil {
		return nil, err
	}
	return m, nil
}

func readMessage(r *bufio.Reader, limit int, m proto.Message) error {
	err := protodelim.UnmarshalOptions{MaxSize: int64(limit)}.UnmarshalFrom(r, m)
	switch {
	case err == nil:
		return nil
	// Not errors.Is: the end of a link may have an io.EOF in its chain, and is no orderly end of the stream.
	case err == io.EOF: //nolint:errorlint // as said
		return io.EOF
	case errors.Is(err, proto.Error):
		return violationf("control: %v", err)
	}
	var size *protodelim.SizeTooLargeError
	if errors.As(err, &size) {
		return violationf("control: a message of %d bytes, the limit is %d", size.Size, limit)
	}
	return fmt.Errorf("control: %w", err)
}

// WriteControl writes one control message in one Write. It is the caller's to keep two of them from mixing.
func WriteControl(w io.Writer, m *tunnelv1.Control) error { return writeMessage(w, m) }

// WritePeer is WriteControl for the control stream between two edges.
func WritePeer(w io.Writer, m *tunnelv1.PeerControl) error { return writeMessage(w, m) }

func writeMessage(w io.Writer, m proto.Message) error {
	size := proto.Size(m)
	if size > MaxControl {
		return violationf("control: a message of %d bytes, the limit is %d", size, MaxControl)
	}
	// Not protodelim.MarshalTo: it writes length and message apart, which is two frames on a link.
	b := protowire.AppendVarint(make([]byte, 0, protowire.SizeVarint(uint64(size))+size), uint64(size))
	b, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(b, m)
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("control: %w", err)
	}
	return nil
}
