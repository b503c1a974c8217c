package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// connections is how many HTTP/2 connections the load comes over, as from an Envoy with two workers.
const connections = 2

// load is what one server is asked.
type load struct {
	conns    []*grpc.ClientConn
	requests [][]byte // marshalled CheckRequests
	// once asks each request one time only, in order; otherwise they are drawn by Zipf's law.
	once bool
	next atomic.Int64
	// allowed is the verdict that every answer must have.
	allowed bool
}

func dial(address string) ([]*grpc.ClientConn, error) {
	if strings.HasPrefix(address, "/") {
		address = "unix://" + address
	}
	var conns []*grpc.ClientConn
	for range connections {
		c, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, err
		}
		conns = append(conns, c)
	}
	return conns, nil
}

// result is one burst.
type result struct {
	checks    int
	elapsed   time.Duration
	cpu       time.Duration // of the server
	mallocs   float64       // of the server, all of its goroutines; 0: unknown
	writes    int64         // system calls of the server
	latencies []time.Duration
}

// burst keeps workers requests in flight for a while.
func (l *load) burst(ctx context.Context, p *process, workers int, length time.Duration) (result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	mallocs, err := p.metric(ctx, "go_memstats_mallocs_total")
	if err != nil {
		return result{}, err
	}
	writes, err := p.writes()
	if err != nil {
		return result{}, err
	}
	before, err := p.cpu()
	if err != nil {
		return result{}, err
	}
	var r result
	var mu sync.Mutex
	var group sync.WaitGroup
	start := time.Now()
	for n := range workers {
		group.Go(func() {
			latencies, err := l.work(ctx, l.conns[n%len(l.conns)], start.Add(length))
			if err != nil {
				cancel(err)
			}
			mu.Lock()
			defer mu.Unlock()
			r.latencies = append(r.latencies, latencies...)
		})
	}
	group.Wait()
	r.elapsed, r.checks = time.Since(start), len(r.latencies)
	after, err := p.cpu()
	if err != nil {
		return result{}, err
	}
	r.cpu = after - before
	if r.writes, err = p.writes(); err != nil {
		return result{}, err
	}
	r.writes -= writes
	if mallocs > 0 {
		now, err := p.metric(ctx, "go_memstats_mallocs_total")
		if err != nil {
			return result{}, err
		}
		r.mallocs = now - mallocs
	}
	slices.Sort(r.latencies)
	return r, context.Cause(ctx)
}

// fill asks each request once.
func (l *load) fill(ctx context.Context) error {
	for _, request := range l.requests {
		answer, err := ask(ctx, l.conns[0], request)
		if err != nil {
			return err
		}
		if err := l.judge(answer); err != nil {
			return err
		}
	}
	return nil
}

func ask(ctx context.Context, conn *grpc.ClientConn, request []byte) (answer []byte, err error) {
	err = conn.Invoke(ctx, authv3.Authorization_Check_FullMethodName, &request, &answer, grpc.ForceCodecV2(rawCodec{}))
	return answer, err
}

// checkEvery is how many answers pass between two that are looked into.
const checkEvery = 64

var errDrained = errors.New("no request is left that was not asked")

func (l *load) work(ctx context.Context, conn *grpc.ClientConn, until time.Time) ([]time.Duration, error) {
	random := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	zipf := rand.NewZipf(random, 1.01, 1, uint64(len(l.requests)-1))
	var latencies []time.Duration
	for n := 0; ; n++ {
		at := int(zipf.Uint64())
		if l.once {
			if at = int(l.next.Add(1)) - 1; at >= len(l.requests) {
				return latencies, errDrained
			}
		}
		start := time.Now()
		if start.After(until) || ctx.Err() != nil {
			return latencies, nil
		}
		answer, err := ask(ctx, conn, l.requests[at])
		if err != nil {
			return latencies, err
		}
		latencies = append(latencies, time.Since(start))
		if n%checkEvery == 0 {
			if err := l.judge(answer); err != nil {
				return latencies, err
			}
		}
	}
}

// judge fails a measurement of wrong answers.
func (l *load) judge(answer []byte) error {
	var response authv3.CheckResponse
	if err := proto.Unmarshal(answer, &response); err != nil {
		return err
	}
	if (response.GetStatus().GetCode() == 0) != l.allowed {
		return fmt.Errorf("answer %v, want allowed %t", &response, l.allowed)
	}
	return nil
}

// rawCodec passes bytes through, so that the load costs as little as it can.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}
