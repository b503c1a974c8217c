package authz

import (
	"context"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
)

// ServiceName is the full name of the service, as health checks ask for it.
const ServiceName = "envoy.service.auth.v3.Authorization"

// GRPCOptions bound what a peer can make the gRPC server do. All durations and numbers are required.
// Each has a test that goes beyond it, in bounds_test.go.
type GRPCOptions struct {
	MaxMessageBytes      int
	MaxConcurrentStreams uint32        // of one connection
	MaxConnectionAge     time.Duration // ±10 %, so that connections do not all end at once
	Reflection           bool
	Credentials          credentials.TransportCredentials // nil: plain text
}

const (
	connectionTimeout  = 10 * time.Second // to finish the handshakes of TLS and HTTP/2
	connectionIdle     = 15 * time.Minute
	connectionAgeGrace = 30 * time.Second
	keepaliveTime      = 30 * time.Second
	minClientPing      = 5 * time.Second
	maxHeaderListBytes = 64 << 10
	// streamWindow and connectionWindow are how much a peer may send that was not read yet, in bytes. Of windows that adapt,
	// a connection's would become 16 MiB, and each check that comes alone is answered with a ping, to measure by.
	streamWindow     = 256 << 10
	connectionWindow = 1 << 20
	// streamWorkers is how many goroutines wait for checks. Their stacks have grown once and for all; a goroutine for each
	// check, which gRPC makes when they are all busy, would grow its own, at a quarter of the check's cost.
	streamWorkers = 64
)

// NewGRPCServer returns a gRPC server with the authorization, health and, if asked for, reflection
// services. Checks are read and written by package wire.
func NewGRPCServer(s *Server, checks *health.Server, o GRPCOptions) *grpc.Server {
	g := grpc.NewServer(
		grpc.MaxRecvMsgSize(o.MaxMessageBytes),
		grpc.MaxConcurrentStreams(o.MaxConcurrentStreams),
		grpc.MaxHeaderListSize(maxHeaderListBytes),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connectionWindow),
		grpc.ConnectionTimeout(connectionTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle:     connectionIdle,
			MaxConnectionAge:      o.MaxConnectionAge, // grpc-go adds the jitter
			MaxConnectionAgeGrace: connectionAgeGrace,
			Time:                  keepaliveTime,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minClientPing, PermitWithoutStream: true}),
		grpc.InTapHandle(stamp),
		grpc.UnaryInterceptor(recoverUnary),
		grpc.ForceServerCodecV2(bytesCodec{encoding.GetCodecV2(proto.Name)}),
		grpc.Creds(o.Credentials),
		grpc.NumStreamWorkers(streamWorkers),
	)
	g.RegisterService(serviceDesc(), s)
	healthv1.RegisterHealthServer(g, checks)
	if o.Reflection {
		reflection.Register(g)
	}
	return g
}

// serviceDesc is the generated description of the service, with a handler that takes bytes and gives bytes.
func serviceDesc() *grpc.ServiceDesc {
	desc := authv3.Authorization_ServiceDesc
	desc.Methods = []grpc.MethodDesc{{MethodName: "Check", Handler: handleCheck}}
	return &desc
}

// message is a message in protobuf's wire format, which bytesCodec leaves as it is.
type message struct{ bytes []byte }

// handleCheck answers a check. The interceptor, which would turn a panic into a gRPC error, is passed by: CheckBytes turns
// its own panics into denials.
//
//nolint:revive // the order of the parameters is that of grpc.MethodDesc
func handleCheck(server any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	if answer := server.(*Server).admit(ctx); answer != nil {
		return &message{answer}, nil
	}
	var in message
	if err := decode(&in); err != nil {
		return nil, err
	}
	return &message{server.(*Server).CheckBytes(ctx, in.bytes)}, nil
}

// bytesCodec is gRPC's codec for protobuf, but for a message.
type bytesCodec struct{ encoding.CodecV2 }

func (c bytesCodec) Unmarshal(data mem.BufferSlice, into any) error {
	if in, ok := into.(*message); ok {
		in.bytes = data.Materialize() // a copy: gRPC uses its buffers again
		return nil
	}
	return c.CodecV2.Unmarshal(data, into)
}

func (c bytesCodec) Marshal(from any) (mem.BufferSlice, error) {
	if out, ok := from.(*message); ok {
		return mem.BufferSlice{mem.SliceBuffer(out.bytes)}, nil
	}
	return c.CodecV2.Marshal(from)
}

// recoverUnary is the last resort of the services beside Check, which turns its own panics into
// denials.
func recoverUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (out any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = status.Error(codes.Internal, "internal error")
		}
	}()
	return handler(ctx, req)
}
