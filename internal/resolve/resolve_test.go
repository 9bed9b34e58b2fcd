package resolve

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
)

// A zone is a name server whose answer a test changes.
type zone struct {
	mu      sync.Mutex
	answer  []string
	err     error
	mute    bool // it doesn't answer at all
	queries int
}

func (z *zone) set(answer ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.answer, z.err, z.mute = answer, nil, false
}

func (z *zone) fail(err error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.err = err
}

func (z *zone) asked() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.queries
}

func (z *zone) lookup(ctx context.Context, network, host string) ([]netip.Addr, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.queries++
	if z.mute {
		z.mu.Unlock()
		<-ctx.Done()
		z.mu.Lock()
		return nil, ctx.Err()
	}
	if z.err != nil {
		return nil, z.err
	}
	var addrs []netip.Addr
	for _, a := range z.answer {
		addrs = append(addrs, netip.MustParseAddr(a))
	}
	return addrs, nil
}

// A holder is a backend as far as its name is concerned.
type holder struct {
	mu  sync.Mutex
	got []string
}

func (h *holder) set(a netip.AddrPort) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.got = append(h.got, a.String())
}

func (h *holder) want(t *testing.T, addresses ...string) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.Equal(h.got, addresses) {
		t.Fatalf("addresses set: %q; want %q", h.got, addresses)
	}
}

// name returns a Name over z, with what it logs.
func name(z *zone, h *holder) (*Name, *bytes.Buffer) {
	log := new(bytes.Buffer)
	return &Name{
		Address: "ivr1.example.com:4573", Set: h.set, Lookup: z.lookup,
		Log: hclog.New(&hclog.LoggerOptions{Output: log}),
	}, log
}

var errServFail = errors.New("server misbehaving")

func TestAddressNeedsNoLookup(t *testing.T) {
	for _, c := range []struct{ address, want string }{
		{"10.0.0.11:4573", "10.0.0.11:4573"},
		{"[2001:db8::11]:4573", "[2001:db8::11]:4573"},
		{"[::ffff:10.0.0.11]:4573", "10.0.0.11:4573"},
		{"[fe80::1%eth0]:4573", "[fe80::1%eth0]:4573"},
	} {
		z, h := &zone{err: errServFail}, new(holder)
		n, _ := name(z, h)
		n.Address = c.address
		if err := n.First(t.Context()); err != nil {
			t.Errorf("First() of %s = %v; want nil", c.address, err)
		}
		if !n.Fixed() {
			t.Errorf("%s isn't fixed", c.address)
		}
		h.want(t, c.want)
		if z.asked() != 0 {
			t.Errorf("%s was looked up", c.address)
		}
	}
}

func TestFirstRefusesWhatIsNoAddress(t *testing.T) {
	for _, address := range []string{"ivr1", "ivr1:agi", "ivr1:65536"} {
		h := new(holder)
		n, _ := name(&zone{answer: []string{"10.0.0.1"}}, h)
		n.Address = address
		if err := n.First(t.Context()); err == nil {
			t.Errorf("First() of %s = nil; want an error", address)
		}
		h.want(t)
	}
}

func TestFirstAddressIsIPv4IfThereIsOne(t *testing.T) {
	for _, c := range []struct {
		answer []string
		want   string
	}{
		{[]string{"10.0.0.1"}, "10.0.0.1:4573"},
		{[]string{"10.0.0.2", "10.0.0.1"}, "10.0.0.2:4573"}, // the order is the name server's
		{[]string{"::1", "127.0.0.1"}, "127.0.0.1:4573"},
		{[]string{"::1", "::ffff:127.0.0.1"}, "127.0.0.1:4573"},
		{[]string{"2001:db8::2", "2001:db8::1"}, "[2001:db8::2]:4573"},
	} {
		h := new(holder)
		n, _ := name(&zone{answer: c.answer}, h)
		if err := n.First(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n.Fixed() {
			t.Error("a name is fixed")
		}
		h.want(t, c.want)
	}
}

func TestFirstIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := new(holder)
		n, _ := name(&zone{mute: true}, h)
		began := time.Now()
		if err := n.First(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("First() with a mute name server = %v; want that time is over", err)
		}
		if took := time.Since(began); took != Timeout {
			t.Errorf("First() took %v; want %v", took, Timeout)
		}
		h.want(t)
	})
}

// keep runs n.Keep for the time of f.
func keep(t *testing.T, n *Name, f func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		n.Keep(ctx)
		close(done)
	}()
	f()
	cancel()
	<-done
}

// after lets d pass, and a little more.
func after(d time.Duration) {
	time.Sleep(d + time.Millisecond)
	synctest.Wait()
}

func TestKeepFollowsTheName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z, h := &zone{answer: []string{"10.0.0.1"}}, new(holder)
		n, log := name(z, h)
		if err := n.First(t.Context()); err != nil {
			t.Fatal(err)
		}
		keep(t, n, func() {
			after(refresh)
			h.want(t, "10.0.0.1:4573") // said once, though asked twice
			z.set("10.0.0.2")
			after(refresh)
			h.want(t, "10.0.0.1:4573", "10.0.0.2:4573")
			if z.asked() != 3 {
				t.Errorf("asked %d times in %v; want 3", z.asked(), 2*refresh)
			}
		})
		if !strings.Contains(log.String(), "address has changed") || !strings.Contains(log.String(), "to=10.0.0.2") {
			t.Errorf("log: %q; want it to tell of the new address", log)
		}
	})
}

func TestKeepStaysWithAnAddressThatIsStillThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z, h := &zone{answer: []string{"10.0.0.1", "10.0.0.2"}}, new(holder)
		n, _ := name(z, h)
		if err := n.First(t.Context()); err != nil {
			t.Fatal(err)
		}
		keep(t, n, func() {
			z.set("10.0.0.2", "10.0.0.3", "::ffff:10.0.0.1") // name servers rotate
			after(refresh)
			h.want(t, "10.0.0.1:4573")
			z.set("10.0.0.3", "10.0.0.2")
			after(refresh)
			h.want(t, "10.0.0.1:4573", "10.0.0.3:4573")
		})
	})
}

func TestKeepHoldsTheLastAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z, h := &zone{answer: []string{"10.0.0.1"}}, new(holder)
		n, log := name(z, h)
		if err := n.First(t.Context()); err != nil {
			t.Fatal(err)
		}
		keep(t, n, func() {
			z.fail(errServFail)
			after(refresh + 10*retry)
			z.set() // no error, and no address
			after(10 * retry)
			h.want(t, "10.0.0.1:4573")
			z.set("10.0.0.2")
			after(retry) // sooner than refresh, since look-ups were failing
			h.want(t, "10.0.0.1:4573", "10.0.0.2:4573")
		})
		if got := strings.Count(log.String(), "[WARN]"); got != 1 {
			t.Errorf("%d warnings of one outage; want 1:\n%s", got, log)
		}
		for _, want := range []string{"look-up failed", "kept=10.0.0.1", "server misbehaving", "look-up works again"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("log lacks %q:\n%s", want, log)
			}
		}
	})
}

func TestKeepFindsANameThatWasMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z, h := &zone{err: errServFail}, new(holder)
		n, _ := name(z, h)
		if err := n.First(t.Context()); !errors.Is(err, errServFail) {
			t.Fatalf("First() = %v; want the name server's error", err)
		}
		keep(t, n, func() {
			after(retry)
			h.want(t)
			z.set("10.0.0.1")
			after(retry)
			h.want(t, "10.0.0.1:4573")
		})
	})
}

func TestKeepEndsInALookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z, h := &zone{answer: []string{"10.0.0.1"}}, new(holder)
		n, log := name(z, h)
		if err := n.First(t.Context()); err != nil {
			t.Fatal(err)
		}
		keep(t, n, func() {
			z.mu.Lock()
			z.mute = true
			z.mu.Unlock()
			after(refresh)
		})
		if log.Len() > 0 {
			t.Errorf("log at the end: %q; want nothing", log)
		}
	})
}
