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

// BenchmarkCheck counts everything between two byte slices: decode, decide, encode.
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
				in := new(authv3.CheckRequest)
				if err := proto.Unmarshal(data, in); err != nil {
					b.Fatal(err)
				}
				out, _ := s.Check(b.Context(), in)
				if out.GetOkResponse() == nil {
					b.Fatal("denied")
				}
				if _, err := proto.Marshal(out); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(bench.name+"/decided", func(b *testing.B) { // without the codec
			b.ReportAllocs()
			for b.Loop() {
				if out, _ := s.Check(b.Context(), bench.in); out.GetOkResponse() == nil {
					b.Fatal("denied")
				}
			}
		})
	}
}
