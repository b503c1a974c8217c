package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// connection is one client's connection to Envoy. It is not net/http's, which costs more than all that is measured.
type connection struct {
	address string
	conn    net.Conn
	in      *bufio.Reader
}

// requestOf renders a request with these authorization headers, if any.
func requestOf(credential string) []byte {
	var text strings.Builder
	fmt.Fprintf(&text, "POST /v1/chat/completions HTTP/1.1\r\nHost: api.example.com\r\nContent-Type: application/json\r\nContent-Length: %d\r\n", len(chatBody))
	if credential != "" {
		fmt.Fprintf(&text, "Authorization: Bearer %s\r\n", credential)
	}
	return []byte(text.String() + "\r\n" + chatBody)
}

// ask sends a request and reads the answer. After an error the next call connects anew.
func (c *connection) ask(request []byte) (o observed, err error) {
	defer func() {
		if err != nil && c.conn != nil {
			_ = c.conn.Close()
			c.conn = nil
		}
	}()
	if c.conn == nil {
		if c.conn, err = net.DialTimeout("tcp", c.address, patience); err != nil {
			return o, err
		}
		c.in = bufio.NewReader(c.conn)
	}
	_ = c.conn.SetDeadline(time.Now().Add(patience)) // fails only if it is closed, which the write reports
	o.sent = time.Now()
	if _, err := c.conn.Write(request); err != nil {
		return o, err
	}
	response, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return o, err
	}
	_, err = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	o.got = time.Now()
	if err == nil && response.Close {
		_ = c.conn.Close()
		c.conn = nil
	}
	h := response.Header
	o.status, o.what, o.stale = response.StatusCode, h.Get("x-extauthz-reason"), h.Get("x-seen-stale") == "true"
	if o.status == http.StatusOK {
		o.what, o.key, o.team = h.Get("x-seen-source"), h.Get("x-seen-key"), h.Get("x-seen-team")
	}
	return o, err
}

// callers are those that are asked for.
type callers struct {
	mu      sync.RWMutex
	byClass [registering + 1][]*caller
}

func (l *callers) add(c *caller) *caller {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.byClass[c.class] = append(l.byClass[c.class], c)
	return c
}

func (l *callers) of(k class) []*caller {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.byClass[k]
}

// pick draws a caller: most of them are known, as in life.
func (l *callers) pick(r *rand.Rand) *caller {
	k := known
	switch draw := r.IntN(100); {
	case draw < 15:
		k = changing
	case draw < 25:
		k = registering
	}
	list := l.of(k)
	if len(list) == 0 {
		list = l.of(known)
	}
	return list[r.IntN(len(list))]
}

// newcomers is how many of a thousand requests are of a caller who has never been seen.
const newcomers = 4

// load sends requests until ctx ends, a number of them in a second, or as many as go if that is 0. Every answer is
// judged.
func (w *world) load(ctx context.Context, perSecond int) (wait func()) {
	var group sync.WaitGroup
	for range inFlight {
		group.Go(func() {
			c := &connection{address: strings.TrimPrefix(w.envoy.URL, "http://")}
			r := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
			var tick <-chan time.Time
			if perSecond > 0 {
				ticker := time.NewTicker(time.Duration(inFlight) * time.Second / time.Duration(perSecond))
				defer ticker.Stop()
				tick = ticker.C
			}
			for ctx.Err() == nil {
				if tick != nil {
					<-tick
				}
				who := w.callers.pick(r)
				if r.IntN(1000) < newcomers {
					who = w.newcomer()
				}
				o, err := c.ask(who.request)
				w.judge(who, o, err)
			}
			if c.conn != nil {
				_ = c.conn.Close()
			}
		})
	}
	return group.Wait
}
