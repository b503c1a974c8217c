// Command noop is the server that everything is measured against: the textbook ext_authz server of
// go-control-plane and grpc-go, with their defaults, which decides nothing.
//
//	noop ADDRESS [ANSWER]
//
// It answers three headers, or the CheckResponse in the file ANSWER.
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

type server struct {
	authv3.UnimplementedAuthorizationServer
	answer *authv3.CheckResponse // nil: the three headers
}

func (s server) Check(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	if s.answer != nil {
		return s.answer, nil
	}
	var headers []*corev3.HeaderValueOption
	for _, name := range []string{"x-noop-key-id", "x-noop-team-id", "x-noop-user-id"} {
		headers = append(headers, &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: name, Value: "noop"}})
	}
	return &authv3.CheckResponse{
		Status:       &rpcstatus.Status{},
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{Headers: headers}},
	}, nil
}

// main listens on the address that it is given, serves its metrics beside it and prints both addresses as extauthz does.
func main() {
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(address string, answer []string) error {
	var s server
	for _, file := range answer {
		data, err := os.ReadFile(file) //nolint:gosec // the file that the benchmark names
		if err != nil {
			return err
		}
		s.answer = new(authv3.CheckResponse)
		if err := proto.Unmarshal(data, s.answer); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	network := "tcp"
	if path, unix := strings.CutPrefix(address, "unix://"); unix {
		network, address = "unix", path
	}
	listener, err := net.Listen(network, address)
	if err != nil {
		return err
	}
	metrics, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.Handler())
	go func() { _ = (&http.Server{Handler: mux, ReadHeaderTimeout: time.Second}).Serve(metrics) }()
	fmt.Printf("{\"msg\":\"listening\",\"server\":%q,\"telemetry\":%q}\n{\"msg\":\"ready\"}\n", listener.Addr().String(), metrics.Addr().String())
	g := grpc.NewServer()
	authv3.RegisterAuthorizationServer(g, s)
	return g.Serve(listener)
}
