package extauthz

import (
	"context"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// checkService is the service of go-control-plane with a handler of our own, between
// bytes and bytes. It takes a message that does not decode for a bad request like any
// other: the generated handler ends in an RPC error, and so would let a client that can
// break the encoding (CVE-2023-27488) through a filter with failure_mode_allow.
var checkService = grpc.ServiceDesc{
	ServiceName: authv3.Authorization_ServiceDesc.ServiceName,
	HandlerType: authv3.Authorization_ServiceDesc.HandlerType,
	Metadata:    authv3.Authorization_ServiceDesc.Metadata,
	Methods: []grpc.MethodDesc{{
		MethodName: "Check",
		Handler: func(srv any, ctx context.Context, receive func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var in check
			if err := receive(&in); err != nil {
				return nil, err // the stream is gone, or the message too large to look at
			}
			out := answers.Get(typicalAnswer)
			*out = srv.(*Server).check(ctx, &in, (*out)[:0])
			return answer{out}, nil
		},
	}},
}

// typicalAnswer is room for an allow with its headers.
const typicalAnswer = 4 << 10

// answers are the buffers that answers are written into; gRPC gives them back when they
// are sent.
var answers = mem.DefaultBufferPool()

// answer is a CheckResponse, encoded.
type answer struct{ bytes *[]byte }

// codec is the stock codec, except for the two messages of a Check. Decoding one never
// fails here: grpc-go ends a stream by itself on the error of a codec.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(proto.Name)} }

func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	in, ok := v.(*check)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	buffer := data.MaterializeToBuffer(answers)
	defer buffer.Free()
	*in = read(buffer.ReadOnlyData())
	return nil
}

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if out, ok := v.(answer); ok {
		return mem.BufferSlice{mem.NewBuffer(out.bytes, answers)}, nil
	}
	return c.CodecV2.Marshal(v)
}
