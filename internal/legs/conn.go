package legs

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// A Handler is told what happens on a connection, by its loop; see package loop.
type Handler interface {
	Connected()
	Received(p []byte)
	Drained()
	Closed(err error)
	TimedOut()
}

// A Loop is what calls the handlers of its connections, one after the other.
type Loop interface {
	// Do has f run on the loop, soon and after what was given before. After an
	// error the loop has ended.
	Do(f func()) error
	// Timer makes place for a connection, and gives it a timer that calls timedOut.
	Timer(timedOut func()) (set func(at time.Duration), release func())
}

const (
	// pieceSize is how much is read at once; half of it is more than nearly all
	// commands and replies have.
	pieceSize = 4 << 10
	// window is how much a connection takes before it counts as buffered, as a
	// socket does.
	window = 16 << 10
	// farewellTime is how long what was written before a Close gets to be sent.
	farewellTime = 3 * time.Second
	// lastWords is how long a connection on which writing has failed is read from.
	lastWords = time.Second
)

// A Conn is one connection of a loop, carried by goroutines. Its methods are for
// handlers of that loop only; none blocks, and none calls a handler.
type Conn struct {
	group  *Group
	loop   Loop
	remote netip.AddrPort
	cancel func() // of dialling; nil if there is none

	// The loop's.
	handler    Handler
	setTimer   func(time.Duration)
	release    func()
	piece      []byte // received and not delivered: the reader waits
	endErr     error  // the reader's last word
	late       error  // what has come behind the peer's end
	connecting bool
	paused     bool
	ended      bool // endErr counts
	eof        bool // Closed(nil) was delivered
	lost       bool // Closed(err) was delivered
	writeEnd   bool // CloseWrite was called
	closed     bool // by Close

	taken   chan struct{} // the piece was delivered
	gone    chan struct{} // closed by Close, or by the group's
	goOnce  sync.Once
	readEnd chan struct{} // closed when nobody reads any more; nil before Serve

	mu      sync.Mutex // guards what follows
	change  sync.Cond  // of what the writer waits for, and whyCut
	stream  *Stream    // nil while connecting
	out     []byte     // to be written
	writing int        // bytes that the writer has
	busy    bool       // the writer writes, bytes or the end
	full    bool       // Drained is due
	end     bool       // nothing more is written
	leaving bool       // the connection ends when everything is written
	cut     bool       // something was dropped that was to be written
	unread  bool       // somebody has to be told that not all was read
	failed  error      // why nothing can be written
}

func newConn(g *Group, l Loop, remote netip.AddrPort) *Conn {
	c := &Conn{group: g, loop: l, remote: remote, taken: make(chan struct{}, 1), gone: make(chan struct{})}
	c.change.L = &c.mu
	c.setTimer, c.release = l.Timer(c.timedOut)
	return c
}

// Serve begins a connection from Attach: h is told what happens on it.
func (c *Conn) Serve(h Handler) {
	if c.closed {
		return
	}
	c.handler = h
	c.mu.Lock()
	c.readEnd = make(chan struct{})
	c.mu.Unlock()
	c.group.wg.Go(c.read)
}

// RemoteAddr returns the peer's address.
func (c *Conn) RemoteAddr() netip.AddrPort { return c.remote }

// LocalAddr returns this side's address; the zero AddrPort if there is no connection.
func (c *Conn) LocalAddr() netip.AddrPort {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stream == nil {
		return netip.AddrPort{}
	}
	a, ok := c.stream.LocalAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a.AddrPort().Addr().Unmap().WithZone(""), a.AddrPort().Port())
}

// Stays says that the connection can't be given to another process.
func (*Conn) Stays() {}

// Buffered returns how many bytes were written beyond what a connection takes.
func (c *Conn) Buffered() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buffered()
}

// buffered is Buffered with c.mu held.
func (c *Conn) buffered() int {
	if c.stream == nil {
		return len(c.out)
	}
	return max(0, c.writing+len(c.out)-window)
}

// Unacked returns how many bytes the peer's kernel has not acknowledged: those of
// TLS, and what is not written yet. For a moment it may still count what has just been
// acknowledged: the goroutine that wrote it has not told yet.
func (c *Conn) Unacked() (int, error) {
	c.mu.Lock()
	s, n, failed := c.stream, c.writing+len(c.out), c.failed
	c.mu.Unlock()
	if c.closed || s == nil {
		return 0, os.ErrClosed
	}
	if c.eof && !c.lost {
		c.late = cmp.Or(c.late, s.Broken())
		c.again()
	}
	sent, err := s.Unacked()
	return n + sent, cmp.Or(c.late, failed, err)
}

// Write sends p, or keeps it.
func (c *Conn) Write(p []byte) {
	if c.closed || c.writeEnd || c.lost {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed != nil {
		return
	}
	c.out = append(c.out, p...)
	c.full = c.full || c.buffered() > 0
	c.change.Signal()
}

// CloseWrite ends this side in order, after what is kept.
func (c *Conn) CloseWrite() {
	if c.closed {
		return
	}
	c.writeEnd = true
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end = true
	c.change.Signal()
}

// Pause stops Received and Closed until Resume.
func (c *Conn) Pause() { c.paused = true }

// Resume ends a Pause.
func (c *Conn) Resume() {
	if c.paused && !c.closed {
		c.paused = false
		c.again()
	}
}

// QuickAck does nothing: the goroutine that reads has read, and answers come in TLS
// records, one write each.
func (*Conn) QuickAck() {}

// SetTimer has TimedOut called once at that time of the loop; 0 stops it.
func (c *Conn) SetTimer(at time.Duration) { c.setTimer(at) }

// Close gives the connection up. What is buffered is dropped, and what was taken is
// sent. The peer is told in order, unless something from it is unread.
func (c *Conn) Close() {
	if c.closed {
		return
	}
	c.closed = true
	c.handler = nil
	c.release()
	if c.cancel != nil {
		c.cancel()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.buffered(); n > 0 {
		c.out = c.out[:max(0, len(c.out)-n)]
		c.cut = true
	}
	c.leaving = true
	if c.stream != nil {
		_ = c.stream.SetWriteDeadline(time.Now().Add(farewellTime)) // fails only on what is closed
	}
	c.goOnce.Do(func() { close(c.gone) })
	c.change.Signal()
}

// shut ends the connection without a word. For any goroutine.
func (c *Conn) shut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cancel != nil {
		c.cancel()
	}
	c.leaving, c.cut, c.out = true, true, nil
	if c.stream != nil {
		c.stream.Abandon()
	}
	c.goOnce.Do(func() { close(c.gone) })
	c.change.Signal()
}

func (c *Conn) isLeaving() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leaving
}

// again has what is there be told, after what happens now.
func (c *Conn) again() { _ = c.loop.Do(c.tell) } // a loop that has ended tells nothing

// tell delivers what may be delivered: a piece, the end, and what came behind it.
func (c *Conn) tell() {
	if c.deaf() {
		return
	}
	if p := c.piece; p != nil {
		c.piece = nil
		c.setUnread(false)
		c.handler.Received(p)
		c.taken <- struct{}{}
		if c.deaf() {
			return
		}
	}
	if c.ended && !c.eof && !c.lost {
		if c.endErr != nil {
			c.lose(c.endErr)
			return
		}
		c.eof = true
		c.handler.Closed(nil)
	}
	if c.eof && c.late != nil && !c.lost && !c.deaf() {
		c.lose(c.late)
	}
}

// deaf reports whether nothing may be delivered now.
func (c *Conn) deaf() bool { return c.closed || c.paused }

// lose tells that the connection is gone.
func (c *Conn) lose(err error) {
	c.lost = true
	c.mu.Lock()
	c.failed, c.out = err, nil
	c.mu.Unlock()
	c.handler.Closed(err)
}

func (c *Conn) timedOut() { c.handler.TimedOut() }

func (c *Conn) setUnread(unread bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unread = unread
}

// dial makes the connection, and goes on as its reader.
func (c *Conn) dial(ctx context.Context, dial func(context.Context) (*Stream, error)) {
	s, err := dial(ctx)
	c.mu.Lock()
	left := c.leaving
	if err == nil && !left {
		c.stream = s
		c.readEnd = make(chan struct{})
	}
	c.mu.Unlock()
	switch {
	case err != nil:
		c.group.remove(c)
		_ = c.loop.Do(func() { c.finished(err) })
	case left:
		c.group.remove(c)
		s.Close()
	default:
		_ = c.loop.Do(c.connected)
		c.group.wg.Go(c.write)
		c.read()
	}
}

func (c *Conn) connected() {
	if c.closed {
		return
	}
	c.connecting = false
	c.handler.Connected()
}

// read carries what the peer sends to the loop, one piece at a time.
func (c *Conn) read() {
	defer close(c.readEnd)
	buf := make([]byte, pieceSize)
	var err error
	for err == nil {
		var n int
		if n, err = c.stream.Read(buf); n > 0 && !c.deliver(buf[:n]) {
			return
		}
	}
	if err == io.EOF {
		err = nil
	}
	if errors.Is(err, ErrCut) {
		err = c.whyCut()
	}
	if c.loop.Do(func() { c.finished(err) }) != nil || err != nil {
		return
	}
	if err := c.stream.AwaitBroken(); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		_ = c.loop.Do(func() { c.broke(err) })
	}
}

// whyCut returns how the connection has ended, whose peer has not said so by TLS. A
// write that was under way may have taken a reset from the socket, so that reading
// told of an end: it is ended, for nobody reads what is written any more, and tells.
func (c *Conn) whyCut() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.leaving { // else the writer has its time already
		_ = c.stream.SetWriteDeadline(time.Unix(1, 0)) // long past; fails only on what is closed
	}
	for c.busy && !c.leaving {
		c.change.Wait()
	}
	if _, ok := c.failed.(syscall.Errno); ok {
		return c.failed
	}
	return ErrCut
}

// deliver gives the loop a piece and waits until it is taken. It reports whether to
// go on.
func (c *Conn) deliver(p []byte) bool {
	c.setUnread(true)
	if c.loop.Do(func() { c.piece = p; c.tell() }) != nil {
		return false
	}
	select {
	case <-c.taken:
		return true
	case <-c.gone:
		return false
	}
}

// finished is told that the reader has come to the end: err is nil for an orderly one.
func (c *Conn) finished(err error) {
	if c.closed {
		return
	}
	c.mu.Lock()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = cmp.Or(c.failed, err) // which has set the deadline
	} else if err == nil {
		c.late = c.failed
	}
	c.mu.Unlock()
	c.ended, c.endErr = true, cleaned(err)
	c.tell()
}

// broke is told what has come behind the peer's end.
func (c *Conn) broke(err error) {
	c.late = cmp.Or(c.late, err)
	if c.ended {
		c.tell()
	}
}

// write carries what the loop writes to the peer, and then ends the connection.
func (c *Conn) write() {
	defer c.group.remove(c)
	ended := false
	for {
		p, end, leave := c.next(ended)
		if len(p) > 0 {
			_, err := c.stream.Write(p)
			c.wrote(err)
			continue
		}
		if end && !ended {
			ended = true
			c.wrote(c.stream.CloseWrite())
		}
		if leave {
			break
		}
	}
	c.leave()
}

// next waits for something to do: bytes to write, and behind them the end of this
// side, unless it has ended, or of the connection.
func (c *Conn) next(ended bool) (p []byte, end, leave bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.out) == 0 && !c.leaving && (ended || !c.end) {
		c.change.Wait()
	}
	n := min(len(c.out), window)
	p, c.out = c.out[:n], c.out[n:]
	if len(c.out) == 0 {
		c.out = nil
	}
	c.writing = n
	end = c.end && !c.cut
	c.busy = n > 0 || end && !ended
	return p, end, c.leaving
}

// wrote is told how a write went.
func (c *Conn) wrote(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writing, c.busy = 0, false
	c.change.Broadcast()
	if err != nil && c.failed == nil {
		err = cleaned(err)
		c.failed, c.out = err, nil
		if !c.leaving {
			_ = c.stream.SetReadDeadline(time.Now().Add(lastWords)) // fails only on what is closed
			_ = c.loop.Do(func() { c.broke(err) })
		}
	}
	if c.full && c.buffered() == 0 {
		c.full = false
		_ = c.loop.Do(c.drained)
	}
}

// drained is told that nothing is buffered any more. Where that is because of a
// failure, Closed tells that, unless it has to wait.
func (c *Conn) drained() {
	c.mu.Lock()
	failed, buffered := c.failed, c.buffered()
	c.mu.Unlock()
	if !c.closed && !c.lost && buffered == 0 && (failed == nil || c.paused) {
		c.handler.Drained()
	}
}

// leave ends the connection when all is written.
func (c *Conn) leave() {
	c.mu.Lock()
	cut, failed, reading := c.cut, c.failed, c.readEnd
	c.mu.Unlock()
	if cut || failed != nil {
		c.stream.Abandon()
	}
	if reading != nil {
		_ = c.stream.SetReadDeadline(time.Unix(1, 0)) // long past
		<-reading
	}
	c.mu.Lock()
	unread := c.unread
	c.mu.Unlock()
	c.stream.finish(unread)
}
