package extauthz

import (
	"context"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// checkService is the service of go-control-plane with a handler of our own,
// which takes a message that does not decode for a bad request like any other.
// The generated handler ends in an RPC error, and so would let a client that can
// break the encoding (CVE-2023-27488) through a filter with failure_mode_allow.
var checkService = grpc.ServiceDesc{
	ServiceName: authv3.Authorization_ServiceDesc.ServiceName,
	HandlerType: authv3.Authorization_ServiceDesc.HandlerType,
	Metadata:    authv3.Authorization_ServiceDesc.Metadata,
	Methods: []grpc.MethodDesc{{
		MethodName: "Check",
		Handler: func(srv any, ctx context.Context, receive func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var m message
			if err := receive(&m); err != nil {
				return nil, err // the stream is gone, or the message too large to look at
			}
			return srv.(*Server).check(ctx, m.request), nil
		},
	}},
}

// message is what arrived in a Check.
type message struct {
	request *authv3.CheckRequest // nil: it does not decode
}

// codec is the stock codec, except that a message never fails to decode. It has
// to happen here: grpc-go ends a stream by itself on the error of a codec.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(proto.Name)} }

func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*message)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	in := new(authv3.CheckRequest)
	if c.CodecV2.Unmarshal(data, in) == nil {
		m.request = in
	}
	return nil
}
