package extauthz

import "context"

// Serve is a Check between bytes and bytes, without gRPC.
func Serve(s *Server, ctx context.Context, message []byte) []byte {
	c := read(message)
	return s.check(ctx, &c, nil)
}
