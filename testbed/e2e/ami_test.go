package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// An ami is a connection to Asterisk's manager interface. It is safe for
// concurrent use.
type ami struct {
	conn   net.Conn
	closed chan struct{} // when reading has ended

	mu      sync.Mutex
	actions int
	replies map[string]chan message // by ActionID
	watches map[string]func(message)
}

// A message is one of the manager's: a response or an event. Of a field that
// comes twice the first counts.
type message map[string]string

// A field is one line of an action; some keys come more than once.
type field struct{ key, value string }

// dialAMI logs in as the lab's user, and waits for up to limit until Asterisk has
// booted; it gives up when gone is closed.
func dialAMI(addr string, limit time.Duration, gone <-chan struct{}) (*ami, error) {
	end := time.Now().Add(limit)
	for {
		a, err := tryAMI(addr)
		if err == nil {
			return a, nil
		}
		select {
		case <-gone:
			return nil, errors.New("it has ended")
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("manager interface: %w", err)
		}
	}
}

func tryAMI(addr string) (*ami, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	a := &ami{conn: conn, closed: make(chan struct{}),
		replies: make(map[string]chan message), watches: make(map[string]func(message))}
	in := bufio.NewReader(conn)
	if banner, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(banner, "Asterisk Call Manager") {
		conn.Close()
		return nil, fmt.Errorf("banner %q: %w", banner, err)
	}
	go a.read(in)
	if _, err := a.do("Login", field{"Username", "lab"}, field{"Secret", "lab"}); err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

// read hands every message to whom it concerns.
func (a *ami) read(in *bufio.Reader) {
	defer close(a.closed)
	for {
		m, err := readMessage(in)
		if err != nil {
			return
		}
		a.mu.Lock()
		reply, watch := a.replies[m["ActionID"]], a.watches[concerns(m)]
		switch {
		case m["Response"] != "" && m["Event"] == "":
			delete(a.replies, m["ActionID"])
		case m["Event"] == "OriginateResponse":
			reply, watch = nil, a.watches[m["ActionID"]]
		default:
			reply = nil
		}
		a.mu.Unlock()
		if reply != nil {
			reply <- m
		} else if watch != nil {
			watch(m)
		}
	}
}

// concerns returns the call that an event is about: some know the TestID, the
// others come from the channel that runs AGI().
func concerns(m message) string {
	if id := m["TestID"]; id != "" {
		return id
	}
	return strings.TrimSuffix(m["Uniqueid"], agiLeg)
}

func readMessage(in *bufio.Reader) (message, error) {
	m := make(message)
	for {
		ln, err := in.ReadString('\n')
		if err != nil {
			return nil, err
		}
		ln = strings.TrimRight(ln, "\r\n")
		if ln == "" {
			return m, nil
		}
		key, value, _ := strings.Cut(ln, ":")
		if _, twice := m[key]; !twice {
			m[key] = strings.TrimSpace(value)
		}
	}
}

// watch calls f, from the reading goroutine, with the events of the call id.
func (a *ami) watch(id string, f func(message)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.watches[id] = f
}

func (a *ami) unwatch(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.watches, id)
}

// do carries out an action and returns Asterisk's response. An action without an
// ActionID gets one.
func (a *ami) do(action string, fields ...field) (message, error) {
	a.mu.Lock()
	a.actions++
	id := fmt.Sprintf("action-%d", a.actions)
	if len(fields) > 0 && fields[0].key == "ActionID" {
		id, fields = fields[0].value, fields[1:]
	}
	reply := make(chan message, 1)
	a.replies[id] = reply
	var b strings.Builder
	fmt.Fprintf(&b, "Action: %s\r\nActionID: %s\r\n", action, id)
	for _, f := range fields {
		fmt.Fprintf(&b, "%s: %s\r\n", f.key, f.value)
	}
	b.WriteString("\r\n")
	_, err := io.WriteString(a.conn, b.String())
	a.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", action, err)
	}
	select {
	case m := <-reply:
		if m["Response"] != "Success" {
			return m, fmt.Errorf("%s: %s: %s", action, m["Response"], m["Message"])
		}
		return m, nil
	case <-a.closed:
		return nil, fmt.Errorf("%s: the manager connection has closed", action)
	case <-time.After(10 * time.Second):
		return nil, fmt.Errorf("%s: no response within 10s", action)
	}
}

func (a *ami) close() {
	a.conn.Close()
	<-a.closed
}
