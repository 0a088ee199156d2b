package e2e

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// h2 sends exactly these header fields (name, value, name, value, …) as an
// HTTP/2 request without a body and returns the :status,
// or "reset" or "closed" when Envoy refused it itself.
func h2(t testing.TB, port int, fields ...string) string {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr(port), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for i := 0; i < len(fields); i += 2 {
		if err := enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	fr := http2.NewFramer(c, c)
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := errors.Join(fr.WriteSettings(), fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})); err != nil {
		t.Fatal(err)
	}
	for {
		f, err := fr.ReadFrame()
		if errors.Is(err, io.EOF) {
			return "closed"
		}
		if err != nil {
			t.Fatalf("h2 %q: %v", fields, err)
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			return f.PseudoValue("status")
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return "reset"
		}
	}
}

// What only HTTP/2 can carry: raw bytes in the path, cookie crumbs, a real gRPC client.
func TestHTTP2(t *testing.T) {
	t.Parallel()
	s := newStack(t, fixture{listeners: []listener{{rawHeaders: true}, {}}})
	cookie := s.session(t, appHost, "alice")
	for _, l := range s.listeners {
		t.Run(l.String(), func(t *testing.T) {
			request := func(path string, more ...string) string {
				t.Helper()
				return h2(t, l.port, append([]string{":method", "GET", ":scheme", "https", ":authority", appHost, ":path", path}, more...)...)
			}
			if got := request("/h2", "cookie", "a=1", "cookie", cookie, "cookie", "b=2"); got != "200" {
				t.Errorf("cookie crumbs: %s, want 200", got)
			}
			all := s.app.requests()
			if got := all[len(all)-1].values("cookie"); len(got) != 1 || got[0] != "a=1; b=2" {
				t.Errorf("the application received cookie %q, want the two others", got)
			}
			bad := []string{"/refused\xc3\xa4", "/refused%00", "/refused\\..\\x%00"}
			if l.rawHeaders { // without, Envoy shows "!" for a byte that is not UTF-8
				bad = append(bad, "/refused\xff")
			}
			for _, path := range bad {
				if got := request(path, "cookie", cookie); got != "400" && got != "reset" {
					t.Errorf("path %q: %s, want 400", path, got)
				}
			}
			if got := request("/refused", "x-odd", "\xff\xfe"); got != "401" {
				t.Errorf("header that is not UTF-8: %s, want 401", got)
			}
			for _, host := range []string{"\uff41pp.localhost", "app\u3002localhost", "app.localhost\xff", "a,b"} { // H6
				if got := h2(t, l.port, ":method", "GET", ":scheme", "https", ":authority", host, ":path", "/refused"); got != "400" && got != "reset" && got != "closed" {
					t.Errorf("host %q: %s, want 400", host, got)
				}
			}
			grpcCaller(t, l.port)
			neverArrived(t, s.app, "/refused")
		})
	}
}

func grpcCaller(t *testing.T, port int) {
	conn, err := grpc.NewClient("passthrough:///"+addr(port), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority(appHost))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var header, trailer metadata.MD
	err = conn.Invoke(ctx, "/refused.Service/Method", &emptypb.Empty{}, &emptypb.Empty{}, grpc.Header(&header), grpc.Trailer(&trailer))
	if status.Code(err) != codes.Unauthenticated {
		t.Errorf("gRPC caller: %v, want UNAUTHENTICATED", err)
	}
	for _, md := range []metadata.MD{header, trailer} {
		if md.Get("location") != nil || md.Get("set-cookie") != nil {
			t.Errorf("gRPC caller: metadata %v has a location or a cookie", md)
		}
	}
}
