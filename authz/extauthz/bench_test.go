package extauthz_test

import (
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-mesh/gatehouse/authz/extauthz"
)

var browser = []string{
	"user-agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
	"accept-language: en-GB,en;q=0.9,de;q=0.8", "accept-encoding: gzip, deflate, br, zstd", "sec-fetch-site: same-origin",
	"referer: https://app.test/", "x-forwarded-for: 192.0.2.7", "x-forwarded-proto: https", "cache-control: max-age=0",
}

// BenchmarkCheck counts everything between two byte slices: read, decide, write.
func BenchmarkCheck(b *testing.B) {
	for _, bench := range []struct {
		name string
		in   *authv3.CheckRequest
	}{
		{"anonymous", request("/public/a", browser...)},
		{"session", request("/a", append(browser, session)...)},
	} {
		data, err := proto.Marshal(bench.in)
		if err != nil {
			b.Fatal(err)
		}
		s := newServer(b, extauthz.Config{Current: fixed(b, nil)})
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if out := extauthz.Serve(s, b.Context(), data); len(out) == 0 {
					b.Fatal("no answer")
				}
			}
		})
		out := new(authv3.CheckResponse)
		if err := proto.Unmarshal(extauthz.Serve(s, b.Context(), data), out); err != nil || out.GetOkResponse() == nil {
			b.Fatalf("%s: %v, %v", bench.name, out, err)
		}
	}
}
