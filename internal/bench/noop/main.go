// Command noop is the server that everything is measured against: the textbook ext_authz server of
// go-control-plane and grpc-go, with their defaults, which decides nothing and answers three headers.
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
)

type server struct {
	authv3.UnimplementedAuthorizationServer
}

func (server) Check(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
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
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(address string) error {
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
	s := grpc.NewServer()
	authv3.RegisterAuthorizationServer(s, server{})
	return s.Serve(listener)
}
