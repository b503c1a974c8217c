package transport

import (
	"net"
	"runtime"
)

// gathering has its connections write late. gRPC sends what is ready as soon as that is 1,000 bytes, which a single answer to
// a check is: other answers, which are ready an instant later, would each take a write of its own, and a write costs as much
// as a decision.
type gathering struct{ net.Listener }

func (l gathering) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return gatheringConn{conn}, nil
}

type gatheringConn struct{ net.Conn }

// Write lets all that can run do so first: what they have to send then goes with the next write.
func (c gatheringConn) Write(data []byte) (int, error) {
	runtime.Gosched()
	return c.Conn.Write(data)
}
