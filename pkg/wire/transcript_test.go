package wire_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-dev/sallyport/pkg/wire"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// Recorded conversations keep this code honest towards peers of earlier releases. testdata/transcripts/RELEASE/ has,
// for each direction of each stream, the bytes (.bin) and what they meant to the code that recorded them (.txt). A
// recorded set is never changed: a new release records a new one,
//
//	go test ./pkg/wire -run TestTranscripts -record 0.2
//
// and all sets, old and new, must go on being read as they were meant.
var record = flag.String("record", "", "record a new set of transcripts under this release's name")

const transcripts = "testdata/transcripts"

func TestTranscripts(t *testing.T) {
	if *record != "" {
		recordTranscripts(t, filepath.Join(transcripts, *record))
	}
	files, err := filepath.Glob(filepath.Join(transcripts, "*", "*.bin"))
	must(t, err)
	if len(files) < len(conversations(t)) {
		t.Fatalf("only %d recorded files", len(files))
	}
	for _, file := range files {
		t.Run(strings.TrimPrefix(file, transcripts+"/"), func(t *testing.T) {
			recorded, err := os.ReadFile(file)
			must(t, err)
			want, err := os.ReadFile(strings.TrimSuffix(file, ".bin") + ".txt")
			must(t, err)
			meaning, rewritten := replay(t, file, recorded)
			if diff := cmp.Diff(string(want), meaning); diff != "" {
				t.Errorf("it is read in another way now:\n%s", diff)
			}
			again, _ := replay(t, file, rewritten)
			if diff := cmp.Diff(meaning, again); diff != "" {
				t.Errorf("what is written now means something else:\n%s", diff)
			}
		})
	}
}

func recordTranscripts(t *testing.T, dir string) {
	if _, err := os.Stat(dir); err == nil {
		t.Fatalf("%s exists: a recorded set is not changed", dir)
	}
	must(t, os.MkdirAll(dir, 0o755))
	for name, b := range conversations(t) {
		path := filepath.Join(dir, name+".bin")
		meaning, _ := replay(t, path, b)
		must(t, os.WriteFile(path, b, 0o644), os.WriteFile(filepath.Join(dir, name+".txt"), []byte(meaning), 0o644))
	}
}

// replay reads one direction of a stream and returns its meaning, a line for each message, and what this code writes
// for it. Who opened the stream, and what it carries, is in the file's name: NAME.SENDER.CONTENT.bin.
func replay(t *testing.T, file string, b []byte) (meaning string, rewritten []byte) {
	t.Helper()
	parts := strings.Split(filepath.Base(file), ".")
	sender, content := parts[len(parts)-3], parts[len(parts)-2]
	var lines strings.Builder
	var out bytes.Buffer
	r := bytes.NewReader(b)
	opener := map[string]string{"control": "connector", "exchange": "edge", "peer": "edge"}[content]
	if sender == opener || strings.HasPrefix(content, "continuation") {
		kind, err := wire.ReadKind(r)
		must(t, err, wire.WriteKind(&out, kind))
		line(t, &lines, "kind", kind)
	}
	switch content {
	case "control":
		replayControl(t, r, &lines, &out, wire.ReadControl, wire.WriteControl)
	case "peer":
		replayControl(t, r, &lines, &out, wire.ReadPeer, wire.WritePeer)
	default:
		replayFrames(t, r, &lines, &out)
	}
	return lines.String(), out.Bytes()
}

func replayControl[M proto.Message](t *testing.T, r io.Reader, lines *strings.Builder, out io.Writer, read func(*bufio.Reader, int) (M, error), write func(io.Writer, M) error) {
	t.Helper()
	for buffered := bufio.NewReader(r); ; {
		m, err := read(buffered, wire.MaxControl)
		if errors.Is(err, io.EOF) {
			return
		}
		must(t, err, write(out, m))
		text, err := protojson.Marshal(m)
		must(t, err)
		line(t, lines, "control", json.RawMessage(text))
	}
}

func replayFrames(t *testing.T, source io.Reader, lines *strings.Builder, out io.Writer) {
	t.Helper()
	r, w := wire.NewReader(source), wire.NewWriter(out)
	for {
		frame, err := r.Next()
		if errors.Is(err, io.EOF) {
			must(t, w.Flush())
			return
		}
		must(t, err)
		var m any
		switch frame {
		case wire.FrameRequestHead:
			m, err = rewrite(r.RequestHead, w.RequestHead)
		case wire.FrameResponseHead:
			m, err = rewrite(r.ResponseHead, w.ResponseHead)
		case wire.FrameInterim:
			m, err = rewrite(r.Interim, w.Interim)
		case wire.FrameEnd:
			m, err = rewrite(r.End, w.End)
		case wire.FrameMoved:
			m, err = rewrite(r.Moved, w.Moved)
		case wire.FrameContinuation:
			m, err = rewrite(r.Continuation, w.Continuation)
		case wire.FrameSegment:
			var data []byte
			at := r.Offset()
			data, err = io.ReadAll(r)
			must(t, err)
			err = w.Segment(at, data)
			m = map[string]any{"Offset": at, "Data": string(data)}
		case wire.FrameData:
			var data []byte
			data, err = io.ReadAll(r)
			must(t, err)
			_, err = w.Write(data)
			m = string(data)
		}
		must(t, err)
		line(t, lines, frame.String(), m)
	}
}

func rewrite[M any](read func() (M, error), write func(*M) error) (M, error) {
	m, err := read()
	if err != nil {
		return m, err
	}
	return m, write(&m)
}

// line writes a message without its zero values: fields that later versions add do not change what older bytes meant.
func line(t *testing.T, lines *strings.Builder, what string, m any) {
	t.Helper()
	text, err := json.Marshal(m)
	must(t, err)
	var v any
	must(t, json.Unmarshal(text, &v))
	text, err = json.Marshal(prune(v))
	must(t, err)
	lines.WriteString(what + " " + string(text) + "\n")
}

func prune(v any) any {
	switch v := v.(type) {
	case map[string]any:
		maps.DeleteFunc(v, func(_ string, x any) bool { return x == nil || reflect.ValueOf(x).IsZero() })
		for k := range v {
			v[k] = prune(v[k])
		}
	case []any:
		for i := range v {
			v[i] = prune(v[i])
		}
	}
	return v
}

// conversations returns the bytes of each direction of each stream that is recorded.
func conversations(t *testing.T) map[string][]byte {
	all := map[string][]byte{}
	control := func(name, sender string, messages ...*tunnelv1.Control) {
		var b bytes.Buffer
		if sender == "connector" {
			must(t, wire.WriteKind(&b, wire.StreamControl))
		}
		for _, m := range messages {
			must(t, wire.WriteControl(&b, m))
		}
		all[name+"."+sender+".control"] = b.Bytes()
	}
	frames := func(name, sender string, write ...func(*wire.Writer) error) {
		var b bytes.Buffer
		w := wire.NewWriter(&b)
		if sender == "edge" {
			w.Kind(wire.StreamExchange)
		}
		for _, f := range append(write, (*wire.Writer).Flush) {
			must(t, f(w))
		}
		all[name+"."+sender+".exchange"] = b.Bytes()
	}
	recordLink(control)
	recordPeers(func(name, sender string, messages ...*tunnelv1.PeerControl) {
		var b bytes.Buffer
		if sender == "edge" {
			must(t, wire.WriteKind(&b, wire.StreamControl))
		}
		for _, m := range messages {
			must(t, wire.WritePeer(&b, m))
		}
		all[name+"."+sender+".peer"] = b.Bytes()
	})
	recordExchanges(frames)
	recordMoved(func(name, sender string, stripe int, write ...step) {
		var b bytes.Buffer
		w := wire.NewWriter(&b)
		w.Kind(wire.StreamContinuation)
		for _, f := range append(write, (*wire.Writer).Flush) {
			must(t, f(w))
		}
		all[fmt.Sprintf("%s.%s.continuation%d", name, sender, stripe)] = b.Bytes()
	}, frames)
	return all
}
