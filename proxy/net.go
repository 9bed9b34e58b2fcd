package proxy

import (
	"net/netip"
	"time"
)

// A Handler is told what happens on a connection, see [Conn].
type Handler interface {
	Connected()
	Received(p []byte)
	Drained()
	Closed(err error)
	TimedOut()
}

// A Conn is one connection of a session. No method blocks, and none calls the
// connection's handler: what a call brings about is told later. After Close
// nothing more is told.
type Conn interface {
	// Write sends p, or keeps a copy of what can't be sent now. A failure is
	// told by Closed, after everything that the peer sent before it.
	Write(p []byte)
	// Buffered returns how many bytes are kept; Drained tells when they are gone: sent,
	// or, while Pause holds Closed back, dropped with the connection.
	Buffered() int
	// CloseWrite ends this side in order, after what is kept.
	CloseWrite()
	// Pause stops Received and Closed until Resume.
	Pause()
	Resume()
	// QuickAck has what was received acknowledged now rather than soon.
	QuickAck()
	// Unacked returns how many written bytes the peer has not acknowledged.
	// After the peer's orderly end, 0 says that it had received everything. The
	// error is that of a connection that is lost, as by a reset which Closed has
	// still to tell.
	Unacked() (int, error)
	// SetTimer has TimedOut called at that time of the host, once; 0 stops it.
	SetTimer(at time.Duration)
	RemoteAddr() netip.AddrPort
	// LocalAddr returns this side's address, the zero AddrPort if there is none.
	LocalAddr() netip.AddrPort
	// Close gives the connection up, with what is kept.
	Close()
}

// A Host is what a session stands on: one loop, as far as sessions see it.
type Host interface {
	// Connect begins a connection, whose handler is told whether it was made.
	Connect(addr netip.AddrPort, h Handler) Conn
	// Now is the time since some fixed moment; it never goes back.
	Now() time.Duration
	// Do has f run on the loop. It may be called from anywhere. After an error
	// the loop has ended, and f doesn't run.
	Do(f func()) error
}

// frontSide is a session as its connection to Asterisk sees it.
type frontSide Session

func (f *frontSide) Connected()        {}
func (f *frontSide) Received(p []byte) { (*Session)(f).FromAsterisk(p) }
func (f *frontSide) Drained()          { (*Session)(f).AsteriskDrained() }
func (f *frontSide) Closed(err error)  { (*Session)(f).AsteriskClosed(err) }
func (f *frontSide) TimedOut()         { (*Session)(f).TimedOut() }

// backSide is a session as its connection to a backend sees it.
type backSide Session

func (b *backSide) Connected()        { (*Session)(b).BackendConnected() }
func (b *backSide) Received(p []byte) { (*Session)(b).FromBackend(p) }
func (b *backSide) Drained()          { (*Session)(b).BackendDrained() }
func (b *backSide) Closed(err error)  { (*Session)(b).BackendClosed(err) }
func (b *backSide) TimedOut()         {}
